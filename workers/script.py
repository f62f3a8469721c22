"""How a job whose payload is a script is run: room, process, output, outcome."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from horus_celery.errors import NotCoveredError
from horus_celery.lifecycle import Event
from horus_celery.runner.node import GIVEN_UP, Assignment, Node, Outcome
from horus_celery.statements.job import Job
from horus_celery.store.base import Stream
from workers import cgroup
from workers.attendance import Attendance, attendance
from workers.capture import STOP_GRACE, Console, End, Watcher, follow
from workers.cgroup import Group, Groups
from workers.herodb.service import HeroDb
from workers.kinds import Kind
from workers.launch import SYSTEM_PATH, Command, Launcher, Places, Process
from workers.masking import mask_of
from workers.meter import Excess, Meter
from workers.room import BadResult, Room, private_room, remove_abandoned

_KB: Final = 1024
#: What is kept of a job's output, whatever it allows: so much fits into one value of
#: the store even when every byte has to be replaced by a character of three.
MAX_OUTPUT: Final = 4 * 1024 * _KB
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: A file system with less than this is full.
_NOTHING_LEFT: Final = 64 * _KB
#: By these a process ends that used up its processor time, with how much of it the
#: kernel's account shows at least then: it has two, and on a busy machine they differ.
_BY_CPU: Final[Mapping[int, float]] = MappingProxyType(
    {128 + signal.SIGXCPU: 0.5, 128 + signal.SIGKILL: 0.6}
)
#: Too many processes have no reason of their own; the job's log says it.
_REASONS: Final[Mapping[End | Excess, str]] = MappingProxyType(
    {
        End.TIMEOUT: "timeout",
        Excess.MEMORY: "memory",
        Excess.CPU: "cpu",
        Excess.PROCESSES: "exit_code",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptExecutor:
    """Runs a job's payload as a script of one kind."""

    kind: Kind
    launcher: Launcher
    #: What serves jobs that have HeroDB.
    herodb: HeroDb
    #: What makes cgroups for jobs, where there can be any.
    groups: Groups | None = None
    #: Whether a job that is to have no network must not run where it would have one.
    requires_apart: bool = False
    #: Between asking a script to stop and ending it.
    stop_grace: timedelta = STOP_GRACE

    def check(self, job: Job) -> None:
        if self.requires_apart and job.net != "host" and not self.launcher.cuts_network:
            raise NotCoveredError(
                "auth.net",
                f"this node cannot keep a job with net {job.net!r} from the network,"
                " and has to (sandbox_required)",
            )

    def run(self, assignment: Assignment, node: Node, behind: ExitStack) -> Outcome:
        with attendance(assignment, node) as attending:
            outcome = self._run(assignment, node, attending, behind)
        level = self.launcher.level
        return replace(
            outcome,
            sandbox=level if self.groups is None else f"{level}+cgroup",
            last=attending.last,
            unsent=attending.unsent,
        )

    def _run(
        self,
        assignment: Assignment,
        node: Node,
        attending: Attendance,
        behind: ExitStack,
    ) -> Outcome:
        job, secrets = assignment.job, assignment.secrets
        inputs = {one.name: one.data for one in assignment.inputs}
        values = {name: one.get_secret_value() for name, one in secrets.items()}
        limit = min(job.limits.output_kb * _KB, MAX_OUTPUT)
        console = Console(
            limit=limit,
            clock=node.clock,
            pass_on=attending.say,
            mask=mask_of(secrets),
        )
        # Who had the slot before may have been killed, and left its job to run.
        if self.groups is not None:
            with suppress(OSError):
                cgroup.remove_abandoned(self.groups.base)
        with suppress(OSError):
            remove_abandoned(node.rooms)
        its_own = private_room(
            node.rooms,
            job.payload,
            inputs,
            values=values,
            suffix=self.kind.suffix,
            owner=self.launcher.owner,
            is_written_to=not self.launcher.has_own_files,
        )
        try:
            room = behind.enter_context(its_own)
            with (
                self._herodb(job, room),
                self._group(job, room) as group,
                self._start(assignment, room, group) as process,
            ):
                meter = Meter(process, job.limits)
                watcher = Watcher(
                    stop=attending.stop,
                    timeout=job.timeout,
                    grace=self.stop_grace,
                    meter=meter,
                    begin=attending.begin,
                )
                end = follow(process, console, watcher)
                ended_at = node.clock.now()
                if (fault := process.fault()) is not None:
                    raise fault
                is_given_up = end is End.STOPPED and attending.is_lost
                if is_given_up or process.is_lost():
                    code = process.exit_code()
                    return _outcome(Event.FAILED, GIVEN_UP, code, console)
                ran = _Ran(job, room, group, process, console, limit)
                return replace(_conclude(end, ran), ended_at=ended_at)
        except OSError as error:
            reason = "no_space" if error.errno in _NO_SPACE else "executor"
            _say(console, f"the script could not be started: {error.strerror}")
            return _outcome(Event.FAILED, reason, None, console)

    def _herodb(self, job: Job, room: Room) -> AbstractContextManager[None]:
        if job.net == "none":
            return nullcontext()
        owner = self.launcher.owner
        name = room.herodb.name
        return self.herodb.serving(job.context_id, name, room.folder, owner=owner)

    def _group(self, job: Job, room: Room) -> AbstractContextManager[Group | None]:
        if self.groups is None:
            return nullcontext()
        return self.groups.of_job(room.path.name, job.limits)

    def _start(
        self, assignment: Assignment, room: Room, group: Group | None
    ) -> closing[Process]:
        job = assignment.job
        places = self.launcher.places(room)
        command = Command(
            interpreter=self.kind.program,
            host=self.kind.host,
            places=places,
            args=(*self.kind.behind, *job.args),
            env=_environment(job, places, self.kind),
            room=room,
            limits=job.limits,
            has_network=job.net == "host",
            has_herodb=job.net == "herodb",
            context_id=job.context_id if assignment.is_bound else None,
            group=None if group is None else group.door,
        )
        return closing(self.launcher.start(command))


