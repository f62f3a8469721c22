"""What every process manager promises, shown with small real programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery.errors import ConfigurationError, ConflictError, UnavailableError
from horus_celery.journal import process_mark
from horus_celery.processes import tmux, tree, window
from horus_celery.processes.base import ManagedProcess
from horus_celery.processes.programs import tied
from horus_celery.processes.simple import SupervisordManager
from horus_celery.processes.supervisord import Program, Supervisord, configuration
from horus_celery.processes.tmux import TmuxManager

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0  # seconds
WORD = "by which it knows us"
PATIENT = timedelta(seconds=30)
IMPATIENT = timedelta(seconds=1)

#: Finishes what it does when it is asked for its end. It says that it is ready at once,
#: newline and all: who is killed between the two has its word run into the next one.
ORDERLY = """\
import signal, os
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, f"ready {os.getpid()}\\n".encode())
signal.sigwait([signal.SIGTERM])
print("finished", flush=True)
"""
#: Does not come to its end before somebody says so.
SLOW = ORDERLY.replace(
    'print("finished"',
    """\
import time
print("asked", flush=True)
while not os.path.exists(os.path.dirname(__file__) + "/go"):
    time.sleep(0.01)
print("finished\"""",
)
#: Has a child, and neither of them comes to an end.
STUBBORN = """\
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"child {child.pid}", flush=True)
time.sleep(600)
"""
#: Its child has a session of its own, as scripts of a runner have.
SPREADS = STUBBORN.replace(
    '"import time; time.sleep(600)"]',
    '"import time; time.sleep(600)"], start_new_session=True',
)
#: A shell around a program, which ends at once when it is asked to; and what it left.
WRAPS = """\
import os
around = "setsid sleep 600 & echo child $! $$; sleep 600; true"
os.execv("/bin/sh", ["sh", "-c", around])
"""
FAILS = "print('no luck', flush=True); raise SystemExit(3)"
TALKS = """\
import time
for number in range(300):
    print("line", number)
print("\\033[31mred\\033[0m\\tand\\a", flush=True)
time.sleep(600)
"""
PROGRAMS = {
    "orderly": (ORDERLY, PATIENT),
    "slow": (SLOW, PATIENT),
    "stubborn": (STUBBORN, IMPATIENT),
    "spreads": (SPREADS, IMPATIENT),
    "wraps": (WRAPS, PATIENT),
    "fails": (FAILS, PATIENT),
    "talks": (TALKS, IMPATIENT),
    "two.of@a:kind": (ORDERLY, PATIENT),
}
#: Our supervisord, in more of a hurry than usual.
DAEMON = """\
import sys
from datetime import timedelta
from horus_celery.processes import watched
from horus_celery.processes.policy import Policy
from supervisor import supervisord
watched.put_in_place(Policy(first=timedelta(milliseconds=1)))
supervisord.main(["-c", sys.argv[1]])
"""


def command_of(name, folder):
    script = folder / f"{name}.py"
    script.write_text(PROGRAMS[name][0])
    return tied([sys.executable, str(script)])


@contextmanager
def by_supervisord(folder):
    for name in ("run", "logs"):
        (folder / name).mkdir()
    processes = {
        name: ManagedProcess(program=f"p{number}", stop_timeout=patience)
        for number, (name, (_, patience)) in enumerate(PROGRAMS.items())
    }
    told = [
        Program(
            name=processes[name].program,
            command=command_of(name, folder),
            stop_timeout=patience,
        )
        for name, (_, patience) in PROGRAMS.items()
    ]
    text = configuration(told, redis=None, password=WORD)
    (folder / "run" / "supervisord.conf").write_text(text)
    daemon = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", DAEMON, "run/supervisord.conf"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    control = Supervisord(folder / "run" / "sup.sock", lambda: WORD)
    manager = SupervisordManager(control, folder / "logs", processes)
    try:
        until(lambda: answers(manager))
        yield manager
    finally:
        daemon.terminate()
        # Each question wakes it; else it sees the signal up to a second later.
        until(lambda: answers(manager) is None and daemon.poll() is not None)


def answers(manager):
    with suppress(UnavailableError):
        return manager.statuses()["orderly"]
    return None


