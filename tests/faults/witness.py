"""What scripts say of themselves, in a file that no part of the system knows.

A script that is run appends a line when it begins and one when it ends. While it lives
it holds a lock of the kernel's, so that a second run beside it is seen by that run.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SCRIPT: Final = """\
import fcntl, hashlib, json, os, time
MARK, SECONDS, FOLDER = {mark!r}, {seconds!r}, {folder!r}
witness = os.open(FOLDER + "/witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
lock = os.open(FOLDER + "/" + MARK, os.O_RDWR | os.O_CREAT, 0o666)

def say(**facts):
    line = dict(mark=MARK, run=RUN, at=time.monotonic(), **facts)
    os.write(witness, (json.dumps(line) + "\\n").encode())

RUN = os.urandom(8).hex()
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    is_alone = True
except OSError:
    is_alone = False
with open(__file__, "rb") as script:
    text = hashlib.sha256(script.read()).hexdigest()
say(is_alone=is_alone, text=text)
time.sleep(SECONDS)
result = os.urandom(16).hex()
say(result=hashlib.sha256(result.encode()).hexdigest())
print(result, end="")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a script, by its own words."""

    mark: str
    #: SHA-256 of the text that was executed.
    text: str
    #: Seconds on the machine's monotonic clock; None: it never said that it ended.
    began: float
    ended: float | None
    #: Whether no other run of this job lived when it began.
    is_alone: bool
    #: SHA-256 of the result that it gave.
    result: str | None


class Witness:
    """Makes scripts that tell of their runs, and reads what they told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def payload(self, *, seconds: float = 0.0, mark: str | None = None) -> str:
        """Return a script of its own mark that takes so long."""
        mark = mark or uuid.uuid4().hex
        return _SCRIPT.format(mark=mark, seconds=seconds, folder=str(self._folder))

    def runs(self) -> tuple[Run, ...]:
        """Return all runs so far, in the order in which they began."""
        path = self._folder / "witness"
        text = path.read_text() if path.exists() else ""
        # The last line may just be being written.
        whole, _, _ = text.rpartition("\n")
        return tuple(_runs(map(json.loads, whole.splitlines())))


def mark_of(payload: str) -> str:
    """Return the mark of a script of ours."""
    return payload.partition("= '")[2].partition("'")[0]


def text_of(payload: str) -> str:
    """Return what a run says of the text that it executes."""
    return hashlib.sha256(payload.encode()).hexdigest()


def _runs(lines: Iterable[dict[str, Any]]) -> Iterable[Run]:
    began: dict[str, dict[str, Any]] = {}
    ended: dict[str, dict[str, Any]] = {}
    for line in lines:
        (began if "text" in line else ended)[line["run"]] = line
    for run, line in began.items():
        end = ended.get(run, {})
        yield Run(
            mark=line["mark"],
            text=line["text"],
            began=line["at"],
            ended=end.get("at"),
            is_alone=line["is_alone"],
            result=end.get("result"),
        )
