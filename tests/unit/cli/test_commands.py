"""The command line as a whole: its list, its speed, how it tells of failures."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import horus_celery.cli
from horus_celery import errors
from horus_celery.cli import COMMANDS
from horus_celery.client import RpcError

ROOT = Path(__file__).parents[3]


def command_named(name):
    return horus_celery.cli.horus.get_command(click.Context(click.Command(None)), name)


def every_command():
    for name in COMMANDS:
        command = command_named(name)
        yield name, command
        if isinstance(command, click.Group):
            yield from (
                (f"{name} {sub}", each) for sub, each in command.commands.items()
            )


EVERY = list(every_command())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_the_command_says(name):
    command = command_named(name)
    assert command.help.splitlines()[0] == COMMANDS[name]


@pytest.mark.parametrize(("name", "command"), EVERY)
def test_every_command_has_help_that_is_one_sentence_first(name, command):
    assert command.help
    assert command.help.splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (name, command)
        for name, command in EVERY
        if name.split()[0]
        not in {
            "up",
            "supervisor",
            "coordinator",
            "runner",
            "init",
            "demo",
            "redis-acl",
        }
        and not isinstance(command, click.Group)
        and name != "job check"
    ],
)
def test_every_command_that_prints_data_prints_json_on_request(name, command):
    options = {option for each in command.params for option in each.opts}
    assert "--json" in options


def test_help_is_quick_and_imports_no_command():
    began = time.monotonic()
    told = subprocess.run(  # noqa: S603 - our own interpreter
        [
            *(sys.executable, "-X", "importtime", "-c"),
            "import sys; from horus_celery.cli import main; main(['--help'])",
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    took = time.monotonic() - began
    assert all(name in told.stdout for name in COMMANDS)
    for heavy in ("celery", "flask", "redis", "httpx", "pydantic", "rich", "nacl"):
        assert f" {heavy}\n" not in told.stderr
    assert took < 0.9, "0.3 s on a machine that does nothing else"


def test_the_version_is_shown(horus):
    assert horus("--version").out == f"horus {horus_celery.__version__}\n"


def test_an_unknown_command_is_a_usage_error(horus):
    told = horus("jump")
    assert told.code == 2
    assert "No such command 'jump'" in told.err


def raising(error):
    @click.command()
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.ConfigurationError("mend it"), 1, "horus: mend it"),
        (errors.NotFoundError("nothing"), 1, "horus: nothing"),
        (errors.SignatureError("sig.none", "no"), 3, "horus: refused: sig.none: no"),
        (RpcError(-32012, "no", reason="auth.key"), 3, "horus: refused: auth.key: no"),
        (RpcError(-32001, "who?", reason="x"), 1, "horus: who?"),
        (errors.ConfigurationError("a\x1b[31mb\nc"), 1, "horus: a[31mbc"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(horus, monkeypatch, error, code, line):
    module = importlib.import_module("horus_celery.cli.init")
    monkeypatch.setattr(module, "command", raising(error))
    told = horus("init")
    assert told.code == code
    assert told.err.strip() == line
    assert not told.out


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["init", "--help"], ["key", "list"]]
)
def test_a_disk_that_is_full_is_said_in_one_line(
    horus, state_dir, unbuffered, arguments
):
    horus("init")
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(  # noqa: S603 - our own interpreter
            [
                *(sys.executable, "-c"),
                "from horus_celery.cli import main; main()",
                *arguments,
            ],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                "HORUS_STATE_DIR": str(state_dir),
                "PYTHONUNBUFFERED": unbuffered,
            },
        )
    assert told.stderr == (
        "horus: cannot write standard output: No space left on device\n"
    )
    assert told.returncode == 1


def test_a_disk_that_is_full_is_said_of_a_script_s_output_as_well():
    code = (
        "from horus_celery.cli import output, main; import click\n"
        "import horus_celery.cli.init as init\n"
        "from horus_celery.store.base import LogLine, Stream\n"
        "@click.command()\n"
        "def command():\n"
        "    output.script(LogLine(cursor='1-0', at=None, stream=Stream.STDOUT,"
        " text='x', ends_line=False))\n"
        "init.command = command\n"
        "main(['init'])"
    )
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", code],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert told.stderr == (
        "horus: cannot write standard output: No space left on device\n"
    )
    assert told.returncode == 1


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import sys; from horus_celery.cli import output, main, COMMANDS\n"
        "import horus_celery.cli.init as init, click\n"
        "@click.command()\n"
        "def command():\n"
        "    while True: output.line('x' * 1000)\n"
        "init.command = command\n"
        "main(['init'])"
    )
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    with process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("closed", "said"),
    [(">&-", ("", "told\n")), ("2>&-", ("shown\n", "")), ("<&- >&- 2>&-", ("", ""))],
)
def test_a_stream_that_is_closed_takes_what_is_written(closed, said):
    code = (
        "import os; from horus_celery.cli import output, main\n"
        "import horus_celery.cli.init as init, click\n"
        "@click.command()\n"
        "def command():\n"
        "    output.line('shown'); output.note('told')\n"
        "    assert os.open('/dev/null', os.O_RDONLY) > 2\n"
        "init.command = command\n"
        "main(['init'])"
    )
    told = subprocess.run(  # noqa: S603 - our own interpreter
        ["/bin/sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (told.returncode, (told.stdout, told.stderr)) == (0, said)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_letter_that_the_locale_lacks_ends_no_command(tmp_path, encoding, arguments):
    told = subprocess.run(  # noqa: S603 - our own interpreter
        [
            *(sys.executable, "-c", "from horus_celery.cli import main; main()"),
            *("config", "show", *arguments),
        ],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={"HORUS_STATE_DIR": "/kase/\u0142", "PYTHONIOENCODING": encoding},
    )
    assert (told.returncode, told.stderr) == (0, b"")
    shown = told.stdout.decode(encoding)
    if arguments:
        assert json.loads(shown)["state_dir"]["value"] == "/kase/\u0142"
    else:
        assert "/kase/\u0142".encode(encoding, "backslashreplace") in told.stdout
