import hashlib
import json
import os
import signal
import textwrap
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from horus_celery import wiring
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event, Status
from horus_celery.processes.tree import (
    children_by_file,
    children_by_parent,
    descendants,
)
from horus_celery.record import Change
from horus_celery.statements import dsse
from horus_celery.store.base import Stream

pytestmark = pytest.mark.integration

#: A script that starts a process which leaves its group, its session and its parent.
DETACHED = textwrap.dedent("""
    import os, signal, sys, time
    def linger():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    for detach in (lambda: None, os.setsid):
        if os.fork() == 0:
            detach()
            if os.fork() == 0:
                linger()
            linger()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
""")


@pytest.fixture(scope="module", autouse=True)
def worker(deployment):
    return deployment.start_worker("-Q", "python,system", "-c", "2")


@pytest.fixture(autouse=True)
def nothing_is_left(deployment):
    yield
    deployment.until(lambda: not deployment.processes_below_workers())
    deployment.until(lambda: not deployment.rooms())


def receipt_of(record):
    return json.loads(dsse.read(record.receipt, dsse.RECEIPT).body)


def pool_of(worker):
    """Return the children of a worker's pool, which are what it is, only forked."""
    main = psutil.Process(worker.pid)
    found = set()
    for child in main.children():
        with suppress(psutil.Error):
            if child.cmdline() == main.cmdline():
                found.add(child.pid)
    return found


# --- what a script sees --------------------------------------------------------


def test_a_python_script_runs_and_its_output_is_the_result(deployment):
    record = deployment.run("print('hello')")
    assert (record.status, record.result) == (Status.COMPLETED, "hello\n")
    assert receipt_of(record)["sandbox"] == "plain"


def test_a_shell_script_runs_in_bash(deployment):
    record = deployment.run("echo $((6*7)) ${BASH_VERSION:+bash}", executor="system")
    assert record.result == "42 bash\n"


def test_arguments_arrive_as_they_are(deployment):
    args = ["a b", "", "*", "$(id)", "'\"\\", "ü\n", "-c", "--"]
    record = deployment.run("import sys; print(ascii(sys.argv[1:]))", args=args)
    assert record.result == f"{args!a}\n"


def test_arguments_of_a_shell_script_arrive_as_they_are(deployment):
    args = ["a b", "", "*", "$(id)"]
    record = deployment.run('printf "<%s>" "$@"', executor="system", args=args)
    assert record.result == "<a b><><*><$(id)>"


def test_the_environment_is_the_jobs_and_nothing_of_the_runners(deployment):
    record = deployment.run(
        "import os, json; print(json.dumps(dict(os.environ)))",
        env_vars={"GREETING": "hällo", "LANG": "de_DE.UTF-8"},
    )
    seen = json.loads(record.result)
    home = seen["HOME"]
    assert seen == {
        "GREETING": "hällo",
        "LANG": "de_DE.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "HORUS_INPUTS": seen["HORUS_INPUTS"],
        "HORUS_RESULT": seen["HORUS_RESULT"],
        "HORUS_JOB_ID": record.summary.id,
        "HORUS_CONTEXT_ID": "default",
        # Python's own, because the locale is not installed or is C.
        **{key: seen[key] for key in ("LC_CTYPE",) if key in seen},
    }


def test_the_working_directory_is_private_and_is_home_and_tmpdir(deployment):
    record = deployment.run(
        textwrap.dedent("""
            import os, tempfile
            cwd = os.getcwd()
            assert cwd == os.environ["HOME"] == os.environ["TMPDIR"], cwd
            assert tempfile.gettempdir() == cwd
            assert os.listdir() == []
            with open("file", "w") as file:
                file.write("x")
            print(oct(os.stat(cwd).st_mode), oct(os.stat("file").st_mode))
        """)
    )
    assert record.result == "0o40700 0o100600\n"


def test_the_directory_of_inputs_is_empty_and_not_for_writing(deployment):
    script = 'ls -A "$HORUS_INPUTS" | wc -l; stat -c %a "$HORUS_INPUTS"'
    assert deployment.run(script, executor="system").result.split() == ["0", "500"]


def test_standard_input_is_empty(deployment):
    assert deployment.run("import sys; print(sys.stdin.read())").result == "\n"


def test_no_descriptor_of_the_runner_is_open(deployment):
    script = "ls -l /proc/$$/fd | grep -c -e socket -e redis -e journal"
    assert deployment.run(script, executor="system").result == "0\n"


