"""What is run: the commands and the environment of a deployment's programs."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import horus_celery
from horus_celery import redis_server
from horus_celery.processes import procfile
from horus_celery.processes.supervisord import Program
from horus_celery.settings import PREFIX, Settings, find_file
from horus_celery.statedir import StateDirectory

FLOWER: Final = "flower"
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
)


def programs(settings: Settings) -> list[Program]:
    """Return the programs of the Procfile, for the executors of the settings."""
    text = procfile.find_procfile().read_text("utf-8")
    lines = procfile.for_executors(procfile.read_procfile(text), settings.executors)
    return [Program(name=name, command=tied(line)) for name, line in lines.items()]


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
        if value is not None
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
