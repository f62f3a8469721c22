"""A command line as it is in the terminal, without a process of its own."""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from horus_celery import cli


@dataclass(frozen=True, slots=True)
class Told:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def state_dir():
    with tempfile.TemporaryDirectory(prefix="hs-") as folder:
        yield Path(folder) / "s"


@pytest.fixture
def horus(state_dir, tmp_path, monkeypatch, capfd):
    """Run a command on a state directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORUS_STATE_DIR", str(state_dir))

    def run(*arguments, stdin=b""):
        capfd.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.invoke([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Told(code, out, err)

    return run