def test_nobody_of_the_same_user_reads_the_runners_memory(deployment, worker):
    script = textwrap.dedent("""
        import os
        parent = os.getppid()
        print(open(f"/proc/{parent}/comm").read().strip() != "")
        print(os.stat(f"/proc/{parent}/environ").st_uid)
    """)
    # What cannot be dumped belongs to root under /proc.
    assert deployment.run(script).result == "True\n0\n"
    assert os.stat(f"/proc/{worker.pid}/environ").st_uid == 0  # noqa: PTH116


def test_an_interrupt_reaches_a_script(deployment):
    script = textwrap.dedent("""
        import os, signal
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
    """)
    record = deployment.run(script)
    assert (record.result, record.exit_code) == ("True\n", 130)


# --- how it ends ---------------------------------------------------------------


def test_an_exit_code_is_passed_on(deployment):
    record = deployment.run("import sys; print('out'); sys.exit(3)")
    assert (record.status, record.reason) == (Status.FAILED, "exit_code")
    assert (record.exit_code, record.result) == (3, "out\n")


def test_a_script_that_a_signal_ended_has_128_and_its_number(deployment):
    record = deployment.run("kill -SEGV $$", executor="system")
    assert (record.reason, record.exit_code) == ("exit_code", 128 + signal.SIGSEGV)


def test_arguments_that_the_system_does_not_take_fail_the_job_with_a_word(deployment):
    record = deployment.run(":", executor="system", args=["x" * 200_000])
    assert (record.status, record.reason) == (Status.FAILED, "executor")
    [line] = deployment.lines(record)
    assert line.text == (
        "horus: the script could not be started: Argument list too long"
    )


def test_what_a_script_leaves_in_the_background_ends_with_it(deployment):
    record = deployment.run("sleep 600 & setsid sleep 600 & echo ok", executor="system")
    assert record.result == "ok\n"
    assert deployment.processes_below_workers() == set()


def test_a_timeout_ends_the_whole_tree_in_time(deployment):
    record = deployment.run(
        f"{DETACHED}\ntime.sleep(600)", timeout=timedelta(seconds=1)
    )
    assert (record.status, record.reason) == (Status.FAILED, "timeout")
    ran = record.ended_at - record.started_at
    assert timedelta(seconds=1) <= ran < timedelta(seconds=1.5)
    assert deployment.processes_below_workers() == set()


def test_a_timeout_ends_a_fork_bomb(deployment):
    bomb = textwrap.dedent("""
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                while True:
                    if os.fork() != 0:
                        os._exit(0)
                    os.setsid()
        time.sleep(600)
    """)
    record = deployment.run(bomb, timeout=timedelta(seconds=1))
    assert record.reason == "timeout"


def test_a_stop_asks_the_script_first(deployment):
    record = deployment.submit(
        textwrap.dedent("""
            import signal, sys, time
            def end(*_):
                print("asked", flush=True)
                sys.exit(7)
            signal.signal(signal.SIGTERM, end)
            print("ready", flush=True)
            time.sleep(600)
        """)
    )
    deployment.until_it_says(record, "ready")
    asked_at = time.monotonic()
    deployment.supervisor.stop(record.summary.id)
    over = deployment.over(record)
    assert over.status is Status.STOPPED
    assert (over.exit_code, over.result) == (7, "ready\nasked\n")
    assert receipt_of(over)["status"] == "stopped"
    assert time.monotonic() - asked_at < 2


def test_a_stop_ends_what_does_not_listen_after_five_seconds(deployment):
    record = deployment.submit(f"{DETACHED}\ntime.sleep(600)")
    deployment.until_it_says(record, "ready")
    asked_at = time.monotonic()
    deployment.supervisor.stop(record.summary.id)
    assert deployment.over(record).status is Status.STOPPED
    assert 4.5 < time.monotonic() - asked_at < 7


# --- what it says --------------------------------------------------------------


