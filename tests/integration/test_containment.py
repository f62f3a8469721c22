"""What a script cannot do: section by section, tried by scripts of a real runner."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from horus_celery import kernel
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Limits
from horus_celery.statements.receipt import Receipt
from workers import sandbox, seccomp
from workers.containment import BWRAP, LANDLOCK, NAMESPACES, PLAIN

LEVELS = ("namespaces", "namespaces of a plain user", "bwrap", "landlock", "plain")
APART = LEVELS[:3]
#: Until everything of a job is gone after its end.
GONE = 2.0  # seconds


@pytest.fixture(scope="module")
def runners(deployment_at):
    """A runner at each level, started when it is first asked for."""
    started = {}

    def at(level):
        if level not in started:
            deployment = deployment_at(level)
            words = ("-Q", "python,system", "-c2")
            deployment.start_worker(*words, before=deployment.before)
            started[level] = deployment
        return started[level]

    return at


@pytest.fixture(params=LEVELS)
def runner(request, runners):
    return runners(request.param)


@pytest.fixture
def everywhere(runners):
    """The runners of all levels that there are here, for what only waits."""
    found = []
    for level in LEVELS:
        with suppress(pytest.skip.Exception):
            found.append(runners(level))
    return found


@pytest.fixture(params=APART)
def apart(request, runners):
    deployment = runners(request.param)
    assert deployment.run("pass").reason is None
    expected = BWRAP if request.param == "bwrap" else NAMESPACES
    if receipt_of(deployment.run("pass")).sandbox != expected:
        pytest.skip("this machine has no namespaces for this user")
    return deployment


def receipt_of(record):
    return Receipt.from_wire(
        canonical.parse(dsse.read(record.receipt, dsse.RECEIPT).body)
    )


def limits(**chosen):
    usual = {"memory_mb": 256, "cpu_s": 30, "procs": 32, "output_kb": 1024}
    return Limits.from_wire({**usual, **chosen})


def _owner_of(path):
    found = path.stat()
    return found.st_uid, found.st_gid


def told(deployment, code, **facts):
    """Run a script that prints JSON, and return what it says."""
    record = deployment.run(textwrap.dedent(code), **facts)
    assert record.status is Status.COMPLETED, (record.reason, deployment.lines(record))
    return json.loads(record.result)


TRY = """
import json, os
def tried(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__
"""


# --- what it is, at every level ----------------------------------------------------


def test_the_level_stands_in_the_receipt(runners):
    level = receipt_of(runners("plain").run("pass")).sandbox
    assert level == PLAIN
    assert receipt_of(runners("namespaces").run("pass")).sandbox == NAMESPACES
    assert receipt_of(runners("bwrap").run("pass")).sandbox == BWRAP


def test_a_script_is_what_python_would_run(runner):
    said = told(
        runner,
        """
        import json, sys, os, __main__
        print(json.dumps({
            "argv": sys.argv[1:], "name": __name__, "main": __main__.__file__,
            "isolated": sys.flags.isolated, "stdin": sys.stdin.read(),
            "file": sys.argv[0] == __file__, "umask": os.umask(0),
            "session": os.getsid(0) in (os.getpid(), 1), "cwd": os.getcwd(),
            "home": os.environ["HOME"], "tmp": os.environ["TMPDIR"],
            "ours": [one for one in sys.modules if one[:5] in ("worke", "horus")],
            "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
            "own": os.access("/proc/self/environ", os.R_OK),
        }))
        """,
        args=["a", "b c", "ü"],
    )
    assert said.pop("main").endswith("/script")
    assert said.pop("cwd") == said["home"] == said["tmp"]
    assert said == {
        "argv": ["a", "b c", "ü"],
        "name": "__main__",
        "isolated": 1,
        "stdin": "",
        "file": True,
        "umask": 0o077,
        "session": True,
        "home": said["home"],
        "tmp": said["tmp"],
        "ours": [],
        "fds": [0, 1, 2],
        "own": True,
    }


@pytest.mark.parametrize(
    ("code", "exit_code", "error"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('over')", 1, "over\n"),
        ("import os; os._exit(9)", 9, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
        ("import atexit; atexit.register(print, 'bye'); 1/0", 1, "ZeroDivisionError"),
        ("def f(:", 1, "SyntaxError"),
        ("import threading as t; t.Thread(target=print, args=['x']).start()", 0, ""),
    ],
)
def test_a_python_script_ends_as_it_would_by_itself(runner, code, exit_code, error):
    record = runner.run(code)
    assert record.exit_code == exit_code
    lines = [line.text for line in runner.lines(record) if line.stream == "stderr"]
    assert error.strip() in "\n".join(lines)
    assert "zygote" not in "\n".join(lines)


def test_a_traceback_shows_the_line_of_the_script_and_none_of_ours(runner):
    record = runner.run("def f():\n    raise ValueError('no')\nf()\n")
    lines = [line.text for line in runner.lines(record)]
    assert lines[0] == "Traceback (most recent call last):"
    assert [one.strip() for one in lines if "File" not in one][1:] == [
        "f()",
        "raise ValueError('no')",
        "ValueError: no",
    ]
    assert "script" in lines[1]


def test_nothing_stays_in_the_zygote_from_one_script_to_the_next(runner):
    first = runner.run("import os, builtins; os.environ['X'] = '1'; builtins.x = 1")
    assert first.status is Status.COMPLETED
    said = told(
        runner,
        "import json, os, builtins\n"
        "print(json.dumps([os.environ.get('X'), hasattr(builtins, 'x')]))",
    )
    assert said == [None, False]


def test_scripts_gain_no_privileges(runner):
    said = told(
        runner,
        """
        import json
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(json.dumps([lines["NoNewPrivs"].strip()]))
        """,
    )
    assert said == ["1"]


def test_a_process_has_no_more_than_so_many_files_open(runner):
    said = told(
        runner,
        """
        import json, os, resource
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            strerror = error.strerror
        print(json.dumps([len(held) < 1024, strerror]))
        """,
    )
    assert said == [True, "Too many open files"]


# --- limits ------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["python", "system"])
def test_who_uses_more_memory_fails_with_that_reason(runner, executor):
    eat = "x = [bytes(1 << 20) + b'x' * (1 << 20) for _ in range(4000)]"
    payload = eat if executor == "python" else f'python3 -c "{eat}" & wait'
    began = time.monotonic()
    record = runner.run(payload, executor=executor, limits=limits(memory_mb=64))
    assert (record.status, record.reason) == (Status.FAILED, "memory")
    assert time.monotonic() - began < 5


def test_memory_counts_over_all_processes(runner):
    record = runner.run(
        """
import os, time
for _ in range(4):
    if os.fork() == 0:
        x = os.urandom(40 << 20)
        time.sleep(60)
time.sleep(60)
""",
        limits=limits(memory_mb=100),
    )
    assert (record.status, record.reason) == (Status.FAILED, "memory")


def test_memory_that_processes_share_counts_once(runner):
    record = runner.run(
        """
import os, time
x = os.urandom(60 << 20)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
for _ in range(4):
    os.wait()
""",
        limits=limits(memory_mb=128),
    )
    assert record.status is Status.COMPLETED, record.reason


@pytest.mark.parametrize("executor", ["python", "system"])
def test_who_uses_more_processor_time_fails_with_that_reason(runner, executor):
    payload = "while True: pass" if executor == "python" else "while :; do :; done"
    record = runner.run(payload, executor=executor, limits=limits(cpu_s=1))
    assert (record.status, record.reason) == (Status.FAILED, "cpu")


def test_processor_time_counts_over_all_processes(runner):
    record = runner.run(
        """
import os, time
while True:
    if os.fork() == 0:
        end = time.process_time() + 0.3
        while time.process_time() < end: pass
        os._exit(0)
    os.wait()
""",
        limits=limits(cpu_s=1),
    )
    assert (record.status, record.reason) == (Status.FAILED, "cpu")


@pytest.mark.parametrize("level", ["namespaces", "plain"])
@pytest.mark.parametrize(("used", "reason"), [(0.7, "cpu"), (0.0, "exit_code")])
def test_what_the_kernel_ended_is_told_from_what_a_script_did(
    runners, level, used, reason
):
    # On a busy machine its limit comes before a whole second by its account.
    record = runners(level).run(
        "import os, signal, time\n"
        f"while time.process_time() < {used}: pass\n"
        "os.kill(os.getpid(), signal.SIGXCPU)",
        limits=limits(cpu_s=1),
    )
    assert (record.reason, record.exit_code) == (reason, 128 + 24)


def test_there_are_no_more_processes_than_the_job_may_have(runners):
    # As a user of root's making: root's own processes the kernel never counts.
    said = told(
        runners("namespaces"),
        """
        import json, os, time
        count = 0
        try:
            while count < 200:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                count += 1
        except OSError as error:
            print(json.dumps([count, type(error).__name__]))
        """,
        limits=limits(procs=20),
    )
    assert said == [19, "BlockingIOError"]


def test_a_fork_bomb_ends_and_leaves_nothing(runners):
    # Where the kernel counts processes, and nowhere else: it would have the machine.
    apart = runners("namespaces")
    began = time.monotonic()
    record = apart.run(
        ":(){ :|:& };: ; sleep 3",
        executor="system",
        limits=limits(procs=32),
        timeout=timedelta(seconds=2),
    )
    assert record.status is Status.FAILED
    assert time.monotonic() - began < 2 + 5
    assert_nothing_is_left(apart)


TREES = {
    "setsid": "setsid sleep 300 & sleep 300",
    "a double fork": "(setsid sh -c 'sleep 300 & sleep 300' &) ; sleep 300",
    "an ignored TERM": "trap '' TERM; sleep 300; sleep 300",
    "a stopped child": "sleep 300 & kill -STOP $!; sleep 300",
    "a script that stops itself": "kill -STOP $$; sleep 300",
}


@pytest.mark.parametrize("tree", TREES)
def test_a_timeout_ends_the_whole_tree_in_time(everywhere, tree):
    facts = {"executor": "system", "timeout": timedelta(seconds=1)}
    records = [runner.submit(TREES[tree], **facts) for runner in everywhere]
    for runner, record in zip(everywhere, records, strict=True):
        over = runner.over(record)
        assert (over.status, over.reason) == (Status.FAILED, "timeout")
        receipt = receipt_of(over)
        assert receipt.started_at is not None
        late = receipt.ended_at - receipt.started_at - timedelta(seconds=1)
        assert timedelta(0) <= late < timedelta(seconds=0.5), receipt.sandbox
        assert_nothing_is_left(runner)


def test_without_inputs_their_directory_is_empty_and_not_for_writing(runner):
    script = 'ls -A "$HORUS_INPUTS" | wc -l; stat -c "%a %U" "$HORUS_INPUTS"; id -un'
    count, mode, owner, user = runner.run(script, executor="system").result.split()
    assert (count, mode) == ("0", "500")
    assert owner == user


def test_what_a_script_leaves_running_ends_with_it(runner):
    payload = "import os\nfor _ in range(3):\n if os.fork() == 0:\n  os.setsid()\n  %s"
    record = runner.run(payload % "import time; time.sleep(300)")
    assert record.status is Status.COMPLETED
    assert_nothing_is_left(runner)


def test_a_script_that_kills_its_zygote_ends_alone_and_the_next_one_runs(runners):
    plain = runners("plain")
    record = plain.run(
        "import os, signal\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "import time; time.sleep(300)"
    )
    assert (record.status, record.reason) == (Status.FAILED, "worker_lost")
    assert plain.run("print(1)").result == "1\n"
    assert_nothing_is_left(plain)


def test_a_job_whose_zygote_is_killed_starts_again_within_its_attempts(everywhere):
    payload = "print('here', flush=True)\nimport time; time.sleep(300)"
    records = [runner.submit(payload, attempts=2) for runner in everywhere]
    for start in (1, 2):
        for runner, record in zip(everywhere, records, strict=True):
            kill_zygote_of(runner, record, start)
    for runner, record in zip(everywhere, records, strict=True):
        over = runner.over(record)
        assert (over.status, over.reason) == (Status.FAILED, "worker_lost")
        assert_nothing_is_left(runner)


def kill_zygote_of(runner, record, start):
    """Kill the zygote below which a job runs, as soon as it has begun that often."""
    said = ["here"] * start
    runner.until(lambda: [line.text for line in runner.lines(record)] == said)
    (zygote,) = runner.busy_zygotes()
    os.kill(zygote, signal.SIGKILL)


def test_no_script_limits_those_after_it(apart):
    code = TRY + (
        "import resource\n"
        "names = ('RLIMIT_NOFILE', 'RLIMIT_FSIZE', 'RLIMIT_NPROC')\n"
        "each = [getattr(resource, name) for name in names]\n"
        "print(json.dumps([tried(lambda: resource.prlimit(1, one, (9, 9)))"
        " for one in each]))"
    )
    slots = 2
    for _ in range(slots):
        told(apart, code)  # with bubblewrap the first process is this job's alone
    for _ in range(slots + 1):
        assert apart.run("open('file', 'w').write('x' * 99)").reason is None


def test_no_script_slows_those_after_it_down(apart):
    code = TRY + (
        "tried(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))\n"
        "tried(lambda: os.setpriority(os.PRIO_USER, 0, 19))\n"
        "tried(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))\n"
        "tried(lambda: os.sched_setaffinity(1, {min(os.sched_getaffinity(0))}))\n"
        "print('null')"
    )
    look = TRY + (
        "print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0),"
        " os.sched_getscheduler(0), len(os.sched_getaffinity(0))]))"
    )
    before = told(apart, look)
    slots = 2
    for _ in range(slots):
        told(apart, code)
    assert [told(apart, look) for _ in range(slots + 1)] == [before] * (slots + 1)


def test_the_kernel_ends_scripts_first_where_it_has_no_more_memory(runner):
    assert runner.run("print(open('/proc/self/oom_score_adj').read())").result == (
        "1000\n\n"
    )


def test_a_process_that_waits_for_its_script_is_replaced_when_it_is_killed(runner):
    assert runner.run("pass").reason is None
    # One of each child of the pool, at least.
    runner.until(lambda: len(runner.unborn()) >= 2)
    waiting = set(runner.unborn())
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    runner.until(lambda: len(set(runner.unborn()) - waiting) >= len(waiting))
    assert runner.run("print(1)").result == "1\n"
    assert_nothing_is_left(runner)


def test_a_script_that_is_stopped_is_asked_first(runner):
    record = runner.submit(
        "trap 'echo asked; exit 3' TERM; echo on; sleep 300 & wait", executor="system"
    )
    runner.until_it_says(record, "on")
    runner.supervisor.stop(record.summary.digest)
    over = runner.over(record)
    assert (over.status, over.exit_code) == (Status.STOPPED, 3)
    assert runner.lines(over)[-1].text.strip() == "asked"
    assert_nothing_is_left(runner)


# --- what it sees of the node ------------------------------------------------------


def test_nothing_of_the_node_is_there(apart):
    paths = [str(apart.state.path), "/root/.ssh", "/home", "/run", "/var", "/srv"]
    paths += ["/etc/shadow", "/sys/kernel", "/boot", str(Path(__file__).parents[2])]
    said = told(
        apart,
        f"""
        import json, os, sys
        ways = {{sys.prefix, sys.base_prefix}}
        def seen_in(place):
            found = []
            for name in os.listdir(place):
                inside = f"{{place}}/{{name}}"
                if any(way.startswith(inside + "/") for way in ways):
                    found += seen_in(inside)
                elif inside not in ways:
                    found.append(inside)
            return found
        print(json.dumps([seen_in(one) for one in {paths!r} if os.path.exists(one)]))
        """,
    )
    # The way to the interpreter may lead through some, and shows nothing beside it.
    assert not any(said)


def test_no_other_process_is_there(apart):
    said = told(
        apart,
        """
        import json, os
        pids = [int(one) for one in os.listdir("/proc") if one.isdecimal()]
        environ = ""
        try:
            environ = open("/proc/1/environ").read()
        except OSError:
            pass
        command = open("/proc/1/cmdline").read()
        print(json.dumps([sorted(pids) == [1, os.getpid()], environ, command]))
        """,
    )
    assert said[:2] == [True, ""]
    assert str(apart.state.path) not in said[2]


def test_the_system_cannot_be_written(apart):
    said = told(
        apart,
        f"{TRY}\n"
        """
places = ["/", "/usr", "/usr/bin", "/etc", "/dev", "/proc/sys/kernel/hostname",
          "/job/given", "/job/given/script", os.__file__]
def write(place):
    path = place + "/x" if os.path.isdir(place) else place
    open(path, "a").close()
said = {place: tried(lambda: write(place)) for place in places}
print(json.dumps([place for place in places if "Error" not in said[place]]))
        """,
    )
    assert said == []


def test_its_own_directories_can_be_written_up_to_a_limit(apart):
    record = apart.run(
        "import os\nwith open('/tmp/x', 'wb') as file:\n"
        " while True: file.write(os.urandom(1 << 20))",
        limits=limits(memory_mb=32),
    )
    # With bubblewrap the full file system is gone before the runner could look.
    is_gone = receipt_of(record).sandbox == BWRAP
    reason = "exit_code" if is_gone else "no_space"
    assert (record.status, record.reason) == (Status.FAILED, reason)
    assert "No space left" in apart.lines(record)[-1].text


@pytest.mark.parametrize("level", [one for one in APART if one != "bwrap"])
def test_files_are_limited_in_number(runners, level):
    # bubblewrap has no option for it.
    said = told(
        runners(level),
        """
        import json
        count = 0
        try:
            while count < 100_000:
                open(str(count), "w").close()
                count += 1
        except OSError as error:
            print(json.dumps([count > 50_000, error.strerror]))
        """,
    )
    assert said == [True, "No space left on device"]


def test_usual_things_are_there(apart):
    said = told(
        apart,
        f"{TRY}\n"
        """
import getpass, subprocess, sys, tempfile, multiprocessing.shared_memory as sm, shutil
def python():
    command = [sys.executable, "-I", "-c", "import ssl, sqlite3; print(6 * 7)"]
    return subprocess.check_output(command, text=True)
def shared():
    block = sm.SharedMemory(create=True, size=16)
    block.unlink()
    return "shared"
def temporary():
    with tempfile.NamedTemporaryFile() as file:
        return os.path.exists(file.name)
def written():
    open("/dev/null", "w").write("x")
    return len(os.urandom(3) + open("/dev/urandom", "rb").read(3))
usual = (getpass.getuser, python, shared, temporary, written)
print(json.dumps([tried(one) for one in usual]))
        """,
    )
    assert said == ["'job'", "'42\\n'", "'shared'", "True", "6"]


@pytest.mark.parametrize("level", ["namespaces", "bwrap"])
def test_a_further_path_may_lie_below_tmp(deployment_at, level, tmp_path):
    (tmp_path / "tool").write_text("found")
    tmp_path.chmod(0o755)
    deployment = deployment_at(level, HORUS_SANDBOX_PATHS=str(tmp_path))
    deployment.start_worker("-Q", "python", "-c1", before=deployment.before)
    record = deployment.run(
        f"tool = {str(tmp_path / 'tool')!r}\n"
        "open('/tmp/x', 'w').write('own')\n"
        "print(open(tool).read(), open('/tmp/x').read())\n"
        "try: open(tool, 'w')\n"
        "except OSError as error: print(error.strerror)"
    )
    expected = "found own\nRead-only file system\n"
    assert record.result == expected, deployment.lines(record)
    assert receipt_of(record).sandbox == level


# --- what it may use of the node, where it sees all of it --------------------------


@pytest.fixture
def fenced(runners):
    return runners("landlock")


@pytest.fixture
def cut(fenced):
    """A runner without namespaces that cuts the network by the filter."""
    if seccomp.own().program is None:
        pytest.skip(str(seccomp.own().fault))
    return fenced


@pytest.fixture
def neighbour(fenced):
    """Where another job of the same runner works, with HeroDB, and what it is."""
    before = set(fenced.rooms())
    code = "open('mine', 'w').write('mine')\nprint('on', flush=True)\nimport time\n"
    record = fenced.submit(f"{code}time.sleep(300)", net="herodb")
    fenced.until_it_says(record, "on")
    (room,) = set(fenced.rooms()) - before
    yield room
    fenced.supervisor.stop(record.summary.digest)
    fenced.over(record)


def test_the_word_for_landlock_in_a_receipt_is_true(fenced):
    key = fenced.state.key_file("default")
    record = fenced.run(f"open({str(key)!r})")
    assert receipt_of(record).sandbox == LANDLOCK
    assert (record.status, record.exit_code) == (Status.FAILED, 1)
    assert "PermissionError" in fenced.lines(record)[-1].text
    assert key.read_bytes()


_FORBID = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv"
#: As in most containers: root by name, without the privileges for namespaces.
WITHOUT_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    _FORBID + ' --bounding-set=-all --inh-caps=-all "$@"',
    "sh",
)


def test_where_no_namespaces_can_be_made_landlock_is_taken(deployment_at):
    deployment = deployment_at("landlock", HORUS_SANDBOX="auto")
    words = [*WITHOUT_NAMESPACES, "true"]
    if subprocess.run(words, check=False, capture_output=True).returncode != 0:  # noqa: S603 - our own words
        pytest.skip("no namespace of users can be made here to forbid them in")
    worker = deployment.start_worker(
        "-Q", "python,system", "-c1", before=WITHOUT_NAMESPACES
    )
    for executor, payload in (("python", "print(1)"), ("system", "echo 1")):
        record = deployment.run(payload, executor=executor)
        assert (record.result, record.reason) == ("1\n", None)
        assert receipt_of(record).sandbox == LANDLOCK
    assert "not kept apart" not in deployment.log_of(worker)


def test_a_plain_user_has_landlock_as_well(deployment_at):
    deployment = deployment_at("landlock of a plain user")
    deployment.start_worker("-Q", "python", "-c1", before=deployment.before)
    key = str(deployment.state.key_file("default"))
    paths = [key, str(deployment.state.path)]
    code = (
        f"{TRY}\nprint(json.dumps([tried(lambda: os.open(one, 0)) for one in {paths}]))"
    )
    record = deployment.run(code)
    assert receipt_of(record).sandbox == LANDLOCK
    assert json.loads(record.result) == ["PermissionError"] * 2


def test_nothing_of_the_node_can_be_read(fenced, neighbour, tmp_path):
    (tmp_path / "file").write_text("of the test")
    folders = [fenced.state.path, fenced.state.rooms, neighbour, tmp_path]
    folders += [tempfile.gettempdir(), "/", "/root", "/home", "/run", "/var", "/etc"]
    folders += ["/dev", "/sys"]
    files = [fenced.state.key_file("default"), tmp_path / "file", "/etc/shadow"]
    files += [neighbour / "script", neighbour / "work" / "mine"]
    files += [f"/proc/{fenced.workers[-1].pid}/environ"]
    said = told(
        fenced,
        f"{TRY}\nfolders, files = {[*map(str, folders)]}, {[*map(str, files)]}\n"
        "print(json.dumps([[tried(lambda: os.listdir(one)) for one in folders],"
        " [tried(lambda: open(one).close()) for one in files]]))",
    )
    assert said == [
        ["PermissionError"] * len(folders),
        ["PermissionError"] * len(files),
    ]


def test_nothing_but_its_own_directories_can_be_written(fenced, neighbour):
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"whole")
        file.flush()
        said = told(
            fenced,
            f"{TRY}\nfile, room = {file.name!r}, {str(neighbour)!r}\n"
            """
own = os.path.dirname(os.getcwd())
places = ["/", "/tmp", "/var/tmp", "/dev/shm", "/usr", "/etc", "/dev", own,
          os.path.dirname(file), room, room + "/work", os.environ["HORUS_INPUTS"]]
def put(place):
    open(place + "/horus-test", "w").close()
said = {place: tried(lambda: put(place)) for place in places}
open("own", "w").close()
actions = {
    "written": lambda: open(file, "w"),
    "appended": lambda: open(file, "a"),
    "emptied": lambda: os.truncate(file, 0),
    "removed": lambda: os.unlink(file),
    "moved": lambda: os.rename(file, "moved"),
    "linked": lambda: os.link(file, "linked"),
    "replaced": lambda: os.rename("own", file),
    "script": lambda: open(own + "/script", "w"),
    "room": lambda: os.rename(own + "/out", own + "/elsewhere"),
    "shared memory": lambda: __import__("multiprocessing").Lock(),
    "device": lambda: os.mknod("null", 0o20666, os.makedev(1, 3)),
    "process": lambda: open("/proc/self/oom_score_adj", "w"),
}
said |= {name: tried(one) for name, one in actions.items()}
print(json.dumps(said))
""",
        )
        assert Path(file.name).read_bytes() == b"whole"
    allowed = {
        name: one
        for name, one in said.items()
        # The kernel moves and links nothing to where it would have other rights.
        if one not in {"PermissionError", "OSError"}
    }
    assert allowed == {}


def test_what_scripts_do_every_day_is_theirs(fenced):
    said = told(
        fenced,
        f"{TRY}\n"
        """
import getpass, pathlib, shutil, subprocess, sys, tempfile
def python():
    command = [sys.executable, "-I", "-c", "import ssl, sqlite3; print(6 * 7)"]
    return subprocess.check_output(command, text=True)
def temporary():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "x")
        path.write_text("x")
        shutil.move(path, "moved")
        return os.path.dirname(folder) == os.getcwd() and os.path.exists("moved")
