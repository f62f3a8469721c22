"""`horus doctor`: what is wrong here, and the command that mends it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import click

from horus_celery import __version__, certificates, redis_server
from horus_celery.cli import FAILED, output, vitals
from horus_celery.cli.connection import (
    json_option,
    pasted,
    read_settings,
    state_option,
)
from horus_celery.cli.findings import Finding, Patient, Said, Verdict
from horus_celery.clock import SystemClock
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.node_secrets import read_value
from horus_celery.processes.addresses import with_ports
from horus_celery.processes.programs import environment
from horus_celery.statedir import (
    CLOCK_SKEW,
    TRUST_RENEWAL,
    StateDirectory,
)
from horus_celery.statements.keys import read_key_file
from horus_celery.statements.trust import Trust
from horus_celery.store import connection
from horus_celery.wiring import redis_url

#: Packages whose version decides whether this works, with what is known to work.
_PACKAGES: Final = {
    "celery": "5.7.",
    "kombu": "5.7.",
    "flask-jsonrpc": "4.0.",
    "pynacl": "1.",
    "redis": "",
    "flower": "2.2.",
    "supervisor": "4.3.",
    "gunicorn": "",
}
#: No machine's clock is right that shows a time before this was written.
_EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)


@click.command()
@state_option
@json_option
def command(*, state_dir: Path | None, as_json: bool) -> int:
    """Say what is wrong here, and the command that mends it.

    The exit code is 1 if something is wrong.
    """
    settings = read_settings(state_dir)
    findings = examine(
        Patient(
            settings=settings,
            state=StateDirectory(settings.state_dir),
            clock=SystemClock(),
            paste=partial(pasted, state_dir=state_dir),
        )
    )
    if as_json:
        output.data([asdict(finding) for finding in findings])
    else:
        for found in findings:
            output.line(_line(found))
    is_ill = any(found.verdict is Verdict.WRONG for found in findings)
    return FAILED if is_ill else 0


def examine(patient: Patient) -> list[Finding]:
    """Make every check; one that breaks is a finding as well."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            for verdict, detail, remedy in check(patient):
                findings.append(
                    Finding(name=name, verdict=verdict, detail=detail, remedy=remedy)
                )
        except HorusError as error:
            findings.append(
                Finding(name=name, verdict=Verdict.WRONG, detail=error.detail)
            )
    return findings


def _versions(_: Patient) -> Iterator[Said]:
    found = {}
    for package, wanted in _PACKAGES.items():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            yield Verdict.WRONG, f"{package} is missing", "install Horus again"
            continue
        if not found[package].startswith(wanted):
            detail = f"{package} is {found[package]}; only {wanted}x is known to work"
            yield Verdict.WRONG, detail, f"pip install '{package}=={wanted}*'"
    told = ", ".join(f"{package} {number}" for package, number in found.items())
    yield Verdict.OK, f"horus {__version__}; {told}", ""


def _state(patient: Patient) -> Iterator[Said]:
    state = patient.state
    state.check_place()
    if not state.is_there():
        yield Verdict.NOTE, f"{state.path} is not made yet", patient.paste("init")
        return
    yield Verdict.OK, f"{state.path}, for this user alone", ""
    disk = os.statvfs(state.path)
    room = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    if disk.f_flag & os.ST_RDONLY:
        detail = f"the file system of {state.path} is read-only: no job starts"
        yield Verdict.WRONG, detail, "see why (dmesg), and mount it for writing again"
    elif not room or (disk.f_files and not disk.f_favail):
        detail = f"the disk of {state.path} is full: no job starts"
        yield Verdict.WRONG, detail, "make room there: by itself all then goes on"


def _files(patient: Patient) -> Iterator[Said]:
    state = patient.state
    if not state.is_there():
        return
    faults = list(state.faults(patient.wanted))
    yield from ((Verdict.WRONG, fault, "") for fault in faults)
    if not faults:
        detail = "keys, secrets and trust bundle can be used, by this user alone"
        yield Verdict.OK, detail, ""


def _keys(patient: Patient) -> Iterator[Said]:
    state, trust = patient.state, _trust_of(patient)
    if trust is None:
        return
    if not state.has_root_key():
        yield Verdict.NOTE, "the root key is not here: trust is changed elsewhere", ""
    granted = {keyid for grant in trust.grants for keyid in grant.keys}
    for path in sorted(state.keys.glob("*.key")):
        with suppress(ConfigurationError):
            if read_key_file(path).keyid not in granted:
                name = path.stem
                words = ("--context", name, "--caller", name, "--key", name)
                detail = f"the key {name} may sign nothing"
                yield Verdict.NOTE, detail, patient.paste("trust", "grant", *words)
    actors = {actor.name for actor in patient.settings.actors}
    for runner in patient.wanted:
        if trust.runner(runner.name) is None:
            detail = f"the trust bundle has no runner {runner.name}"
            verdict = Verdict.WRONG
            if patient.running is None and runner.name not in actors:
                # Who only runs `horus supervisor` here needs none.
                verdict, detail = Verdict.NOTE, f"{detail}, which `horus up` starts"
            yield verdict, detail, patient.paste("init")
    yield Verdict.OK, f"the trust bundle knows {len(trust.keys)} keys", ""


