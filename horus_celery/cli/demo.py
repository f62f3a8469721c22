"""`horus demo`: in seconds, what Horus does and what it refuses, really done."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from horus_celery import admission, wiring
from horus_celery.cli import FAILED, INTERRUPTED, output
from horus_celery.cli.run import summary
from horus_celery.cli.signals import until_asked
from horus_celery.cli.up import running
from horus_celery.client import Horus, Outcome, RpcError
from horus_celery.errors import HorusError
from horus_celery.lifecycle import Status
from horus_celery.processes.platform import Platform
from horus_celery.settings import PREFIX, load_settings
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair, read_key_file
from horus_celery.store.base import LogLine
from horus_celery.store.connection import ask
from horus_celery.store.connection import connect as connect_redis
from horus_celery.store.keys import queue

_STEPS: Final = """\
import time
for number in range(1, 4):
    print(f"step {number} of 3")
    time.sleep(0.2)
"""
_SHELL: Final = 'echo "hello, $1, from bash ${BASH_VERSION%%(*}"'
_FAILS: Final = "echo 'the disk is not there' >&2; exit 7"
_SLEEPS: Final = "print('I would sleep for a minute'); import time; time.sleep(60)"
#: Bytes of the temporary folder's path that leave room for a socket below it.
_LONGEST: Final = 50
#: How long the runners may take to answer a forged bell.
_PATIENCE: Final = timedelta(seconds=5)


class Unexpected(Exception):
    """A scene did not end as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the scenes are played with."""

    platform: Platform
    client: Horus
    key: KeyPair
    #: A file that only a forged job would write.
    trap: Path


Scene = Callable[[Stage], str]


@click.command()
def command() -> int:
    """Show in seconds what Horus does, on a deployment of its own.

    Everything is real: a Redis, an API, runners, signatures; on free ports, with a
    temporary state directory. Nothing is left behind.
    """
    ended: list[bool] = []
    with until_asked(), _stage() as stage:
        # All of them are played, also behind one that went wrong.
        ended = [_is_well(title, scene, stage) for title, scene in SCENES.items()]
        output.line()
        output.line("Ending everything …")
    if not ended:
        output.line("Ended before all was shown.")
        return INTERRUPTED
    is_well = all(ended)
    verdict = "All went as it should." if is_well else "Not all went as it should."
    output.line(verdict)
    return 0 if is_well else FAILED


# --- scenes ------------------------------------------------------------------


def _python_is_followed(stage: Stage) -> str:
    return _told(stage.client.run(_STEPS, on_line=_show), Status.COMPLETED)


def _shell_has_arguments(stage: Stage) -> str:
    outcome = stage.client.run(_SHELL, executor="system", args=["world"], on_line=_show)
    return _told(outcome, Status.COMPLETED)


def _failure_has_an_exit_code(stage: Stage) -> str:
    outcome = stage.client.run(_FAILS, executor="system", on_line=_show)
    return _told(outcome, Status.FAILED, "exit_code")


def _timeout_kills(stage: Stage) -> str:
    outcome = stage.client.run(_SLEEPS, timeout=timedelta(seconds=1), on_line=_show)
    return _told(outcome, Status.FAILED, "timeout")


def _tampering_is_refused(stage: Stage) -> str:
    """Change a signed job, and see the supervisor refuse it."""
    settings = stage.platform.settings
    job = make_job(
        aud=settings.namespace,
        caller_id="default",
        context_id="default",
        executor="python",
        payload="print('what was signed')",
        now=datetime.now(UTC),
    )
    signed = dsse.sign(dsse.JOB, job.body(), [stage.key])
    changed = job.body().replace(b"what was signed", b"what was wanted")
    tampered = dsse.Envelope(dsse.JOB, changed, signed.signatures)
    try:
        stage.client.submit_signed(tampered, job=job)
    except RpcError as error:
        if error.reason == "sig.none":
            return f"refused by the supervisor: {error.reason}: {error.detail}"
        raise
    raise Unexpected("the supervisor took a job that nobody signed")


def _forged_record_is_refused(stage: Stage) -> str:
    """Write a record past the API, signed by nobody we trust, and ring for it."""
    settings, now = stage.platform.settings, datetime.now(UTC)
    job = make_job(
        aud=settings.namespace,
        caller_id="default",
        context_id="default",
        executor="python",
        payload=f"open({str(stage.trap)!r}, 'w').write('a forged job ran')",
        now=now,
    )
    envelope = dsse.sign(dsse.JOB, job.body(), [KeyPair.generate()])
    forged = admission.Admitted(
        job=job,
        digest=envelope.digest,
        envelope=dsse.to_json(envelope),
        signed_by=(stage.key.keyid,),  # which is a lie
    )
    wiring.make_store(settings).add(
        admission.summary(forged),
        forged.envelope,
        at=now,
        priority=4,
        not_before=None,
        queue=job.executor,
    )
    wiring.make_dispatcher(settings).ring(job.id, job.executor, 4)
    return _told(stage.client.outcome(envelope.digest), Status.REJECTED, "sig.none")


def _foreign_message_is_dropped(stage: Stage) -> str:
    """Put a message into the queue that would run a command in an open worker."""
    redis = connect_redis(wiring.redis_url(stage.platform.settings))
    name = queue("python", 4)
    ask(redis, "LPUSH", name, _malicious(stage.trap))
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while ask(redis, "LLEN", name):
        if time.monotonic() > deadline:
            raise Unexpected("the runner did not take the message")
        time.sleep(0.01)
    # The same runner goes on as if nothing had been.
    _told(stage.client.run("print('still here')", on_line=_show), Status.COMPLETED)
    if stage.trap.exists():
        raise Unexpected("the message ran something")
    return "dropped unread by the runner, and the next job ran"


SCENES: Final[Mapping[str, Scene]] = {
    "A Python job, followed live": _python_is_followed,
    "A shell job with an argument": _shell_has_arguments,
    "A job that fails": _failure_has_an_exit_code,
    "A job over its timeout of 1 s": _timeout_kills,
    "A job that was changed after it was signed": _tampering_is_refused,
    "A record forged in Redis, with a bell for it": _forged_record_is_refused,
    "A pickle pushed into the Celery queue": _foreign_message_is_dropped,
}


# --- the stage ---------------------------------------------------------------


@contextmanager
def _stage() -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="horus-demo-", dir=_short_folder()))
    try:
        # The user's settings are for the user's own deployment.
        config = folder / "horus.toml"
        config.touch()
        settings = load_settings(
            env={}, config=config, state_dir=folder / "state", port=0, flower_port=0
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        base = {**kept, "HORUS_CONFIG": str(config)}
        output.line("Starting Redis, API, runners and Flower …")
        began = time.monotonic()
        with running(settings, tell=_say_nothing, base=base) as platform:
            _tell_ready(platform, timedelta(seconds=time.monotonic() - began))
            state = platform.state
            key = read_key_file(state.key_file("default"))
            with Horus(
                platform.addresses.api,
                state.secret("user"),
                key=key,
                root=state.root_public(),
            ) as client:
                yield Stage(
                    platform=platform, client=client, key=key, trap=folder / "trap"
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str:
    """Return the folder for temporary files, if a socket has room below it."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _LONGEST else "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own