@dataclass(frozen=True, slots=True)
class _Ran:
    """A script that has ended, with what it leaves."""

    job: Job
    room: Room
    group: Group | None
    process: Process
    console: Console
    #: The most bytes of a result.
    limit: int


def _environment(job: Job, places: Places, kind: Kind) -> Mapping[str, str]:
    secrets = {"HORUS_SECRETS": places.secrets} if job.secrets else {}
    herodb = {"HERODB_URL": f"unix://{quote(places.herodb)}"}
    return {
        "LANG": "C.UTF-8",
        **job.env_vars,
        "PATH": SYSTEM_PATH,
        "HOME": places.work,
        "TMPDIR": places.work,
        "HORUS_INPUTS": places.inputs,
        "HORUS_RESULT": places.result,
        "HORUS_JOB_ID": job.id,
        "HORUS_CONTEXT_ID": job.context_id,
        **secrets,
        **kind.variables,
        # A host's functions say which of them the job's network does not allow.
        **({"HORUS_NET": job.net} if kind.host else {}),
        **(herodb if job.net != "none" else {}),
    }


def _conclude(end: End | Excess, ran: _Ran) -> Outcome:
    code = ran.process.exit_code()
    if end is End.STOPPED:
        return _outcome(Event.STOPPED, None, code, ran.console)
    if end is not End.BY_ITSELF:
        if end is Excess.PROCESSES:
            _say(ran.console, f"more than {ran.job.limits.procs} processes")
        return _outcome(Event.FAILED, _REASONS[end], code, ran.console)
    if code != 0:
        return _outcome(Event.FAILED, _reason_why(code, ran), code, ran.console)
    return _completed(ran)


def _reason_why(code: int, ran: _Ran) -> str:
    """Return why a script ended badly by itself: a limit it met, or its own doing."""
    if ran.process.had_no_memory() or (ran.group and ran.group.had_no_memory()):
        return "memory"
    cpu = timedelta(seconds=ran.job.limits.cpu_s)
    if code in _BY_CPU and ran.process.cpu_time() >= cpu * _BY_CPU[code]:
        return "cpu"
    if _is_full(ran.process.out):
        return "no_space"
    return "exit_code"


def _is_full(folder: int) -> bool:
    space = os.fstatvfs(folder)
    return space.f_bavail * space.f_frsize < _NOTHING_LEFT or space.f_favail == 0


def _completed(ran: _Ran) -> Outcome:
    try:
        written = ran.room.read_result(ran.process.out, limit=ran.limit)
    except BadResult as error:
        _say(ran.console, error.detail)
        return _outcome(Event.FAILED, "executor", 0, ran.console)
    done = _outcome(Event.COMPLETED, None, 0, ran.console)
    if written is None:
        return done
    return replace(done, result=_text(ran.console.mask.apply(written)))


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
