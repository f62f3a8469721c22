"""How a program is run: never by a shell, its output bounded, its end waited for."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from horus_celery import kernel
from workers.sal.session import SalError, Writer
from workers.sal.table import SalObject

if TYPE_CHECKING:
    import subprocess

#: Bytes that are kept of each stream; a script that wants more reads a file.
MOST_OUTPUT: Final = 4 * 2**20
#: The code of a command that was ended because it took too long, as of `timeout`.
TIMED_OUT: Final = 124
_CHUNK: Final = 2**16
#: Bytes that a pipe may hold, unless root says otherwise.
_LARGEST_PIPE: Final = 2**20


class CommandResult(SalObject):
    """What became of a command."""

    def __init__(
        self, *, stdout: str, stderr: str, code: int, truncated: bool = False
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._code = code
        self._truncated = truncated

    @property
    def stdout(self) -> str:
        """What it wrote to standard output."""
        return self._stdout

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return self._stderr

    @property
    def code(self) -> int:
        """Its exit code; 124 if it took too long, 128 and more if a signal ended it."""
        return self._code

    @property
    def success(self) -> bool:
        """Whether the exit code is 0."""
        return self._code == 0

    @property
    def truncated(self) -> bool:
        """Whether a stream had more than the 4 MiB that are kept. It is Horus's own."""
        return self._truncated

    properties = (stdout, stderr, success, code, truncated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that is to be run."""

    words: Sequence[str]
    #: Added to the environment of the script.
    env: Mapping[str, str] = field(default_factory=dict)
    #: None is the script's own directory.
    cwd: Path | None = None
    input: bytes = b""
    #: None is as long as the job may run.
    timeout: timedelta | None = None
    #: Who is told what it writes while it runs.
    write: Writer | None = None

    def run(self) -> CommandResult:
        """Run it to its end.

        What it leaves behind in the background goes on until the job ends.

        Raises:
            SalError: if there is no such program.
            OSError: if it cannot be started.
        """
        # With it comes what every fork of a zygote would pay for, whatever it runs.
        import subprocess

        path = find_program(self.words[0], self.env.get("PATH"))
        with (
            subprocess.Popen(  # noqa: S603 - to run what the script names is the task
                [path, *self.words[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                process_group=0,
                preexec_fn=_die_with_script,  # noqa: PLW1509 - a script is one thread
            ) as process
        ):
            watch = _Watch(process, self)
            try:
                is_late = watch.until_the_end()
            except BaseException:
                _end(process)
                raise
            if is_late:
                _end(process)
            code = process.wait()
        return CommandResult(
            stdout=watch.text(is_error=False),
            stderr=watch.text(is_error=True),
            code=TIMED_OUT if is_late else _as_shells_say(code),
            truncated=watch.truncated,
        )


def find_program(name: str, path: str | None = None) -> str:
    """Return where a program is.

    Raises:
        SalError: if it is nowhere.
    """
    found = shutil.which(name, path=path)
    if found is None:
        raise SalError(f"there is no program {name} here; install it, or name its path")
    # The program may be started in another directory.
    return str(Path(found).absolute())


def output_of(program: Program) -> str:
    """Run a program that has to succeed, and return what it wrote.

    Raises:
        SalError: if it fails, with the last line of what it said.
    """
    return succeeded(program.words, program.run()).stdout


def succeeded(words: Sequence[str], result: CommandResult) -> CommandResult:
    """Return the result of a command that succeeded.

    Raises:
        SalError: if it failed, with the last line of what it said.
    """
    if result.success:
        return result
    name = Path(words[0]).name
    if result.code == TIMED_OUT:
        raise SalError(f"{name} took too long and was ended")
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    told = f": {said[-1]}" if said else ""
    raise SalError(f"{name} ended with the code {result.code}{told}")


class _Watch:
    """Carries what a program is given and what it writes."""

    def __init__(self, process: subprocess.Popen[bytes], program: Program) -> None:
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018, S101 - all three are pipes
        self._process = process
        self._program = program
        self._stdin = process.stdin
        self._input = memoryview(program.input)
        self._outputs = (process.stdout.fileno(), process.stderr.fileno())
        self._kept = {stream: bytearray() for stream in self._outputs}
        self.truncated = False

    def until_the_end(self) -> bool:
        """Wait until the program has ended; True if it took too long before."""
        timeout = self._program.timeout
        deadline = None if timeout is None else monotonic() + timeout.total_seconds()
        end = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(end, selectors.EVENT_READ)
                self._register_streams(selector)
                return self._attend(selector, end, deadline)
        finally:
            os.close(end)

    def text(self, *, is_error: bool) -> str:
        """Return what was kept of a stream; what is no UTF-8 is replaced."""
        return self._kept[self._outputs[is_error]].decode(errors="replace")

    def _register_streams(self, selector: selectors.BaseSelector) -> None:
        for stream in self._outputs:
            os.set_blocking(stream, False)
            selector.register(stream, selectors.EVENT_READ)
        if self._input:
            os.set_blocking(self._stdin.fileno(), False)
            selector.register(self._stdin.fileno(), selectors.EVENT_WRITE)
        else:
            self._stdin.close()

    def _attend(
        self, selector: selectors.BaseSelector, end: int, deadline: float | None
    ) -> bool:
        while True:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return True
            ready = {key.fd for key, _ in selector.select(left)}
            for stream in self._outputs:
                if stream in ready and not self._read(stream):
                    selector.unregister(stream)
            if end in ready:
                self._drain()
                return False
            if ready - {*self._outputs}:
                self._feed(selector)

    def _drain(self) -> None:
        """Read what lies in the pipes; somebody may write into them for ever."""
        for stream in self._outputs:
            with suppress(BlockingIOError):
                for _ in range(_LARGEST_PIPE // _CHUNK):
                    self._read(stream)

    def _read(self, stream: int) -> bool:
        """Take what is there; False if nothing will come any more."""
        data = os.read(stream, _CHUNK)
        kept = self._kept[stream]
        room = MOST_OUTPUT - len(kept)
        kept += data[:room]
        self.truncated |= len(data) > room
        if data and self._program.write is not None:
            self._program.write(data, stream == self._outputs[True])
        return bool(data)

    def _feed(self, selector: selectors.BaseSelector) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._input[:_CHUNK])
        except BrokenPipeError:
            written = len(self._input)  # it does not want the rest
        self._input = self._input[written:]
        if not self._input:
            selector.unregister(self._stdin.fileno())
            self._stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _as_shells_say(code: int) -> int:
    """Turn a code of `subprocess` into that of a shell."""
    return code if code >= 0 else 128 - code


def _die_with_script() -> None:
    kernel.die_with_parent(signal.SIGKILL)
