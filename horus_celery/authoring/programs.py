"""Where a workflow is written: in a TOML or YAML file, or by a Python program."""

from __future__ import annotations

import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from horus_celery.authoring.builder import Workflow
from horus_celery.authoring.drafts import WorkflowDraft
from horus_celery.authoring.files import read_file
from horus_celery.errors import ConfigurationError, HorusError

#: What a program is called while its workflow is read: it is not the main one, so what
#: it does under `if __name__ == "__main__"` is left undone.
_NAME: Final = "horus_workflow"


def read_workflow(path: Path) -> WorkflowDraft:
    """Read a workflow whose steps can be run.

    A Python program is run, as the user who names it; it leaves one `Workflow` in a
    variable of its own. What it prints goes to standard error.

    Raises:
        ConfigurationError: as `read_file`; or if the program fails, or leaves none or
            several.
        WorkflowError: `workflow.*`, if the steps cannot be run.
    """
    if path.suffix != ".py":
        return read_file(path)
    found = {id(value): value for value in _run(path) if isinstance(value, Workflow)}
    if len(found) != 1:
        raise ConfigurationError(
            f"{path} leaves {len(found)} workflows in its variables: it must be one,"
            ' as in `with Workflow("etl") as etl:`'
        )
    (workflow,) = found.values()
    draft = workflow.draft()
    draft.graph()
    return draft


def _run(path: Path) -> list[object]:
    if not path.is_file():
        raise ConfigurationError(f"cannot read the workflow {path}: there is none")
    # As Python does with the folder of a program that it runs.
    sys.path.insert(0, str(path.parent))
    try:
        # Standard output is the command's own: a program may read an id or JSON there.
        with redirect_stdout(sys.stderr):
            return list(runpy.run_path(str(path), run_name=_NAME).values())
    except HorusError:
        raise
    except SystemExit as error:
        raise ConfigurationError(
            f"{path}{_line_of(error, path)} exits before its workflow is taken: let it"
            ' do so under `if __name__ == "__main__":`'
        ) from None
    except Exception as error:  # noqa: BLE001 - a program may fail in any way
        line = _line_of(error, path)
        raise ConfigurationError(
            f"{path}{line} failed: {type(error).__name__}: {error}"
        ) from None
    finally:
        sys.path.remove(str(path.parent))


def _line_of(error: BaseException, path: Path) -> str:
    """Say on which line of the program an error came up."""
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}"
    line = ""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == str(path):
            line = f" line {at.tb_lineno}"
        at = at.tb_next
    return line