@contextmanager
def by_tmux(folder, *, owner=None):
    processes = {
        name: ManagedProcess(program=name, stop_timeout=patience)
        for name, (_, patience) in PROGRAMS.items()
    }
    for name, (_, patience) in PROGRAMS.items():
        window.write(
            folder / f"{name}.json",
            window.WindowProgram(
                command=command_of(name, folder),
                environment={"PATH": os.environ["PATH"]},
                folder=folder,
                stop_timeout=patience,
                owner=process_mark(owner),
            ),
        )
    manager = TmuxManager("hero", folder, processes, socket=server_name(folder))
    try:
        yield manager
    finally:
        manager.end()
        # A server that has ended leaves its socket.
        place = Path(os.environ.get("TMUX_TMPDIR", "/tmp"))  # noqa: S108 - tmux's own
        (place / f"tmux-{os.getuid()}" / server_name(folder)).unlink(missing_ok=True)


def server_name(folder):
    return f"horus-test-{folder.name}"


@pytest.fixture
def folder():
    # The path of a unix socket in it has to be short.
    made = Path(tempfile.mkdtemp(prefix="horus-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=[by_supervisord, by_tmux])
def manager(request, folder):
    with request.param(folder) as made:
        yield made


@pytest.fixture
def windows(folder):
    with by_tmux(folder) as made:
        yield made


def until(holds):
    ticks = threading.Event()
    deadline = time.monotonic() + DEADLINE
    while not (found := holds()):
        assert time.monotonic() < deadline
        ticks.wait(0.02)
    return found


def said(manager, name, word):
    """Wait until a program has said a word, and return the latest line with it."""

    def find():
        lines = manager.logs(name, lines=50)
        return [line for line in lines if line.startswith(word)][-1:]

    return until(find)[0]


def pid_of(line):
    return int(line.split()[1])


def is_there(pid):
    return Path(f"/proc/{pid}").exists()


# --- every process manager ----------------------------------------------------------


def test_what_nobody_has_started_is_stopped_and_said_nothing(manager):
    assert manager.statuses()["orderly"] == "stopped"
    assert manager.logs("orderly", lines=10) == ()


def test_one_that_was_started_runs_until_it_is_stopped(manager):
    manager.start("orderly")
    line = said(manager, "orderly", "ready")
    assert manager.statuses()["orderly"] == "running"
    manager.stop("orderly")
    assert manager.statuses()["orderly"] == "stopped"
    assert not is_there(pid_of(line))


def test_one_that_is_stopped_may_finish(manager):
    manager.start("orderly")
    said(manager, "orderly", "ready")
    manager.stop("orderly")
    assert said(manager, "orderly", "finished")


def test_starting_what_runs_changes_nothing(manager):
    manager.start("orderly")
    first = said(manager, "orderly", "ready")
    manager.start("orderly")
    assert said(manager, "orderly", "ready") == first
    assert is_there(pid_of(first))


def test_of_several_starts_at_once_one_counts(manager):
    threads = [
        threading.Thread(target=manager.start, args=["orderly"]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said(manager, "orderly", "ready")
    assert len(manager.logs("orderly", lines=10)) == 1


def test_stopping_what_does_not_run_changes_nothing(manager):
    manager.stop("orderly")
    assert manager.statuses()["orderly"] == "stopped"


def test_one_that_was_stopped_can_be_started_again(manager):
    manager.start("orderly")
    first = said(manager, "orderly", "ready")
    manager.stop("orderly")
    manager.start("orderly")
    until(lambda: said(manager, "orderly", "ready") != first)
    assert manager.statuses()["orderly"] == "running"


def test_who_stops_what_is_being_stopped_waits_for_its_end_as_well(manager, folder):
    manager.start("slow")
    pid = pid_of(said(manager, "slow", "ready"))
    first, second = (
        threading.Thread(target=manager.stop, args=["slow"]) for _ in range(2)
    )
    first.start()
    said(manager, "slow", "asked")
    second.start()
    second.join(0.2)
    assert second.is_alive()
    (folder / "go").touch()
    second.join()
    assert not is_there(pid)
    assert manager.statuses()["slow"] == "stopped"
    first.join()


def test_what_is_being_stopped_is_not_said_to_be_started(manager, folder):
    manager.start("slow")
    said(manager, "slow", "ready")
    stopping = threading.Thread(target=manager.stop, args=["slow"])
    stopping.start()
    said(manager, "slow", "asked")
    with pytest.raises(ConflictError, match="is being stopped"):
        manager.start("slow")
    (folder / "go").touch()
    stopping.join()
    manager.start("slow")
    said(manager, "slow", "ready")
    assert manager.statuses()["slow"] == "running"


@pytest.mark.parametrize("name", ["stubborn", "spreads"])
def test_one_that_does_not_end_in_time_is_killed_with_all_below_it(manager, name):
    manager.start(name)
    child = pid_of(said(manager, name, "child"))
    manager.stop(name)
    assert manager.statuses()[name] == "stopped"
    until(lambda: not tree.is_running(child))


def test_what_one_that_was_stopped_has_left_behind_is_killed(manager):
    manager.start("wraps")
    shell, below = wrapped(manager)
    manager.stop("wraps")
    assert manager.statuses()["wraps"] == "stopped"
    until(lambda: not any(map(tree.is_running, [shell, *below])))


def test_what_one_that_died_has_left_behind_is_not_in_the_way_of_the_next(manager):
    manager.start("wraps")
    shell, (detached, program) = wrapped(manager)
    os.kill(shell, 9)
    until(lambda: not tree.is_running(program))
    # Only one that hides may be left, until the end of all.
    with suppress(ProcessLookupError):
        os.kill(detached, 9)


def wrapped(manager):
    """Return the shell that stands around a program, and what stands below it."""
    _, detached, shell = said(manager, "wraps", "child").split()
    below = until(lambda: two(tree.children_by_file(int(shell))))
    return int(shell), sorted(below, key=lambda pid: pid != int(detached))


def two(pids):
    return pids if len(pids) > 1 else None


def test_one_that_was_given_up_is_crashed_until_somebody_starts_it(manager):
    manager.start("fails")
    until(lambda: manager.statuses()["fails"] == "crashed")
    assert said(manager, "fails", "no luck")
    manager.stop("fails")
    assert manager.statuses()["fails"] == "crashed"
    manager.start("fails")
    until(lambda: manager.statuses()["fails"] == "crashed")
    assert said(manager, "fails", "no luck")


def test_one_does_not_care_for_another(manager):
    manager.start("fails")
    manager.start("orderly")
    said(manager, "orderly", "ready")
    until(lambda: manager.statuses()["fails"] == "crashed")
    assert manager.statuses()["orderly"] == "running"
    assert manager.statuses()["talks"] == "stopped"


def test_one_look_tells_how_each_of_them_does(manager):
    manager.start("fails")
    manager.start("orderly")
    said(manager, "orderly", "ready")
    until(lambda: manager.statuses()["fails"] == "crashed")
    found = manager.statuses()
    assert set(found) == set(PROGRAMS)
    shown = (found["fails"], found["orderly"], found["talks"])
    assert shown == ("crashed", "running", "stopped")


def test_logs_are_the_last_lines_in_text_that_can_be_shown(manager):
    manager.start("talks")
    assert said(manager, "talks", "red").replace("\ufffd", "").split() == ["red", "and"]
    found = manager.logs("talks", lines=100)
    assert found[:-1] == tuple(f"line {number}" for number in range(201, 300))
    assert len(manager.logs("talks", lines=3)) == 3
    assert manager.logs("talks", lines=0) == ()


def test_a_name_with_marks_in_it_is_a_name(manager):
    manager.start("two.of@a:kind")
    said(manager, "two.of@a:kind", "ready")
    manager.stop("two.of@a:kind")
    assert manager.statuses()["two.of@a:kind"] == "stopped"


@pytest.mark.parametrize("method", ["start", "stop"])
def test_a_name_that_it_was_not_told_of_is_none(manager, method):
    with pytest.raises(KeyError):
        getattr(manager, method)("fail")


# --- simple ---------------------------------------------------------------------------


def test_without_its_supervisord_nothing_is_claimed(folder):
    control = Supervisord(folder / "sup.sock", lambda: WORD)
    processes = {"a": ManagedProcess(program="a", stop_timeout=PATIENT)}
    manager = SupervisordManager(control, folder, processes)
    for method in (manager.start, manager.stop):
        with pytest.raises(UnavailableError):
            method("a")
    with pytest.raises(UnavailableError):
        manager.statuses()


def test_supervisord_obeys_nobody_without_the_password(folder):
    with by_supervisord(folder) as manager:
        manager.start("orderly")
        until(lambda: manager.statuses()["orderly"] == "running")
        stranger = Supervisord(folder / "run" / "sup.sock", lambda: "another")
        with pytest.raises(UnavailableError):
            stranger.shut_down()
        assert manager.statuses()["orderly"] == "running"


def test_one_that_waits_for_its_next_start_starts_when_it_is_told(folder):
    with by_supervisord(folder) as manager:
        manager.start("orderly")
        first = said(manager, "orderly", "ready")
        os.kill(pid_of(first), 9)
        second = until(lambda: changed(manager, first))
        assert manager.statuses()["orderly"] == "running"
        assert is_there(pid_of(second))


def changed(manager, first):
    line = said(manager, "orderly", "ready")
    return None if line == first else line


# --- tmux -----------------------------------------------------------------------------


def tmux_does(folder, *words):
    done = subprocess.run(  # noqa: S603 - our own argv
        ["tmux", "-L", server_name(folder), *words],  # noqa: S607 - whichever there is
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def server_of(folder):
    return int(tmux_does(folder, "display-message", "-p", "#{pid}"))


def test_a_window_has_the_name_of_its_process_in_the_session_that_was_named(
    windows, folder
):
    windows.start("orderly")
    windows.start("two.of@a:kind")
    told = tmux_does(folder, "list-windows", "-t", "=hero", "-F", "#{window_name}")
    assert told.splitlines() == ["orderly", "two.of@a:kind"]


def test_a_session_that_is_there_is_used_and_left_as_it_was(windows, folder):
    tmux_does(folder, "new-session", "-d", "-s", "hero", "-n", "mine", "sleep", "600")
    windows.start("orderly")
    windows.end()
    told = tmux_does(folder, "list-windows", "-a", "-F", "#{window_name}")
    assert told.splitlines() == ["mine"]
    tmux_does(folder, "kill-server")


def test_when_the_last_window_is_closed_nothing_is_left(windows, folder):
    windows.start("orderly")
    windows.start("stubborn")
    windows.start("fails")
    child = pid_of(said(windows, "stubborn", "child"))
    orderly = pid_of(said(windows, "orderly", "ready"))
    server = server_of(folder)
    began = time.monotonic()
    windows.begin_to_end()
    windows.end()
    assert time.monotonic() - began < 4.5
    assert not is_there(orderly)
    assert not is_there(child)
    until(lambda: not is_there(server))


def test_windows_of_another_deployment_are_left_alone(windows, folder):
    windows.start("orderly")
    other = folder / "other"
    other.mkdir()
    processes = {"orderly": ManagedProcess(program="orderly", stop_timeout=PATIENT)}
    stranger = TmuxManager("hero", other, processes, socket=server_name(folder))
    assert stranger.statuses()["orderly"] == "stopped"
    stranger.end()
    assert windows.statuses()["orderly"] == "running"


def test_what_runs_in_a_window_ends_with_its_deployment(folder):
    with (
        subprocess.Popen(["sleep", "600"]) as deployment,  # noqa: S607 - whichever there is
        by_tmux(folder, owner=deployment.pid) as manager,
    ):
        manager.start("orderly")
        pid = pid_of(said(manager, "orderly", "ready"))
        server = server_of(folder)
        deployment.kill()
        deployment.wait()
        until(lambda: not manager.logs("orderly", lines=1))
        assert not is_there(pid)
        until(lambda: not is_there(server))
        manager.start("orderly")
        assert said(manager, "orderly", "its deployment has ended")


@pytest.mark.parametrize("name", ["orderly", "stubborn"])
def test_who_closes_a_window_ends_what_runs_in_it(windows, folder, name):
    windows.start(name)
    line = until(lambda: windows.logs(name, lines=1))[0]
    tmux_does(folder, "kill-session", "-t", "=hero")
    until(lambda: not is_there(pid_of(line)))
    assert windows.statuses()[name] == "stopped"


def test_ctrl_c_in_a_window_is_for_the_program(windows, folder):
    windows.start("talks")
    said(windows, "talks", "red")
    tmux_does(folder, "send-keys", "-t", "=hero:", "C-c")
    until(lambda: windows.statuses()["talks"] == "crashed")
    assert said(windows, "talks", "KeyboardInterrupt")


def test_nothing_of_the_environment_stands_on_a_command_line(folder, monkeypatch):
    secret = "an0ther-secret-that-nobody-guesses"  # noqa: S105 - opens nothing
    monkeypatch.setenv("HORUS_REDIS_URL", secret)
    with by_tmux(folder) as manager:
        path = folder / "orderly.json"
        told = window.read(path)
        environment = {**told.environment, "HORUS_REDIS_URL": secret}
        window.write(
            path,
            window.WindowProgram(
                command=told.command,
                environment=environment,
                folder=told.folder,
                stop_timeout=told.stop_timeout,
                owner=told.owner,
            ),
        )
        assert path.stat().st_mode & 0o077 == 0
        manager.start("orderly")
        pid = pid_of(said(manager, "orderly", "ready"))
        assert secret.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        server = server_of(folder)
        for each in (server, *tree.descendants(server)):
            assert secret.encode() not in Path(f"/proc/{each}/cmdline").read_bytes()
        # What else the user opens there does not inherit it.
        assert secret not in tmux_does(folder, "show-environment", "-g")


def test_without_tmux_it_is_said_how_to_get_it(windows, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="apt-get install tmux"):
        windows.start("orderly")
    with pytest.raises(ConfigurationError, match="apt-get install tmux"):
        tmux.require_tmux()
    assert windows.statuses()["orderly"] == "stopped"
