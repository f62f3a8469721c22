"""SAL's functions that run programs and look at processes."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from workers.sal import NoSuchFunction, NoSuchProperty

ROOT = Path(__file__).parents[3]

PYTHON = sys.executable


def python(source):
    """Return the words that run a Python program."""
    return [PYTHON, "-I", "-c", source]


def read(result, name):
    return result.rhai_get(name)


def test_a_command_gives_its_output_and_code(script):
    result = script("run_command", "printf 'a b'")
    assert read(result, "stdout") == "a b"
    assert read(result, "stderr") == ""
    assert read(result, "success") is True
    assert read(result, "code") == 0
    assert read(result, "truncated") is False


def test_no_shell_reads_a_command_line(script, folder):
    result = script("run_command", "echo $HOME * | cat > x; true")
    assert read(result, "stdout") == "$HOME * | cat > x; true\n"
    assert list(folder.iterdir()) == []


def test_an_array_is_taken_word_by_word(script):
    result = script("run_command", ["echo", "a  b", "'c'"])
    assert read(result, "stdout") == "a  b 'c'\n"


def test_what_a_command_writes_is_in_the_log_as_it_comes(script):
    script("run_command", ["sh", "-c", "echo out; echo err >&2"])
    assert script.printed() == b"out\n"
    assert script.printed(errors=True) == b"err\n"


def test_a_silent_command_is_not_in_the_log(script):
    assert read(script("run_silent", "echo a"), "stdout") == "a\n"
    assert script.log == []


@pytest.mark.parametrize("name", ["run_command", "run_silent"])
def test_a_command_that_fails_is_an_error_with_what_it_said(script, name):
    said = script.refusal(name, ["sh", "-c", "echo first >&2; echo why >&2; exit 3"])
    assert said == f"{name}: sh ended with the code 3: why"


@pytest.mark.parametrize("name", ["run_command", "run_silent"])
def test_a_program_that_is_missing_is_named(script, name):
    assert "there is no program no-such-tool" in script.refusal(name, "no-such-tool x")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "must name a program"),
        ([], "must name a program"),
        ("echo 'open", "no closing quotation"),
        (["echo", "a\0b"], "NUL"),
        (["echo", 1], "item 1 must be a string, not an integer"),
        (17, "must be an array, not an integer"),
    ],
)
def test_what_is_no_command_is_refused(script, command, why):
    assert why in script.refusal("run", command)


def asked(script, command, *calls):
    """Build a command by these methods, and run it."""
    built = script("run", command)
    for name, *args in calls:
        assert built.rhai_call(name, args) is built
    return built.rhai_call("execute", [])


def test_a_built_command_fails_like_any_other(script):
    with pytest.raises(Exception, match="execute: false ended with the code 1"):
        asked(script, "false")


def test_a_failure_can_be_looked_at(script):
    for call in (("ignore_errors",), ("die", False)):
        result = asked(script, ["sh", "-c", "exit 7"], call)
        assert read(result, "code") == 7
        assert read(result, "success") is False


def test_silence_and_log_are_the_opposite_of_each_other(script):
    asked(script, "echo a", ("silent",))
    asked(script, "echo a", ("log", False))
    assert script.log == []
    asked(script, "echo a", ("silent",), ("log", True))
    assert script.printed() == b"a\n"


def test_variables_and_directory_are_the_commands_own(script, folder):
    (folder / "sub").mkdir()
    result = asked(
        script,
        ["sh", "-c", "echo $A $B; pwd"],
        ("env", {"A": "1"}),
        ("env", {"B": "2"}),
        ("cwd", "sub"),
    )
    assert read(result, "stdout") == f"1 2\n{folder}/sub\n"
    assert "A" not in os.environ


def test_a_program_beside_the_script_is_run_in_another_directory(script, folder):
    (folder / "sub").mkdir()
    (folder / "tool").write_text("#!/bin/sh\npwd\n")
    (folder / "tool").chmod(0o755)
    assert read(asked(script, "./tool", ("cwd", "sub")), "stdout") == f"{folder}/sub\n"


def test_input_of_any_length_is_read_to_its_end(script):
    text = "é" * 200_000
    result = asked(script, ["wc", "-c"], ("input", text))
    assert read(result, "stdout").strip() == "400000"


def test_a_command_that_does_not_want_its_input_just_ends(script):
    assert read(asked(script, "true", ("input", "x" * 1_000_000)), "success")


def test_a_command_without_input_finds_it_empty(script):
    assert read(script("run_silent", "cat"), "stdout") == ""


def ends(pid):
    """Whether a process has ended, or does so within seconds: it was killed."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 10)[0])
    finally:
        os.close(process)


def test_what_takes_too_long_is_ended_with_what_it_started(script, folder):
    started = "sleep 60 & echo $! > child; wait"
    result = asked(script, ["sh", "-c", started], ("timeout", 0.5), ("ignore_errors",))
    assert read(result, "code") == 124
    assert ends(int((folder / "child").read_text()))


def test_taking_too_long_is_an_error_of_its_own(script):
    with pytest.raises(Exception, match="sleep took too long and was ended"):
        asked(script, "sleep 60", ("timeout", 0.1))


def test_a_signal_is_told_as_shells_do(script):
    result = asked(script, ["sh", "-c", "kill -9 $$"], ("ignore_errors",))
    assert read(result, "code") == 137


def test_what_stays_in_the_background_is_not_waited_for(script):
    result = script("run_silent", ["sh", "-c", "sleep 60 & echo $!"])
    os.kill(int(read(result, "stdout")), 9)


def test_what_writes_on_in_the_background_is_not_heard_out(script):
    result = script("run_silent", ["sh", "-c", "yes & echo last"])
    assert read(result, "success") is True