def program():
    path = pathlib.Path("program")
    path.write_text("#!/bin/sh\\necho made")
    path.chmod(0o700)
    return subprocess.check_output("./program", text=True)
def redirected():
    command = ["bash", "-c", "cat <(echo x) /dev/fd/0 < /dev/null > /dev/stdout"]
    return subprocess.check_output(command, text=True)
def written():
    open("/dev/null", "w").write("x")
    return len(os.urandom(3) + open("/dev/urandom", "rb").read(3))
usual = (getpass.getuser, python, temporary, program, redirected, written)
print(json.dumps([tried(one) for one in usual]))
        """,
    )
    user = psutil.Process().username()
    expected = [repr(user), "'42\\n'", "True", "'made\\n'", "'x\\n'", "6"]
    assert said == expected


def test_it_is_given_its_inputs_secrets_and_result(fenced):
    said = told(
        fenced,
        f"{TRY}\nprint(json.dumps([os.listdir(os.environ['HORUS_INPUTS']),"
        " open(__file__).read()[:12]]))",
    )
    assert said == [[], "\nimport json"]
    record = fenced.run("import os; open(os.environ['HORUS_RESULT'], 'w').write('yes')")
    assert record.result == "yes"


SIGNALS = (
    TRY + "import resource, signal\n"
    "pids = [os.getppid(), %d]\n"
    "limit = lambda pid: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))\n"
    "child = os.fork() or os.execv('/bin/sleep', ['sleep', '300'])\n"
    "os.kill(child, signal.SIGKILL)\n"
    "own = os.waitpid(child, 0)[1] == signal.SIGKILL\n"
    "print(json.dumps([own, [tried(lambda: os.kill(pid, signal.SIGKILL))"
    " for pid in pids], [tried(lambda: limit(pid)) for pid in pids]]))"
)


def test_neither_zygote_nor_runner_can_be_signalled_or_starved(cut):
    if kernel.landlock_version() < 6:
        pytest.skip("this kernel's Landlock knows no signals")
    said = told(cut, SIGNALS % cut.workers[-1].pid)
    assert said == [True, ["PermissionError"] * 2, ["PermissionError"] * 2]
    assert cut.run("print(1)").result == "1\n"


def test_nobody_has_privileges_in_a_namespace_of_his_own_there(fenced, filtering):
    said = told(
        fenced,
        """
        import ctypes, json, threading
        libc = ctypes.CDLL(None, use_errno=True)
        said = []
        # A thread is made by the call whose flags no filter sees.
        thread = threading.Thread(target=said.append, args=("thread",))
        thread.start()
        thread.join()
        print(json.dumps([*said, libc.unshare(0x10000000), ctypes.get_errno()]))
        """,
    )
    assert said == ["thread", -1, errno.EPERM]


def test_root_has_no_privileges_there(fenced):
    said = told(
        fenced,
        f"{TRY}\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "sets = [status[one].strip(' \\t\\n0') for one in ('CapEff', 'CapPrm')]\n"
        "print(json.dumps([sets, tried(lambda: os.setgroups([1]))]))",
    )
    assert said == [["", ""], "PermissionError"]


SOCKETS = (
    TRY + "import asyncio, socket\n"
    "kinds = [(socket.AF_INET, socket.SOCK_STREAM),"
    " (socket.AF_INET, socket.SOCK_DGRAM),"
    " (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_NETLINK, socket.SOCK_RAW),"
    " (socket.AF_UNIX, socket.SOCK_STREAM)]\n"
    "asyncio.run(asyncio.sleep(0))\n"
    "print(json.dumps([tried(lambda: bool(socket.socket(*kind))) for kind in kinds]))"
)


@pytest.mark.parametrize("executor", ["python", "system"])
@pytest.mark.parametrize(("net", "local"), [("none", False), ("herodb", True)])
def test_without_namespaces_the_filter_cuts_the_network(cut, executor, net, local):
    payload = SOCKETS
    if executor == "system":
        payload = f"exec {sys.executable} -I -c {shlex.quote(SOCKETS)}"
    record = cut.run(payload, executor=executor, net=net)
    assert record.status is Status.COMPLETED, cut.lines(record)
    last = "True" if local else "PermissionError"
    assert json.loads(record.result) == [*["PermissionError"] * 4, last]


PING = """
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(%s)
s.send(b"*1\\r\\n$4\\r\\nPING\\r\\n")
print(s.recv(100))
"""


def test_herodb_is_reached_and_nobody_elses(fenced, neighbour):
    own = fenced.run(
        PING % "os.environ['HERODB_URL'].removeprefix('unix://')", net="herodb"
    )
    assert own.result == "b'+PONG\\r\\n'\n", fenced.lines(own)
    other = fenced.run(PING % repr(str(neighbour / "herodb")), net="herodb")
    # Who is of another job is shown the door, or does not even get there.
    assert other.result in {"b''\n", ""}, fenced.lines(other)


def test_abstract_sockets_of_others_cannot_be_reached_either(fenced):
    if kernel.landlock_version() < 6:
        pytest.skip("this kernel's Landlock knows no abstract sockets")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0horus-test-{os.getpid()}-fenced")
        server.listen()
        said = told(
            fenced,
            f"{TRY}\nimport socket\ns = socket.socket(socket.AF_UNIX)\n"
            f"name = '\\0horus-test-{os.getpid()}-fenced'\n"
            "print(json.dumps(tried(lambda: s.connect(name))))",
            net="herodb",
        )
    assert said == "PermissionError"


# --- the network -------------------------------------------------------------------


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


CONNECT = (
    TRY + "import socket\n"
    "where = [('127.0.0.1', %d), ('169.254.169.254', 80), ('8.8.8.8', 53)]\n"
    "print(json.dumps([tried(lambda: bool(socket.create_connection(one, 3)))"
    " for one in where]))"
)


@pytest.mark.parametrize("net", ["none", "herodb"])
def test_without_a_network_nothing_can_be_reached(apart, listener, net):
    said = told(apart, CONNECT % listener, net=net)
    assert said == ["ConnectionRefusedError", "OSError", "OSError"]


@pytest.mark.parametrize("net", ["none", "herodb"])
def test_no_machine_that_this_one_runs_in_can_be_reached(apart, filtering, net):
    # Its sockets know no namespaces.
    code = f"{TRY}\nimport socket\nprint(json.dumps(tried(lambda: socket.socket(40))))"
    assert told(apart, code, net=net) == "PermissionError"


def test_abstract_sockets_of_the_node_cannot_be_reached(apart):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0horus-test-{os.getpid()}")
        server.listen()
        said = told(
            apart,
            f"{TRY}\nimport socket\ns = socket.socket(socket.AF_UNIX)\n"
            f"name = '\\0horus-test-{os.getpid()}'\n"
            "print(json.dumps(tried(lambda: s.connect(name))))",
        )
    assert said == "ConnectionRefusedError"


def test_its_own_processes_reach_each_other_by_the_loopback(apart):
    said = told(
        apart,
        f"{TRY}\nimport socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "connect = lambda: bool(socket.create_connection(server.getsockname()))\n"
        "print(json.dumps(tried(connect)))",
    )
    assert said == "True"


def test_with_the_network_of_the_host_it_can_be_reached(runner, listener):
    runner.grant(nets=["none", "herodb", "host"])
    said = told(runner, CONNECT % listener, net="host")
    assert said[0] == "True"


def test_nothing_leads_to_where_other_jobs_have_their_directories(apart):
    said = told(
        apart,
        f"{TRY}\n"
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def uncovered():
    if libc.umount2(b"/job", 2) != 0:
        raise OSError(ctypes.get_errno(), "umount2")
print(json.dumps({
    "job": sorted(os.listdir("/job")),
    "above": sorted(os.listdir("/job/given/..")),
    "uncovered": tried(uncovered),
    "descriptors": [one for one in os.listdir("/proc/self/fd") if os.path.isdir(one)],
}))
        """,
    )
    assert said.pop("job") == said.pop("above")
    assert said == {"uncovered": "PermissionError", "descriptors": []}


