"""How a run is ended from outside, and what goes on beside it."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from tests.unit.rhai.engine import PATIENCE, horus_rhai, run

#: How late a run may end, in seconds; more than asked for on an idle machine.
LATE = 0.05

ENDLESS = [
    "loop { }",
    "while true { 1 + 1; }",
    "sleep(60)",
    "sleep(60.5)",
    "let x = 0; for i in 0..9223372036854775807 { x = i }",
    "fn f() { loop { } } f()",
    "[1].map(|x| { loop { } })",
    "loop { try { throw 1 } catch { } }",
    "try { loop { } } catch { } 5",
    "try { sleep(60) } catch { } 5",
    "try { [1].map(|x| { loop { } }) } catch { } 5",
    "let a = []; a.pad(50000, 0); loop { a.sort(|x, y| x - y) }",
    'let s = ""; s.pad(1000000, \'x\'); loop { s.contains("yy") }',
    "let a = []; a.pad(40000, 0); loop { let b = a; b.push(1); }",
]


class Alarm(Exception):
    """Raised by the handler of a signal."""


@contextmanager
def alarm(after):
    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("script", ENDLESS)
def test_a_script_ends_when_its_time_is_over(script):
    begin = time.monotonic()
    with pytest.raises(horus_rhai.RhaiTerminated, match="out of time") as caught:
        run(script, timeout=0.05)
    assert caught.value.reason == "timeout"
    assert time.monotonic() - begin < 0.05 + LATE * 10


def test_within_50_milliseconds():
    late = []
    for _ in range(5):
        begin = time.monotonic()
        with pytest.raises(horus_rhai.RhaiTerminated):
            run("loop { }", timeout=0.02)
        late.append(time.monotonic() - begin - 0.02)
    assert min(late) < LATE


@pytest.mark.parametrize("script", ENDLESS)
def test_a_script_ends_when_another_thread_cancels_it(script):
    token = horus_rhai.CancelToken()
    assert not token.cancelled
    timer = threading.Timer(0.02, token.cancel)
    timer.start()
    with pytest.raises(horus_rhai.RhaiTerminated, match="cancelled") as caught:
        run(script, cancel=token)
    timer.join()
    assert token.cancelled
    assert caught.value.reason == "cancelled"


def test_a_script_that_was_cancelled_before_does_not_begin():
    token = horus_rhai.CancelToken()
    token.cancel()
    heard: list[str] = []
    with pytest.raises(horus_rhai.RhaiTerminated):
        run("print(1)", cancel=token, print=heard.append)
    assert heard == []


def test_a_cancel_wakes_who_sleeps_at_once():
    token = horus_rhai.CancelToken()
    begin = time.monotonic()
    with pytest.raises(horus_rhai.RhaiTerminated):
        run("cancel(); sleep(60)", {"cancel": token.cancel}, cancel=token)
    assert time.monotonic() - begin < PATIENCE / 2


@pytest.mark.parametrize("script", ENDLESS)
def test_handlers_of_signals_run_while_a_script_does(script):
    with alarm(0.02), pytest.raises(Alarm):
        run(script)


def test_an_interrupt_ends_a_script():
    def interrupt():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("try { interrupt() } catch { } loop { }", {"interrupt": interrupt})


@pytest.mark.parametrize("timeout", [-1.0, math.nan])
def test_a_time_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="number of seconds from 0 on"):
        run("1", timeout=timeout)


def test_an_endless_time_is_none():
    assert run("1", timeout=math.inf) == 1
    assert run("1", timeout=1e300) == 1


def test_a_script_sleeps_as_long_as_it_says():
    begin = time.monotonic()
    assert run("sleep(0.05); sleep(0); sleep(-1); sleep(0.0); 1") == 1
    assert 0.05 <= time.monotonic() - begin < PATIENCE / 2


def test_time_in_a_function_counts():
    pause = threading.Event()
    with pytest.raises(horus_rhai.RhaiTerminated):
        run("loop { f() }", {"f": lambda: pause.wait(0.03)}, timeout=0.05)


def test_an_outer_run_ends_once_the_inner_one_has():
    inner = horus_rhai.Engine({})
    endless = inner.compile("loop { }")

    def f():
        with pytest.raises(horus_rhai.RhaiTerminated):
            inner.run(endless, timeout=0.05)

    with pytest.raises(horus_rhai.RhaiTerminated):
        run("f(); loop { }", {"f": f}, timeout=0.02)


def test_other_threads_of_python_go_on_meanwhile():
    token = horus_rhai.CancelToken()
    turns = 0

    def work():
        nonlocal turns
        for _ in range(10_000):
            turns += 1
        token.cancel()

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(horus_rhai.RhaiTerminated):
        run("loop { }", cancel=token)
    thread.join()
    assert turns == 10_000


def test_threads_share_an_engine_and_a_script_but_not_their_runs():
    engine = horus_rhai.Engine({"f": lambda x: x})
    script = engine.compile("let s = 0; for i in 0..n { s += f(i) } print(s); s")
    results: dict[int, tuple[object, list[str]]] = {}

    def work(n):
        heard: list[str] = []
        results[n] = (engine.run(script, {"n": n}, print=heard.append), heard)

    threads = [threading.Thread(target=work, args=(n * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums = {n * 100: sum(range(n * 100)) for n in range(8)}
    assert results == {n: (total, [str(total)]) for n, total in sums.items()}


def test_one_token_ends_many_runs_and_leaves_others():
    engine = horus_rhai.Engine({})
    endless, short = engine.compile("loop { }"), engine.compile("1")
    token = horus_rhai.CancelToken()
    ended = []

    def work():
        with pytest.raises(horus_rhai.RhaiTerminated) as caught:
            engine.run(endless, cancel=token, timeout=PATIENCE)
        ended.append(caught.value.reason)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    token.cancel()
    for thread in threads:
        thread.join()
    assert ended == ["cancelled"] * 3
    assert engine.run(short) == 1


def test_a_process_that_was_forked_runs_scripts_too():
    code = """
import os, horus_rhai
engine = horus_rhai.Engine({"f": lambda x: x + 1})
script = engine.compile("let x = f(1); loop { x = f(x); if x == n { break } } x")
assert engine.run(script, {"n": 100}) == 100
child = os.fork()
result = engine.run(script, {"n": 200}, timeout=5.0)
if child == 0:
    os._exit(0 if result == 200 else 1)
print(os.waitpid(child, 0)[1], result)
"""
    done = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "200"]
