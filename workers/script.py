"""How a job whose payload is a script is run: room, process, output, outcome."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from horus_celery.execution import GIVEN_UP, Assignment, Node, Outcome
from horus_celery.lifecycle import Event
from horus_celery.statements.job import Job
from horus_celery.store.base import Stream
from workers.attendance import Attendance, attendance
from workers.capture import STOP_GRACE, Console, End, Watcher, follow
from workers.launch import SYSTEM_PATH, Command, Launcher
from workers.room import BadResult, Room, private_room

_KB: Final = 1024
#: What is kept of a job's output, whatever it allows: so much fits into one value of
#: the store even when every byte has to be replaced by a character of three.
MAX_OUTPUT: Final = 4 * 1024 * _KB
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptExecutor:
    """Runs a job's payload as a script of one interpreter."""

    #: The interpreter's command line; the script's path and arguments follow.
    interpreter: tuple[str, ...]
    launcher: Launcher
    #: Between asking a script to stop and ending it.
    stop_grace: timedelta = STOP_GRACE

    def run(self, assignment: Assignment, node: Node) -> Outcome:
        with attendance(assignment, node) as attending:
            outcome = self._run(assignment.job, node, attending)
        return replace(outcome, sandbox=self.launcher.level, unsent=attending.unsent)

    def _run(self, job: Job, node: Node, attending: Attendance) -> Outcome:
        limit = min(job.limits.output_kb * _KB, MAX_OUTPUT)
        console = Console(limit=limit, clock=node.clock, pass_on=attending.say)
        try:
            with private_room(node.rooms, job.payload) as room:
                command = self._command(job, room)
                end, code = self._follow(command, job, console, attending)
                ended_at = node.clock.now()
                if end is End.STOPPED and attending.is_lost:
                    return _outcome(Event.FAILED, GIVEN_UP, code, console)
                outcome = _conclude(end, code, console, room, limit)
                return replace(outcome, ended_at=ended_at)
        except OSError as error:
            reason = "no_space" if error.errno in _NO_SPACE else "executor"
            _say(console, f"the script could not be started: {error.strerror}")
            return _outcome(Event.FAILED, reason, None, console)

    def _command(self, job: Job, room: Room) -> Command:
        return Command(
            argv=(*self.interpreter, str(room.script), *job.args),
            env=_environment(job, room),
            cwd=room.work,
        )

    def _follow(
        self, command: Command, job: Job, console: Console, attending: Attendance
    ) -> tuple[End, int]:
        process = self.launcher.start(command)
        try:
            watcher = Watcher(
                stop=attending.stop, timeout=job.timeout, grace=self.stop_grace
            )
            end = follow(process, console, watcher)
            return end, process.exit_code()
        finally:
            process.close()


def _environment(job: Job, room: Room) -> Mapping[str, str]:
    home = str(room.work)
    return {
        "LANG": "C.UTF-8",
        **job.env_vars,
        "PATH": SYSTEM_PATH,
        "HOME": home,
        "TMPDIR": home,
        "HORUS_INPUTS": str(room.inputs),
        "HORUS_RESULT": str(room.result),
        "HORUS_JOB_ID": job.id,
        "HORUS_CONTEXT_ID": job.context_id,
    }


def _conclude(end: End, code: int, console: Console, room: Room, limit: int) -> Outcome:
    match end:
        case End.TIMEOUT:
            return _outcome(Event.FAILED, "timeout", code, console)
        case End.STOPPED:
            return _outcome(Event.STOPPED, None, code, console)
        case End.BY_ITSELF if code != 0:
            return _outcome(Event.FAILED, "exit_code", code, console)
        case End.BY_ITSELF:
            return _completed(console, room, limit)


def _completed(console: Console, room: Room, limit: int) -> Outcome:
    try:
        written = room.read_result(limit=limit)
    except BadResult as error:
        _say(console, error.detail)
        return _outcome(Event.FAILED, "executor", 0, console)
    done = _outcome(Event.COMPLETED, None, 0, console)
    return done if written is None else replace(done, result=_text(written))


def _outcome(
    event: Event, reason: str | None, code: int | None, console: Console
) -> Outcome:
    return Outcome(
        event=event,
        reason=reason,
        exit_code=code,
        stdout=console.digest(Stream.STDOUT),
        stderr=console.digest(Stream.STDERR),
        result=_text(console.stdout),
    )


def _say(console: Console, message: str) -> None:
    """Tell whoever reads the job's log what the runner could not do."""
    console.write(Stream.STDERR, f"horus: {message}\n".encode())
    console.finish()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