def _trust(patient: Patient) -> Iterator[Said]:
    trust, now = _trust_of(patient), patient.now
    if trust is None:
        return
    if trust.aud != patient.settings.namespace:
        detail = (
            f"the bundle is for the namespace {trust.aud}, the settings say"
            f" {patient.settings.namespace}"
        )
        yield Verdict.WRONG, detail, f"set namespace = {trust.aud!r}"
    renew = patient.paste("trust", "renew")
    if not patient.state.has_root_key():
        renew += " where the root key lies, and bring its trust.json here"
    if trust.is_expired(now):
        detail = f"the bundle expired on {trust.expires_at:%Y-%m-%d}: all is refused"
        yield Verdict.WRONG, detail, renew
    elif trust.expires_at - now < TRUST_RENEWAL:
        yield Verdict.NOTE, f"the bundle ends on {trust.expires_at:%Y-%m-%d}", renew
    else:
        detail = f"version {trust.version}, until {trust.expires_at:%Y-%m-%d}"
        yield Verdict.OK, detail, ""


def _trust_of(patient: Patient) -> Trust | None:
    """Return the trust bundle; why it cannot be read is told with the other files."""
    with suppress(ConfigurationError):
        return patient.state.trust()
    return None


def _secrets(patient: Patient) -> Iterator[Said]:
    files = {name: one.file for name, one in patient.settings.node_secrets.items()}
    is_well = True
    for name, file in files.items():
        try:
            read_value(file)
        except ConfigurationError as error:
            yield Verdict.WRONG, f"{name} lies in {error.detail}", ""
            is_well = False
    grants = () if (trust := _trust_of(patient)) is None else trust.grants
    for name in sorted({name for grant in grants for name in grant.secrets}):
        if name not in files:
            detail = f"{name} is granted, but it is not on this node"
            yield Verdict.NOTE, detail, "name its file under node_secrets in horus.toml"
    if files and is_well:
        yield Verdict.OK, f"scripts may be given {', '.join(files)}", ""


def _clock(patient: Patient) -> Iterator[Said]:
    now, mend = patient.now, "set the clock: timedatectl set-ntp true"
    told = f"it shows {now:%Y-%m-%d %H:%M:%S} UTC"
    if now < _EARLIEST:
        yield Verdict.WRONG, told, mend
        return
    trust = _trust_of(patient)
    if trust is not None and trust.issued_at > now + CLOCK_SKEW:
        detail = (
            f"{told}; the trust bundle was signed at {trust.issued_at:%Y-%m-%d %H:%M}"
        )
        yield Verdict.WRONG, detail, mend
        return
    yield Verdict.OK, told, ""


def _redis(patient: Patient) -> Iterator[Said]:
    url = patient.settings.redis_url
    mine = connection.shown(redis_url(patient.settings))
    up = patient.running
    if up is not None and up.redis not in (None, mine):
        detail = f"what is up here uses {up.redis}, these settings say {mine}"
        remedy = "set HORUS_REDIS_URL as for what is up, and ask again"
        if up.config is not None:
            config = shlex.quote(str(up.config))
            remedy = f"HORUS_CONFIG={config} {patient.paste('doctor')}"
        yield Verdict.WRONG, f"{detail}: nothing was looked for there", remedy
        return
    if url is not None:
        namespace = patient.settings.namespace
        number = redis_server.require_usable(url, namespace=namespace)
        with connection.answering():
            seconds, _ = connection.connect(url).time()
        yield Verdict.OK, f"{connection.shown(url)} answers, version {number}", ""
        apart = abs(datetime.fromtimestamp(seconds, UTC) - patient.now)
        if apart > CLOCK_SKEW:
            detail = f"its machine's clock differs from this one's by {apart}"
            yield Verdict.NOTE, detail, "set both clocks"
        return
    server = redis_server.find_server()
    number = ".".join(map(str, server.version))
    yield Verdict.OK, f"{server.path}, version {number}", ""
    state = patient.state
    if patient.running is None:
        return
    url, namespace = redis_server.url(state), patient.settings.namespace
    if why := redis_server.find_fault(url, namespace=namespace):
        detail = f"the one that is up on {state.redis_socket} cannot be used: {why}"
        remedy = f"see that there is room for {state.redis}, and look into {state.logs}"
        yield Verdict.WRONG, detail, f"{remedy}/redis.log"


def _tmux(patient: Patient) -> Iterator[Said]:
    actors = patient.settings.actors
    names = [actor.name for actor in actors if actor.process_manager != "simple"]
    if names and shutil.which("tmux") is None:
        detail = f"not installed; it is to run {', '.join(names)}"
        yield Verdict.WRONG, detail, "apt-get install tmux"
    elif names:
        yield Verdict.OK, f"installed; it is to run {', '.join(names)}", ""