def _tell_ready(platform: Platform, took: timedelta) -> None:
    addresses = platform.addresses
    output.line(f"Ready after {took.total_seconds():.1f} s.")
    output.fields(
        [
            ("API", addresses.api),
            ("Flower", addresses.flower or "none"),
            ("State directory", platform.state.path),
        ]
    )


def _is_well(title: str, scene: Scene, stage: Stage) -> bool:
    output.line()
    output.line(f"{title}:")
    try:
        told = scene(stage)
    except (HorusError, Unexpected) as error:
        output.line(f"  WRONG: {output.printable(str(error))}")
        return False
    output.line(f"  {told}")
    return True


def _told(outcome: Outcome, status: Status, reason: str | None = None) -> str:
    told = summary(outcome)
    if (outcome.status, outcome.reason) != (status, reason) or not outcome.is_verified:
        raise Unexpected(told)
    return told


def _malicious(trap: Path) -> bytes:
    """Return a message whose body, unpickled, writes the trap."""
    body = f"cposix\nsystem\n(Vtouch '{trap}'\ntR.".encode()
    message = {
        "body": b64encode(body).decode(),
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"task": "celery.map", "id": "0", "lang": "py"},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "0",
            "delivery_info": {"exchange": "", "routing_key": "python"},
        },
    }
    return json.dumps(message).encode()


def _show(line: LogLine) -> None:
    output.line(f"  {line.stream.value} | {output.printable(line.text)}")


def _say_nothing(_: str) -> None:
    """Keep quiet about what was made in the temporary directory."""