def test_lines_come_while_the_script_runs(deployment, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    record = deployment.submit(f"print('first'); open({str(gate)!r}).read()")
    deployment.until_it_says(record, "first")
    assert deployment.supervisor.status(record.summary.id).status is Status.RUNNING
    gate.write_text("")
    assert deployment.over(record).result == "first\n"


def test_both_streams_are_the_log_and_only_one_the_result(deployment):
    script = "echo out; echo err >&2; printf rest"
    record = deployment.run(script, executor="system")
    said = {(line.stream, line.text) for line in deployment.lines(record)}
    assert said == {
        (Stream.STDOUT, "out"),
        (Stream.STDERR, "err"),
        (Stream.STDOUT, "rest"),
    }
    assert record.result == "out\nrest"
    assert receipt_of(record)["stderr"] == {
        "sha256": hashlib.sha256(b"err\n").hexdigest(),
        "bytes": 4,
        "truncated": False,
    }


def test_output_that_is_no_utf_8_is_shown_and_hashed_as_it_is(deployment):
    raw = b"\xff\xfe\x00\x1b[31m\n"
    record = deployment.run(f"import sys; sys.stdout.buffer.write({raw!r})")
    assert record.result == raw.decode("utf-8", "replace")
    assert receipt_of(record)["stdout"]["sha256"] == hashlib.sha256(raw).hexdigest()
    assert deployment.lines(record)[0].text == "\ufffd\ufffd\x00\x1b[31m"


def test_a_line_that_is_too_long_comes_in_pieces(deployment):
    record = deployment.run("print('x' * 40_000)")
    assert record.result == "x" * 40_000 + "\n"
    assert [len(line.text) for line in deployment.lines(record)] == [
        16_384,
        16_384,
        40_000 - 2 * 16_384,
    ]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_beyond_the_limit_is_dropped_and_said_to_be(deployment, stream):
    script = f"import sys; sys.{stream}.write('0123456789abcdef' * 1_000_000)"
    record = deployment.run(script, output_kb=1)
    kept = b"0123456789abcdef" * 64
    assert record.status is Status.COMPLETED
    assert receipt_of(record)[stream] == {
        "sha256": hashlib.sha256(kept).hexdigest(),
        "bytes": 1024,
        "truncated": True,
    }
    assert sum(len(line.text) for line in deployment.lines(record)) == 1024


def test_a_flood_of_output_does_not_outlast_the_timeout(deployment):
    record = deployment.run(
        "yes", executor="system", timeout=timedelta(seconds=1), output_kb=64
    )
    assert record.reason == "timeout"
    assert record.ended_at - record.started_at < timedelta(seconds=1.5)
    assert receipt_of(record)["stdout"]["bytes"] == 64 * 1024


# --- the result file -----------------------------------------------------------


def test_the_result_file_is_the_result(deployment):
    script = 'echo logged; printf "the result" > "$HORUS_RESULT"'
    record = deployment.run(script, executor="system")
    assert record.result == "the result"
    digest = hashlib.sha256(b"the result").hexdigest()
    assert receipt_of(record)["result"] == {"sha256": digest, "bytes": 10}


def test_an_empty_result_file_is_an_empty_result(deployment):
    script = 'echo logged; : > "$HORUS_RESULT"'
    assert deployment.run(script, executor="system").result == ""


@pytest.mark.parametrize(
    "script",
    [
        'ln -s /etc/passwd "$HORUS_RESULT"',
        'mkfifo "$HORUS_RESULT"',
        'mkdir "$HORUS_RESULT"',
        'truncate -s 100M "$HORUS_RESULT"',
        'head -c 1025 /dev/zero > "$HORUS_RESULT"',
        "mknod $HORUS_RESULT c 1 5 || mkfifo $HORUS_RESULT",
    ],
)
def test_what_is_no_plain_file_within_the_limit_is_no_result(deployment, script):
    record = deployment.run(script, executor="system", output_kb=1)
    assert (record.status, record.reason) == (Status.FAILED, "executor")
    assert deployment.lines(record)[-1].text.startswith("horus: the result is ")


@pytest.mark.parametrize(
    "script",
    [
        "mkdir -p a/b && touch a/b/c && chmod 000 a/b a .. . ../out",
        'rm -rf "$HOME/.."',
        'for i in $(seq 400); do mkdir "deep deep deep"; cd "deep deep deep"; done',
        "touch $'new\\nline' -- '-rf' $'\\xff'; mkdir '..  '; ln -s / root",
        'ln -s "$HOME" "$HOME/../../link$$"; rm "$HOME/../../link$$"',
    ],
    ids=["permissions", "removed", "deep", "names", "links"],
)
def test_a_room_is_removed_whatever_the_script_made_of_it(deployment, script):
    deployment.run(script, executor="system")
    deployment.until(lambda: not deployment.rooms())


# --- a worker's own ends -------------------------------------------------------


def test_a_job_whose_pool_child_is_killed_leaves_nothing_running(deployment):
    record = deployment.submit(
        f"{DETACHED}\nprint('script', os.getpid(), flush=True)\ntime.sleep(600)"
    )
    script = deployment.until_it_says(record, "script").split()[1]
    before = deployment.processes_below_workers()
    assert len(before) == 5
    os.kill(deployment.pool_of(int(script)), signal.SIGKILL)
    deployment.until(lambda: not any(map(psutil.pid_exists, before)))
    assert deployment.run("print('on it goes')").status is Status.COMPLETED
    deployment.supervisor.stop(record.summary.id)


def test_a_pool_child_that_is_killed_is_replaced_at_once(worker):
    # By the pipe alone, every second one came up to five seconds late.
    for _ in range(8):
        before = pool_of(worker)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        ticks = threading.Event()
        while len(pool_of(worker) - {victim}) < 2:
            assert time.monotonic() - began < 1
            ticks.wait(0.01)


def test_a_job_that_was_given_up_is_ended_and_may_start_again(deployment, tmp_path):
    been = tmp_path / "been"
    record = deployment.submit(
        textwrap.dedent(f"""
            import pathlib, time
            been = pathlib.Path({str(been)!r})
            if been.exists():
                print("second", flush=True)
            else:
                been.touch()
                print("first", flush=True)
                time.sleep(600)
        """),
        attempts=2,
    )
    deployment.until_it_says(record, "first")
    given_up = Change(event=Event.REQUEUED, at=datetime.now(UTC), if_attempt=1)
    deployment.store.apply(record.summary.digest, given_up)
    deployment.until(lambda: not deployment.processes_below_workers())
    journal = Journal(deployment.state.journal)
    deployment.until(lambda: not journal.undelivered("python_runner_1"))
    journal.close()
    wiring.make_dispatcher(deployment.settings).ring(record.summary.id, "python", 4)
    over = deployment.over(record)
    assert (over.status, over.result) == (Status.COMPLETED, "second\n")
    assert receipt_of(over)["attempt"] == 2


ROOM_IS_A_LINK = textwrap.dedent("""
    import os, shutil, sys, time
    room = os.path.dirname(os.environ["HOME"])
    print(f"script {os.getpid()}", flush=True)
    shutil.rmtree(room)
    os.symlink(sys.argv[1], room)
    print("linked", flush=True)
""")


@pytest.fixture
def victim(tmp_path):
    """A directory that no job may have emptied, or changed in its mode."""
    path = tmp_path / "victim"
    path.mkdir(mode=0o755)
    (path / "file").write_text("keep")
    yield path
    assert (path / "file").read_text() == "keep"
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_rooms_place_leads_to_no_other_directory(deployment, victim):
    record = deployment.run(ROOM_IS_A_LINK, args=[str(victim)])
    assert record.status is Status.COMPLETED
    deployment.until(lambda: not deployment.rooms())


def test_nor_does_it_when_the_pool_child_is_killed(deployment, victim):
    wait = f"{ROOM_IS_A_LINK}\ntime.sleep(600)"
    record = deployment.submit(wait, args=[str(victim)])
    script = deployment.until_it_says(record, "script").split()[1]
    deployment.until_it_says(record, "linked")
    os.kill(deployment.pool_of(int(script)), signal.SIGKILL)
    deployment.until(lambda: not deployment.rooms())
    deployment.supervisor.stop(record.summary.id)


def test_a_link_in_the_results_place_is_no_way_to_another_file(deployment, victim):
    script = 'out=$(dirname "$HORUS_RESULT"); rmdir "$out"; ln -s "$1" "$out"'
    (victim / "result").write_text("secret")
    record = deployment.run(script, executor="system", args=[str(victim)])
    assert (record.status, record.reason) == (Status.FAILED, "executor")
    assert record.result == ""


#: The processes above a script: the zygote, the pool's child.
ABOVE = """
above() { sed 's/.*) . //; s/ .*//' /proc/$1/stat; }
zygote=$PPID
pool=$(above $zygote)
"""


@pytest.mark.parametrize("which", ["zygote", "pool"])
def test_a_script_that_stops_what_is_above_it_goes_on(deployment, which):
    script = f"{ABOVE}\nkill -STOP ${which}; echo still here"
    record = deployment.run(script, executor="system")
    assert (record.status, record.result) == (Status.COMPLETED, "still here\n")
    assert deployment.run("print(1)").result == "1\n"


def test_a_script_that_stops_its_pool_child_for_ever_loses_it(deployment, tmp_path):
    # Into a file: what it prints is read by the very process that it stops.
    told = tmp_path / "pid"
    script = f"{ABOVE}\necho $pool > {told}; while :; do kill -STOP $pool; done"
    record = deployment.submit(script, executor="system")
    deployment.until(lambda: told.exists() and told.read_text().endswith("\n"))
    pool_child = int(told.read_text())
    deployment.until(lambda: not psutil.pid_exists(pool_child))
    assert deployment.run("print('on it goes')").status is Status.COMPLETED
    deployment.supervisor.stop(record.summary.id)


def test_children_are_found_with_and_without_the_kernels_list():
    me = os.getpid()
    assert sorted(children_by_file(me)) == sorted(children_by_parent()(me))
    assert set(children_by_file(me)) <= set(descendants())


def test_a_process_that_is_gone_has_no_children():
    assert children_by_file(2**22 + 1) == []