def test_output_without_end_is_cut(script):
    size = 5 * 2**20
    result = asked(script, python(f"print('x' * {size}, end='')"), ("silent",))
    assert len(read(result, "stdout")) == 4 * 2**20
    assert read(result, "truncated") is True


def test_bytes_that_are_no_text_are_replaced(script):
    result = script("run_silent", ["printf", r"\377a"])
    assert read(result, "stdout") == "\ufffda"


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("env", {"A=B": "x"}),
        ("env", {"A": 1}),
        ("env", {"": "x"}),
        ("cwd", ""),
        ("cwd", "a\0b"),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", "1"),
        ("die", 1),
        ("log", "yes"),
        ("input", b"bytes"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(script, method, value):
    with pytest.raises(Exception, match=f"^{method}: "):
        script("run", "true").rhai_call(method, [value])


def test_a_directory_that_is_missing_is_named(script, folder):
    with pytest.raises(Exception, match=r"No such file or directory: .*nowhere"):
        asked(script, "true", ("cwd", "nowhere"))


def test_what_an_object_does_not_have_is_not_found(script):
    command = script("run", "true")
    for name in ("execut", "_words", "rhai_call", "__class__"):
        with pytest.raises(NoSuchFunction, match=f"{name} \\(\\) of Command"):
            command.rhai_call(name, [])
        with pytest.raises(NoSuchProperty):
            command.rhai_get(name)
    with pytest.raises(NoSuchFunction, match="timeout \\(integer, integer\\)"):
        command.rhai_call("timeout", [1, 2])
    with pytest.raises(NoSuchProperty):
        command.rhai_set("_words", ["rm"])


def test_options_are_a_map_as_well(script, folder):
    options = {
        "silent": True,
        "ignore_errors": True,
        "env": {"A": "1"},
        "cwd": ".",
        "input": "text",
        "timeout": 20,
    }
    result = script("run_with_options", ["sh", "-c", "cat; echo $A; exit 3"], options)
    assert (read(result, "stdout"), read(result, "code")) == ("text1\n", 3)
    assert script.log == []
    script("run_with_options", "echo loud", {})
    assert script.printed() == b"loud\n"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shell": True}, "there is no option shell"),
        ({"silent": "yes"}, "silent must be true or false, not a string"),
        ({"timeout": "1"}, "timeout must be a number of seconds"),
    ],
)
def test_options_that_nobody_knows_are_refused(script, options, why):
    assert why in script.refusal("run_with_options", "true", options)


# --- processes ---------------------------------------------------------------------


@pytest.fixture
def sleeper():
    """A process with a mark in its command line, and the mark."""
    mark = f"mark-{uuid.uuid4().hex}"
    source = "import sys; print(flush=True); sys.stdin.read()"
    command = [PYTHON, "-I", "-c", source, mark]
    process = subprocess.Popen(  # noqa: S603 - our own argv
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process, mark
    process.kill()
    process.communicate()


def test_a_process_is_found_by_its_command_line(script, sleeper):
    process, mark = sleeper
    found = script("process_get", mark)
    assert read(found, "pid") == process.pid
    assert read(found, "command").endswith(mark)
    assert read(found, "name").startswith("python")
    assert read(found, "memory") > 0
    listed = script("process_list", mark)
    assert [read(one, "pid") for one in listed] == [process.pid]


def test_every_process_is_listed_without_a_pattern(script, sleeper):
    pids = [read(one, "pid") for one in script("process_list")]
    assert {sleeper[0].pid, os.getpid()} <= set(pids)
    assert pids == sorted(pids)


def test_none_and_several_are_errors_of_process_get(script):
    assert "no process matches" in script.refusal("process_get", "no-such-mark")
    assert "processes match" in script.refusal("process_get", "")
    assert script("process_list", "no-such-mark") == []


def test_a_process_is_ended_by_its_command_line(script, sleeper):
    process, mark = sleeper
    assert script("kill", mark) == 1
    assert process.wait(10) == -9
    assert script("kill", "no-such-mark") == 0


def test_a_script_does_not_end_itself_or_those_above():
    # By a mark of its own: another process of the tests may be called as this one is.
    source = (
        "import os, sys\n"
        "from tests.unit.sal.conftest import make_script\n"
        "from workers.sal.session import Net, Power\n"
        "script = make_script(net=Net.HOST, allowed=frozenset(Power))\n"
        "print(script('kill', sys.argv[1]))\n"
    )
    words = [sys.executable, "-c", source, f"mark-{uuid.uuid4().hex}"]
    shell = ["sh", "-c", f"{shlex.join(words)}; exit $?"]
    done = subprocess.run(  # noqa: S603 - our own words
        shell, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


@pytest.mark.parametrize("pattern", ["", "  "])
def test_nobody_ends_everything(script, pattern):
    assert "the pattern is empty" in script.refusal("kill", pattern)


@pytest.mark.parametrize("name", ["kill", "process_list", "process_get"])
def test_a_pattern_is_a_string(script, name):
    assert "must be a string, not an integer" in script.refusal(name, 1)


# --- the end of the script ---------------------------------------------------------


def test_a_command_ends_with_the_script(tmp_path):
    """The script is killed while its command runs; nothing of it goes on."""
    source = (
        "from workers import sal\n"
        "sal.call(sal.session_of({}), 'run_command',"
        f" [[{PYTHON!r}, '-I', '-c',"
        " 'import os,sys,time; print(os.getpid(), flush=True); time.sleep(60)']])\n"
    )
    process = subprocess.Popen(  # noqa: S603 - our own argv
        [PYTHON, "-c", source], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    child = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    try:
        assert select.select([child], [], [], 10)[0] == [child]
    finally:
        os.close(child)
