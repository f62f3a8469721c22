"""The command line: which commands there are, and how a failure is told."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from horus_celery.errors import ConfigurationError, HorusError, RefusedError

#: Every command with what it does. A command's module has its name, and is imported
#: when it is used: so `horus --help` is quick however many there are.
COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "up": "Start everything on this machine, and end it with Ctrl-C.",
        "supervisor": "Start the API and the actors of the configuration, and no more.",
        "coordinator": "Start the API, the worker of workflows, and the actors.",
        "runner": "Start one runner in the foreground, and end it with Ctrl-C.",
        "init": "Make the state directory: keys, secrets, trust bundle.",
        "demo": "Show in seconds what Horus does, on a deployment of its own.",
        "run": "Sign a script, have it run, follow it, and verify what came of it.",
        "workflow": "Sign workflows, have them run, follow them, see what is proven.",
        "job": "Look at jobs, stop them, delete them; check an envelope.",
        "audit": "Walk the receipts of this node, and say what is wrong with them.",
        "runners": "Look at runners; start and stop those that the supervisor manages.",
        "key": "Make and show the keys that sign jobs.",
        "trust": "Show and change whom this deployment believes.",
        "secret": "Add, remove and list the secrets that open the API.",
        "herodb": "Look after HeroDB: contexts, who is let in, keys of encryption.",
        "sal": "Look up the system functions that scripts may call.",
        "redis-acl": "Print the users of a Redis, with the least that each may do.",
        "config": "Show the settings, and where each of them comes from.",
        "doctor": "Say what is wrong here, and the command that mends it.",
    }
)
#: Exit codes beyond a script's own.
FAILED: Final = 1
REFUSED: Final = 3
INTERRUPTED: Final = 130
#: The supervisor's codes for a statement that it refuses.
_REFUSALS: Final = frozenset({-32010, -32011, -32012, -32013, -32014})


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"horus_celery.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if wanted and not ctx.resilient_parsing:
        from horus_celery import __version__  # noqa: PLC0415 - only for this option

        click.echo(f"horus {__version__}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def horus() -> None:
    """Run signed scripts: nobody but the signer decides what runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; never shows a traceback of ours."""
    _fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error does: a letter that the locale lacks ends no command.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(invoke(arguments))


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = horus.main(arguments, prog_name="horus", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HorusError as error:
        return _tell(error)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough.
        give_up_output()
        return FAILED
    except OSError as error:
        if not _is_by_click(error):
            raise
        return _tell(unwritable(error))
    return code if isinstance(code, int) else 0


def unwritable(error: OSError) -> HorusError:
    """Give standard output up, and return what is to be said of it."""
    give_up_output()
    return ConfigurationError(f"cannot write standard output: {error.strerror}")


def give_up_output() -> None:
    """Leave the interpreter's last flush something that takes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_closed_streams() -> None:
    """Have what is written to a closed stream go nowhere, and no file be in its place.

    As `>&-` in a shell closes them, or whoever starts a daemon.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free: that of the stream.
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, mode))


def _is_by_click(error: OSError) -> bool:
    """Say whether click raised it: it writes help and version."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals["__name__"]).startswith("click.")


def _tell(error: HorusError) -> int:
    from horus_celery.cli import output  # noqa: PLC0415 - only when something failed

    is_refused = (
        isinstance(error, RefusedError) or getattr(error, "code", None) in _REFUSALS
    )
    if is_refused:
        output.error(f"refused: {error.reason}: {error.detail}")
        return REFUSED
    output.error(error.detail)
    return FAILED