def test_a_directory_of_rooms_that_was_made_anew_is_seen(apart):
    apart.run("pass")
    apart.until(lambda: not apart.rooms())
    rooms = apart.state.rooms
    rooms.rename(rooms.with_name("former"))
    rooms.mkdir(mode=0o700)
    shutil.chown(rooms, *_owner_of(rooms.with_name("former")))
    record = apart.run("print(open(__file__).read())")
    assert record.result == "print(open(__file__).read())\n"


def test_a_job_has_one_root_and_the_machines_is_nowhere_below(apart):
    shown = told(
        apart,
        "import json\n"
        "print(json.dumps([line.split()[4] for line in open('/proc/self/mountinfo')]))",
    )
    assert shown.count("/") == 1
    seen = (*sandbox.shown_paths(), *sandbox.introduction(0, 0), *sandbox.LINKS)
    seen = (*seen, *sandbox.DEVICES, sandbox.JOB, "/proc", "/dev")
    below = tuple(f"{place}/" for place in seen)
    assert not [
        one
        for one in shown
        if one != "/" and f"{one}/" not in below and not one.startswith(below)
    ]


# --- privileges --------------------------------------------------------------------


def test_no_namespace_mount_or_device_can_be_made(apart):
    said = told(
        apart,
        f"{TRY}\n"
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    if getattr(libc, name)(*words) != 0:
        raise OSError(ctypes.get_errno(), name)
    return 0
def mounted():
    call("mount", b"none", b"/job/work", b"tmpfs", 0, None)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
sets = [status[one].strip(" \\t\\n0") for one in ("CapEff", "CapPrm", "CapBnd")]
print(json.dumps({
    "user namespace": tried(lambda: call("unshare", 0x10000000)),
    "mount namespace": tried(lambda: call("unshare", 0x20000)),
    "mount": tried(mounted),
    "device": tried(lambda: os.mknod("/job/work/null", 0o20666, os.makedev(1, 3))),
    "root": tried(lambda: os.setuid(0)),
    "host name": tried(lambda: call("sethostname", b"x", 1)),
    "ptrace": tried(lambda: call("ptrace", 0x4206, 1, 0, 0)),
    "signals": [tried(lambda: os.kill(1, n)) for n in (9, 19, 15, 2)],
    "first process": os.path.exists("/proc/1/stat"),
    "capabilities": sets,
}))
        """,
    )
    # A plain user's script may send them, but it is the kernel that does nothing then.
    assert set(said.pop("signals")) < {"None", "PermissionError"}
    assert said == {
        "user namespace": "OSError",
        "mount namespace": "PermissionError",
        "mount": "PermissionError",
        "device": "PermissionError",
        "root": "OSError",
        "host name": "PermissionError",
        "ptrace": "PermissionError",
        "first process": True,
        "capabilities": ["", "", ""],
    }


@pytest.fixture(scope="module")
def filtering():
    """Return pyseccomp, where scripts get a filter of their system calls."""
    if seccomp.own().program is None:
        pytest.skip(str(seccomp.own().fault))
    return pytest.importorskip("pyseccomp")


@pytest.mark.parametrize("executor", ["python", "system"])
def test_calls_that_no_script_needs_are_denied_whoever_it_is(
    runner, filtering, executor
):
    # At the plain level of root the kernel would do most of them.
    numbers = {
        name: number
        for name in seccomp.DENIED
        if (number := filtering.resolve_syscall(filtering.Arch.NATIVE, name)) >= 0
    }
    code = f"""
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
def answer(*words):
    result = libc.syscall(*[ctypes.c_long(word) for word in words])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
said = {{name: answer(number, 0, 0, 0, 0, 0) for name, number in {numbers}.items()}}
said["TIOCSTI"] = answer({filtering.resolve_syscall(filtering.Arch.NATIVE, "ioctl")},
                         0, 0x5412, 0)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
said["filters"] = status["Seccomp"].strip()
print(json.dumps(said))
"""
    if executor == "system":
        code = f"exec {sys.executable} -I -c {shlex.quote(code)}"
    record = runner.run(code, executor=executor)
    assert record.status is Status.COMPLETED, runner.lines(record)
    said = json.loads(record.result)
    assert said.pop("filters") == "2", "what the kernel calls filtered"
    assert {name: one for name, one in said.items() if one != "EPERM"} == {}


def test_programs_of_every_day_run(runner):
    record = runner.run(
        "set -e; umask 022; export HOME=$PWD\n"
        "mkdir d; seq 1000 | sort -r | gzip > d/x; zcat d/x | wc -l\n"
        "tar cf - d | tar tf - | tail -1\n"
        "if command -v git > /dev/null; then git init -q r; cd r; touch x; git add x\n"
        "git -c user.name=a -c user.email=b commit -qm x; git log --format=%s; cd ..\n"
        "else echo x; fi\n"
        f"{sys.executable} -I -c 'import subprocess, threading, ssl, asyncio, sqlite3\n"
        'async def main(): return (await asyncio.create_subprocess_exec("true")).pid\n'
        "print(asyncio.run(main()) > 0)'",
        executor="system",
    )
    assert record.result == "1000\nd/x\nx\nTrue\n", runner.lines(record)


# --- results -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        "os.symlink('/etc/hostname', path)",
        "os.symlink('/proc/1/environ', path)",
        "os.mkfifo(path)",
        "os.mkdir(path)",
        "open(path, 'wb').truncate(100 << 20)",
    ],
)
def test_what_is_no_plain_file_within_the_limit_is_no_result(apart, make):
    record = apart.run(f"import os; path = os.environ['HORUS_RESULT']; {make}")
    assert (record.status, record.reason) == (Status.FAILED, "executor")
    assert apart.run("print(1)").result == "1\n"


def test_a_result_is_what_was_written(apart):
    record = apart.run("import os; open(os.environ['HORUS_RESULT'], 'w').write('yes')")
    assert record.result == "yes"


def test_a_gigabyte_of_output_is_cut_and_costs_the_runner_no_memory(runner):
    # The first job of a process is what it loads the rest of itself for.
    both = [runner.submit("sleep 0.3", executor="system") for _ in range(2)]
    assert [runner.over(one).status for one in both] == [Status.COMPLETED] * 2
    worker = psutil.Process(runner.workers[-1].pid)
    before = {one.pid: one.memory_info().rss for one in [worker, *worker.children()]}
    peak = dict(before)
    over = threading.Event()

    def watch():
        while not over.wait(0.02):
            for pid in before:
                with suppress(psutil.Error):
                    rss = psutil.Process(pid).memory_info().rss
                    peak[pid] = max(peak[pid], rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        record = runner.run("head -c 1000000000 /dev/zero", executor="system")
    finally:
        over.set()
        watching.join()
    assert record.status is Status.COMPLETED
    assert receipt_of(record).stdout.truncated
    assert max(peak[pid] - before[pid] for pid in before) < 32 << 20


# --- what is demanded --------------------------------------------------------------


def test_where_the_network_cannot_be_cut_a_job_may_be_refused(make_deployment):
    strict = make_deployment(sandbox="plain", HORUS_SANDBOX_REQUIRED="true")
    strict.start_worker("-Q", "python", "-c1")
    record = strict.run("print(1)")
    assert (record.status, record.reason) == (Status.REJECTED, "auth.net")
    strict.grant(nets=["none", "host"])
    assert strict.run("print(1)", net="host").status is Status.COMPLETED


def test_where_the_filter_cuts_the_network_that_is_enough(deployment_at):
    if seccomp.own().program is None:
        pytest.skip(str(seccomp.own().fault))
    strict = deployment_at("landlock", HORUS_SANDBOX_REQUIRED="true")
    strict.start_worker("-Q", "python", "-c1")
    assert strict.run("print(1)").status is Status.COMPLETED


def test_where_bubblewrap_is_missing_no_runner_that_is_to_have_it_starts(
    deployment_at,
):
    deployment = deployment_at("bwrap", PATH="/nowhere")
    assert "apt-get install bubblewrap" in refusal_of(deployment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused as root")
def test_root_gets_no_runner_with_bubblewrap(make_deployment):
    deployment = make_deployment(sandbox="bwrap")
    deployment.before = ()
    assert "run the runner as a plain user" in refusal_of(deployment)


def refusal_of(deployment):
    """Start a worker that does not come up, and return what it says."""
    worker = deployment.celery(
        "worker", before=deployment.before, stderr=subprocess.PIPE
    )
    _, said = worker.communicate(timeout=20)
    assert worker.returncode == 1
    assert b'sandbox = "bwrap" does not work here' in said
    return said.decode()


# --- afterwards --------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["auto", "bwrap", "landlock", "plain"])
def test_killing_a_runner_and_its_pool_ends_their_scripts(deployment_at, sandbox):
    deployment = deployment_at(sandbox)
    worker = deployment.start_worker("-Q", "system", "-c1", before=deployment.before)
    # Another test may look for its own at the same time.
    seconds = f"{os.getpid()}321"
    payload = f"sleep {seconds} & sleep {seconds} & echo on; wait"
    record = deployment.submit(payload, executor="system")
    deployment.until_it_says(record, "on")
    main = psutil.Process(worker.pid)
    below = main.children(recursive=True)
    pool = main.children()
    # Nobody of them gets to do anything about it.
    for one in (main, *pool):
        one.suspend()
    for one in (main, *pool):
        one.kill()
    worker.wait(5)
    if sandbox not in {"landlock", "plain"}:
        _, left = psutil.wait_procs(below, timeout=GONE)
        assert not left
    # Without namespaces the next runner finds what a script has left running.
    deployment.start_worker("-Q", "system", "-c1", before=deployment.before)
    assert_nothing_is_left(deployment)
    assert not [one for one in psutil.process_iter() if _sleeps(one, seconds)]


def _sleeps(process, seconds):
    with suppress(psutil.Error):
        return process.cmdline() == ["sleep", seconds]
    return False


def assert_nothing_is_left(deployment):
    """See that no process, directory or mount of a job is there any more."""

    def is_clean():
        return not (deployment.processes_below_workers() or deployment.rooms())

    end = time.monotonic() + GONE
    pause = threading.Event()
    while not is_clean():
        left = deployment.processes_below_workers()
        assert time.monotonic() < end, (left, deployment.rooms())
        pause.wait(0.02)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(deployment.state.rooms) not in mounts
