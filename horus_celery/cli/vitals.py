"""What `horus doctor` finds of a deployment that is up: its API, programs, runners."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import Any, Final, NamedTuple

import httpx

from horus_celery import certificates, kernel, wiring
from horus_celery.cli.findings import Patient, Said, Verdict
from horus_celery.errors import ConfigurationError, HorusError, UnavailableError
from horus_celery.executors import names
from horus_celery.fleet import ManagedStatus, status_of
from horus_celery.holdup import serves
from horus_celery.lifecycle import Status
from horus_celery.processes.lines import last_lines
from horus_celery.processes.managed import ManagedRunner, managers_of
from horus_celery.processes.platform import last_words
from horus_celery.processes.simple import KIND as SIMPLE
from horus_celery.processes.simple import STATUS
from horus_celery.processes.supervisord import ProgramStatus, control_of
from horus_celery.processes.tmux import TmuxManager
from horus_celery.record import Record
from horus_celery.registry import Roll, RunnerBeat, is_alive
from horus_celery.settings import Settings
from horus_celery.statements.trust import Trust
from horus_celery.store.base import Filter

#: How long the API may take; one that lives answers in milliseconds.
_PATIENCE: Final = 3.0  # seconds
#: How many waiting jobs are looked at.
_JOBS: Final = 1000
#: How many lines of a log are looked at.
_LINES: Final = 10_000
#: How tmux begins what it writes into a window whose program has ended.
_DEAD: Final = "Pane is dead"
#: What a runner says once it has looked at everything anew.
_STARTED: Final = "[queues]"
_DEGRADED: Final = "runner degraded"
#: What it says to do in Redis.
_COMMAND: Final = re.compile(r"`(DEL .+)`")
_CLIENT: Final = (
    "import redis, sys;"
    " print(redis.Redis(unix_socket_path=sys.argv[1]).execute_command(*sys.argv[2:]))"
)
_WELL: Final = "runner no longer degraded"


class _Log(NamedTuple):
    """What a runner wrote."""

    #: Its file, or the command that shows it.
    place: str
    lines: Sequence[str]

    @property
    def last_words(self) -> str:
        """The last line that says something, and where it stands."""
        told = (line.strip() for line in reversed(self.lines))
        said = next((one for one in told if one and not one.startswith(_DEAD)), "")
        return f"{said and f': {said[:200]}'} (its log: {self.place})"


class _Lack(NamedTuple):
    """What is not there for jobs that wait."""

    wanted: str
    why: str
    executor: str
    #: The one that has to come, if it is not alive.
    runner: str = ""


@dataclass(frozen=True, slots=True)
class _Believed:
    """A trust bundle as a source of it."""

    trust: Trust

    def current(self) -> Trust:
        return self.trust


def api(patient: Patient) -> Iterator[Said]:
    """Ask the API whether it serves, and whether jobs would be taken and run."""
    here = patient.running
    if here is None:
        return
    try:
        cert = here.tls_cert
        health = _ask(here.api, "/healthz", cert=cert)
        ready = _ask(here.api, "/readyz", cert=cert)
    except httpx.HTTPError as error:
        log = patient.state.logs / "api.log"
        detail = f"nothing answers at {here.api} ({type(error).__name__})"
        yield Verdict.WRONG, detail, f"look into {log}"
        return
    if health.status_code != httpx.codes.OK:
        detail = f"what answers at {here.api} is not well: HTTP {health.status_code}"
        yield Verdict.WRONG, detail, f"look into {patient.state.logs / 'api.log'}"
    missing = _missing(ready)
    for name, why in missing.items():
        yield Verdict.WRONG, f"it is not ready: {name}: {why}", ""
    if not missing:
        yield Verdict.OK, f"{here.api} answers, and is ready", ""


def is_served_by_others(settings: Settings) -> bool:
    """Whether a Horus listens on our port that none of our commands keeps up."""
    try:
        ready = _ask(settings.api_url, "/readyz", cert=settings.tls_cert).json()
    except (httpx.HTTPError, ConfigurationError, ValueError):
        return False
    return isinstance(ready, dict) and ready.get("status") in ("ready", "not ready")


def programs(patient: Patient) -> Iterator[Said]:
    """Look at what supervisord runs besides runners."""
    if patient.running is None:
        return
    state, pid = patient.state, _supervisord(patient)
    if pid and _is_stopped(pid):
        detail = f"supervisord does nothing: process {pid} was stopped"
        yield Verdict.WRONG, detail, f"kill -CONT {pid}"
        return
    found = control_of(state).programs()
    runners = {one.process.program for one in patient.managed}
    ill = False
    for program in found:
        if program.name in runners:
            continue
        for said in _of_a_program(program, state.logs):
            yield said
            ill = True
    if not ill:
        names = ", ".join(one.name for one in found if one.name not in runners)
        yield Verdict.OK, f"supervisord runs {names}", ""


def runners(patient: Patient) -> Iterator[Said]:
    """Look at the runners that this node manages, and at those that only beat here."""
    if patient.running is None:
        return
    by_name = _programs(patient)
    windows, silent = _windows(patient)
    for kind in silent:
        yield Verdict.WRONG, f"tmux does not answer of {kind}", ""
    roll = _roll(patient)
    well = []
    for one in patient.managed:
        if roll is not None and one.name in roll.removed:
            continue
        program = by_name.get(one.process.program) if one.kind == SIMPLE else None
        managed = windows.get(one.name) if program is None else STATUS[program.word]
        beat = None if roll is None else roll.beats.get(one.name)
        if roll is None and managed == "running":
            continue
        now = patient.now if roll is None else roll.at
        if managed is None and (beat is None or not is_alive(beat, now)):
            # That what manages it does not answer is told; how it does, nobody knows.
            continue
        said = tuple(of_a_runner(patient, one, program, managed, beat, now))
        yield from said
        if not said:
            well.append(one.name)
    if roll is None:
        yield Verdict.NOTE, "nobody can tell now whether they take jobs", ""
    elif well:
        yield Verdict.OK, f"these take jobs: {', '.join(well)}", ""


def jobs(patient: Patient) -> Iterator[Said]:
    """Look for jobs that wait for what no live runner serves."""
    roll = None if patient.running is None else _roll(patient)
    if roll is None:
        return
    alive = [beat for beat in roll.beats.values() if is_alive(beat, roll.at)]
    wanted = Filter(status=Status.QUEUED)
    waiting = wiring.make_store(patient.settings).list(wanted, limit=_JOBS)
    unserved = (job for job in waiting if not any(serves(beat, job) for beat in alive))
    counts = Counter(_lack(job, alive) for job in unserved)
    for lack, count in sorted(counts.items()):
        detail = f"{count} wait{'s' * (count == 1)} for {lack.wanted}"
        yield Verdict.WRONG, f"{detail}, and {lack.why}", _cure(patient, lack)


def _lack(job: Record, alive: Sequence[RunnerBeat]) -> _Lack:
    """Say what is not there for a job that no live runner serves."""
    executor, context = job.summary.executor, job.summary.context_id
    runner = job.summary.runner
    if not any(executor in beat.executors for beat in alive):
        return _Lack(executor, "no runner of it is alive", executor)
    work = f"{executor} for the context {context}"
    if runner is None:
        return _Lack(work, "no runner that is alive serves that", executor)
    if any(beat.name == runner for beat in alive):
        return _Lack(f"the runner {runner}", f"it does not serve {work}", executor)
    return _Lack(f"the runner {runner}", "it is not alive", executor, runner)


def _cure(patient: Patient, lack: _Lack) -> str:
    queued = patient.paste("job", "list", "--status", "queued")
    if lack.executor not in names(patient.settings):
        return f"{queued}  # there is no {lack.executor} here"
    if lack.runner:
        if any(one.name == lack.runner for one in patient.managed):
            return patient.paste("runners", "start", lack.runner)
        return f"{queued}  # there is no {lack.runner} here"
    if lack.wanted == lack.executor:
        return patient.paste("runner", lack.executor)
    return f"{queued}  # give a runner that context, or stop them"


def _of_a_program(program: ProgramStatus, logs: Path) -> Iterator[Said]:
    log = logs / f"{program.name}.log"
    if _is_stopped(program.pid):
        detail = f"{program.name} does nothing: process {program.pid} was stopped"
        yield Verdict.WRONG, detail, f"kill -CONT {program.pid}"
    elif program.word == "FATAL":
        detail = f"{program.name} ended again and again and stays down"
        yield Verdict.WRONG, f"{detail}{last_words(log)}", "start all of it again"
    elif program.word not in {"RUNNING", "STARTING"}:
        detail = f"{program.name} is {program.word.lower()}{last_words(log)}"
        yield Verdict.WRONG, detail, ""


def of_a_runner(
    patient: Patient,
    runner: ManagedRunner,
    program: ProgramStatus | None,
    managed: ManagedStatus | None,
    beat: RunnerBeat | None,
    now: datetime,
) -> Iterator[Said]:
    """Say what is wrong with a runner; nothing of one that is well.

    `now` is told by the clock of beats.
    """
    name, log = runner.name, _log_of(patient, runner)
    start = patient.paste("runners", "start", name)
    pid = _pid(program, beat)
    if pid and _is_stopped(pid):
        detail = f"{name} does nothing: its process {pid} was stopped"
        yield Verdict.WRONG, detail, f"kill -CONT {pid}"
        return
    match status_of(beat, managed, now):
        case "running":
            if why := _degraded(log):
                detail = f"{name} does not serve all: {why}"
                yield Verdict.WRONG, detail, _command_for_redis(patient, why)
        case "starting" if program is not None and program.word == "BACKOFF":
            detail = f"{name} ended, and is started again{log.last_words}"
            yield Verdict.WRONG, detail, ""
        case "starting" if beat is not None and is_alive(beat, now):
            why = _degraded(log) or f"its log says why: {log.place}"
            yield Verdict.WRONG, f"{name} is there, and takes no jobs: {why}", ""
        case "starting":
            yield Verdict.NOTE, f"{name} is starting; its log: {log.place}", ""
        case "lost":
            seen = "" if beat is None else f" since {beat.seen_at:%H:%M:%S} UTC"
            stop = patient.paste("runners", "stop", name)
            detail = f"{name} has not been heard{seen}; its log: {log.place}"
            yield Verdict.WRONG, detail, f"{stop}; {start}"
        case "crashed":
            often = " again and again" if runner.kind == SIMPLE else ""
            detail = f"{name} ended{often} and stays down{log.last_words}"
            yield Verdict.WRONG, detail, start
        case "stopped":
            yield Verdict.NOTE, f"{name} was stopped", start


def _ask(url: str, page: str, *, cert: Path | None) -> httpx.Response:
    verify = True if cert is None else certificates.pinned(cert)
    # What a proxy says is of no interest here.
    with httpx.Client(verify=verify, timeout=_PATIENCE, trust_env=False) as client:
        return client.get(f"{url}{page}")


def _missing(ready: httpx.Response) -> Mapping[str, str]:
    if ready.status_code == httpx.codes.OK:
        return {}
    try:
        return dict(ready.json()["missing"])
    except (ValueError, KeyError, TypeError):
        return {"api": f"it answers with HTTP {ready.status_code}"}


def _programs(patient: Patient) -> Mapping[str, ProgramStatus]:
    pid = _supervisord(patient)
    # That it does not answer is told with the other programs.
    with suppress(UnavailableError):
        if pid and not _is_stopped(pid):
            return {one.name: one for one in control_of(patient.state).programs()}
    return {}


def _supervisord(patient: Patient) -> int | None:
    with suppress(OSError, ValueError):
        return int((patient.state.run / "supervisord.pid").read_text("ascii"))
    return None


def _windows(patient: Patient) -> tuple[Mapping[str, ManagedStatus], Sequence[str]]:
    """Return how those in windows do, and which of their managers do not answer."""
    found: dict[str, ManagedStatus] = {}
    silent = []
    for kind, manager in managers_of(patient.state, patient.managed).items():
        if not isinstance(manager, TmuxManager):
            continue
        try:
            found |= manager.statuses()
        except UnavailableError:
            silent.append(kind)
    return found, silent


def _roll(patient: Patient) -> Roll | None:
    names = [one.name for one in patient.managed]
    # That Redis, or the bundle, is of no use is told with those.
    with suppress(HorusError):
        # Where it takes no beats, silence says nothing of a runner.
        wiring.make_store(patient.settings).require_writable()
        # As it lies there: who only looks has nobody learn of a newer one.
        trust = _Believed(patient.state.trust())
        return wiring.make_roster(patient.settings, trust).look(names)
    return None


def _pid(program: ProgramStatus | None, beat: RunnerBeat | None) -> int | None:
    if program is not None:
        return program.pid
    is_here = beat is not None and beat.host == gethostname()
    return beat.pid if beat is not None and is_here else None


def _is_stopped(pid: int) -> bool:
    found = kernel.look_at(pid)
    return found is not None and found[1]


def _command_for_redis(patient: Patient, why: str) -> str:
    """Return how a command that mends our own Redis is given to it, to be pasted."""
    found = _COMMAND.search(why)
    if found is None or patient.settings.redis_url is not None:
        return ""
    socket = str(patient.state.redis_socket)
    # Who has no redis-cli has this Python.
    client = [sys.executable, "-c", _CLIENT, socket]
    return f"{shlex.join(client)} {found[1]}"


def _log_of(patient: Patient, runner: ManagedRunner) -> _Log:
    """Return what a runner wrote; one in a window of tmux has no file for it."""
    if runner.kind == SIMPLE:
        path = patient.state.logs / f"{runner.process.program}.log"
        return _Log(place=str(path), lines=last_lines(path, lines=_LINES))
    lines: Sequence[str] = ()
    manager = managers_of(patient.state, [runner])[runner.kind]
    # That tmux does not answer is told by itself.
    with suppress(UnavailableError):
        lines = manager.logs(runner.name, lines=_LINES)
    return _Log(place=patient.paste("runners", "logs", runner.name), lines=lines)


def _degraded(log: _Log) -> str:
    """Return what keeps a runner from serving all, as it said last; or nothing."""
    for line in reversed(log.lines):
        if _STARTED in line:
            return ""
        with suppress(ValueError):
            said: Any = json.loads(line)
            event = said.get("event") if isinstance(said, dict) else None
            if event == _WELL:
                return ""
            if event == _DEGRADED:
                return str(said.get("detail", ""))
    return ""