def _tls(patient: Patient) -> Iterator[Said]:
    settings = patient.settings
    if settings.tls_cert is not None and settings.tls_key is not None:
        why = certificates.fault_of(settings.tls_cert, settings.tls_key)
        if why is None:
            yield Verdict.OK, f"the API shows {settings.tls_cert}", ""
            return
        detail = f"nobody on another machine believes {settings.tls_cert}: {why}"
        yield Verdict.WRONG, detail, "renew it: it is shown without a restart"
    elif settings.is_open_to_others:
        detail = f"{settings.bind_address} without TLS: secrets pass in the open"
        yield Verdict.NOTE, detail, "set tls_cert and tls_key"
    else:
        yield Verdict.OK, "without it only this machine reaches the API", ""


def _ports(patient: Patient) -> Iterator[Said]:
    running = patient.running
    if running is not None:
        flower = f", Flower {running.flower}" if running.flower else ""
        detail = f"Horus is up: {running.api}{flower}"
        yield Verdict.OK, detail, ""
        return
    wanted = patient.settings
    if vitals.is_served_by_others(wanted):
        detail = f"a Horus that was started piece by piece serves at {wanted.api_url}"
        yield Verdict.NOTE, detail, "if it is not yours, choose another port"
        return
    chosen = with_ports(wanted)
    detail = f"{chosen.port} is free for the API: Horus is not up here"
    yield Verdict.OK, detail, ""
    if wanted.flower_port and chosen.flower_port != wanted.flower_port:
        yield (
            Verdict.NOTE,
            f"{wanted.flower_port} is taken: Flower would get a free port",
            "set flower_port",
        )


def _containment(patient: Patient) -> Iterator[Said]:
    said = _asked("workers.trial", patient)
    if said is None:
        yield Verdict.WRONG, "a script cannot be started here", "install Horus again"
        return
    works = f"works here: {', '.join([*said['works'], 'plain'])}"
    if said["level"] is None:
        yield Verdict.WRONG, f"no runner starts; {works}", 'set sandbox = "auto"'
    else:
        yield Verdict.OK, f"scripts run at the level {said['level']} ({works})", ""
    is_demanded = patient.settings.sandbox_required and not said["cuts_network"]
    if said["level"] is not None and is_demanded:
        detail = "sandbox_required: a job without a network is refused here"
        yield Verdict.WRONG, detail, 'set sandbox = "auto", and install libseccomp2'
    verdict = Verdict.WRONG if is_demanded or not said["level"] else Verdict.NOTE
    for fault in said["faults"]:
        detail = f"{fault['level']} does not work here: {fault['detail']}"
        yield verdict, detail, fault["remedy"]
    if said["landlock"] is None:
        yield Verdict.OK, "this kernel has no Landlock", ""
    else:
        yield Verdict.OK, f"Landlock is here, version {said['landlock']}", ""
    if said["filter"] is not None:
        yield Verdict.NOTE, f"scripts get every system call: {said['filter']}", ""
    if said["cgroup"] is None:
        yield Verdict.OK, "a runner started here gives each job a cgroup", ""
    else:
        detail = f"a runner started here gives no job a cgroup: {said['cgroup']}"
        yield Verdict.OK, detail, ""


def _executors(patient: Patient) -> Iterator[Said]:
    faults = _asked("workers.kinds", patient)
    if faults is None:
        yield Verdict.WRONG, "executors cannot be looked at", "install Horus again"
        return
    settings = patient.settings
    wanted = {*settings.executors, *(one.executor for one in settings.actors)}
    served = [name for name, fault in faults.items() if fault is None]
    yield Verdict.OK, f"can be served here: {', '.join(served)}", ""
    for name, fault in faults.items():
        if fault is not None:
            verdict = Verdict.WRONG if name in wanted else Verdict.OK
            yield verdict, f"{name} cannot be served here: {fault}", ""


def _asked(module: str, patient: Patient) -> Any | None:  # noqa: ANN401 - any JSON
    """Return what the executors say themselves, whom the core does not know."""
    asked = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", module],
        env=environment(patient.settings),
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        return json.loads(asked.stdout)
    except ValueError:
        return None


def _setpriv(_: Patient) -> Iterator[Said]:
    if shutil.which("setpriv") is None:
        detail = "not installed: what a killed `horus up` started may go on"
        yield Verdict.NOTE, detail, "apt-get install util-linux"
    else:
        yield Verdict.OK, "programs end with the one that started them", ""


#: Every check by its name, in the order in which one would mend things.
CHECKS: Final[dict[str, Callable[[Patient], Iterator[Said]]]] = {
    "versions": _versions,
    "state directory": _state,
    "files": _files,
    "keys": _keys,
    "trust bundle": _trust,
    "secrets": _secrets,
    "clock": _clock,
    "redis": _redis,
    "tls": _tls,
    "ports": _ports,
    "api": vitals.api,
    "programs": vitals.programs,
    "runners": vitals.runners,
    "jobs": vitals.jobs,
    "tmux": _tmux,
    "executors": _executors,
    "containment": _containment,
    "setpriv": _setpriv,
}


def _line(found: Finding) -> str:
    remedy = f"\n{'':24}→ {found.remedy}" if found.remedy else ""
    return f"{found.verdict.value:<6} {found.name:<16} {found.detail}{remedy}"
