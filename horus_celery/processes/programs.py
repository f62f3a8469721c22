"""What is run: the commands and the environment of a deployment's programs."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import horus_celery
from horus_celery import redis_server
from horus_celery.crew import Crew
from horus_celery.errors import ConfigurationError
from horus_celery.processes import procfile
from horus_celery.processes.base import GRACE
from horus_celery.processes.supervisord import Program
from horus_celery.settings import PREFIX, Actor, Settings, find_file
from horus_celery.statedir import StateDirectory

API: Final = "api"
COORDINATOR: Final = "coordinator"
FLOWER: Final = "flower"
#: How long a runner of the Procfile may take to finish what it runs when it is stopped.
STOP_TIMEOUT: Final = timedelta(seconds=60)
#: Before the name of an actor's program: nothing in the Procfile begins so.
_ACTOR: Final = "actor."
#: Settings that the programs are given; secrets stay in their files.
_HANDED_ON: Final = (
    "namespace",
    "bind_address",
    "port",
    "state_dir",
    "executors",
    "concurrency",
    "flower_port",
    "max_job_bytes",
    "max_request_bytes",
    "max_batch",
    # Their paths may be written as they are seen from here, and some need not be there
    # for who reads them in a variable.
    "actors",
    "executor_commands",
    "python_env",
    "v_path",
    "hero_cli",
    "sandbox_paths",
    "sal_allow",
    "node_secrets",
    "supervisors",
    "tls_cert",
    "tls_key",
)


def programs(
    crew: Crew, *, platform: Sequence[str] = procfile.PLATFORM
) -> list[Program]:
    """Return the programs of the Procfile: these, and the runners of the crew."""
    lines = procfile.for_executors(_lines(), crew.executors, platform=platform)
    return [
        Program(
            name=name,
            command=tied(line),
            stop_timeout=STOP_TIMEOUT if name in crew.executors else GRACE,
        )
        for name, line in lines.items()
    ]


def program_of(actor: Actor) -> Program:
    """Return the program of an actor, as supervisord knows it.

    Raises:
        ConfigurationError: if it can have none, naming it.
    """
    # A colon means something to supervisord.
    name = _ACTOR + actor.name.replace(":", "+")
    stop_timeout = timedelta(seconds=actor.stop_timeout)
    if actor.binary_path is None:
        command = worker_command(
            actor.name, [actor.executor], concurrency=actor.concurrency
        )
        told = {}
        if actor.python_env is not None:
            told["HORUS_PYTHON_ENV"] = str(actor.python_env)
        return Program(
            name=name,
            command=tied(command),
            environment=told,
            stop_timeout=stop_timeout,
        )
    told = {
        "HORUS_RUNNER_NAME": actor.name,
        "HORUS_RUNNER_EXECUTOR": actor.executor,
    }
    if actor.db_path is not None:
        told["HORUS_DB_PATH"] = str(actor.db_path)
    return Program(
        name=name,
        command=tied([str(actor.binary_path)]),
        environment=told,
        stop_timeout=stop_timeout,
    )


def label(program: str) -> str:
    """Return how a person knows a program: by the runner's name if it is an actor's."""
    if program.startswith(_ACTOR):
        return program.removeprefix(_ACTOR).replace("+", ":")
    return program


def worker_command(
    name: str, executors: Iterable[str], *, concurrency: int | None = None
) -> list[str]:
    """Return the command line of our own Celery worker as a runner.

    Raises:
        ConfigurationError: if Celery would take the name for another.
    """
    if "@" in name:
        raise ConfigurationError(
            f"the runner {name!r} cannot be a Celery worker, whose name ends at an @:"
            " choose another name"
        )
    at_a_time = [] if concurrency is None else ["-c", str(concurrency)]
    return [*procfile.worker_line(name, executors), *at_a_time]


def _lines() -> Mapping[str, Sequence[str]]:
    return procfile.read_procfile(procfile.find_procfile().read_text("utf-8"))


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that ends with its parent, where the machine can do that."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else list(command)


def environment(
    settings: Settings, *, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of the programs: the settings as they were decided."""
    base = os.environ if base is None else base
    values = settings.model_dump(mode="json", include=set(_HANDED_ON))
    given = {
        f"{PREFIX}{name.upper()}": value
        if isinstance(value, str)
        else json.dumps(value)
        for name, value in values.items()
        if value not in (None, [], {})
    }
    state = StateDirectory(settings.state_dir)
    given["HORUS_REDIS_URL"] = settings.redis_url or redis_server.url(state)
    config = find_file(env=base, state_dir=settings.state_dir)
    if config is not None:
        given["HORUS_CONFIG"] = str(config.absolute())
    kept = {k: v for k, v in base.items() if k not in ("HORUS_URL", "HORUS_SECRET")}
    path = [sysconfig.get_path("scripts"), base.get("PATH", os.defpath)]
    imports = [_source_folder(), base.get("PYTHONPATH", "")]
    return {
        **kept,
        **given,
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(filter(None, imports)),
        # What a program says is in its log at once, also when it is killed.
        "PYTHONUNBUFFERED": "1",
    }


def _source_folder() -> str:
    """Return the checkout that we run from, which only this process may have found."""
    folder = Path(horus_celery.__file__).parent.parent
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return "" if str(folder) in installed else str(folder)
