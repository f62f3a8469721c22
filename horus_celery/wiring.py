"""Which concrete pieces go together: the only module that knows them all."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Final

from horus_celery import __version__, redis_server
from horus_celery.clock import Clock, SystemClock
from horus_celery.dispatch import Dispatcher, RedisDispatcher
from horus_celery.execution import Executor, Node
from horus_celery.journal import Journal
from horus_celery.registry import RedisRegistry, Registry
from horus_celery.settings import Settings
from horus_celery.statedir import SCOPES, StateDirectory
from horus_celery.statements.keys import read_key_file
from horus_celery.store.base import RecordStore
from horus_celery.store.connection import connect, connect_blocking
from horus_celery.store.redis import RedisLogs, RedisStore, RedisWakes
from horus_celery.supervisor import Limits, Supervisor
from horus_celery.sweep import Sweep
from horus_celery.trustfile import TrustFile

#: Threads of an API process that are left for calls that do not wait.
SPARE_THREADS: Final = 32


def redis_url(settings: Settings) -> str:
    """Return the Redis to use: the one that is named, else our own."""
    return settings.redis_url or redis_server.url(StateDirectory(settings.state_dir))


def make_store(settings: Settings) -> RecordStore:
    """Return the store of records."""
    return RedisStore(connect(redis_url(settings)), settings.namespace)


def make_dispatcher(settings: Settings, clock: Clock | None = None) -> Dispatcher:
    """Return what rings for jobs."""
    return RedisDispatcher(connect(redis_url(settings)), clock or SystemClock())


def make_registry(settings: Settings) -> Registry:
    """Return the list of runners."""
    return RedisRegistry(connect(redis_url(settings)), settings.namespace)


def make_trust(settings: Settings, journal: Journal | None = None) -> TrustFile:
    """Return the trust bundle of this node."""
    state = StateDirectory(settings.state_dir)
    return TrustFile(
        state.trust_file, state.root_pub, journal or Journal(state.journal)
    )


def make_sweep(settings: Settings, clock: Clock | None = None) -> Sweep:
    """Return what rings again and buries; any number of them may run."""
    return Sweep(
        make_store(settings),
        make_dispatcher(settings, clock),
        clock or SystemClock(),
    )


def make_supervisor(
    settings: Settings, *, threads: int = 256, clock: Clock | None = None
) -> Supervisor:
    """Return the supervisor of this process.

    Args:
        settings: What the deployment chose.
        threads: How many threads serve it.
        clock: Tells the time; the machine's clock by default.
    """
    url = redis_url(settings)
    client = connect(url)
    clock = clock or SystemClock()
    return Supervisor(
        store=RedisStore(client, settings.namespace),
        logs=RedisLogs(client, settings.namespace),
        wakes=RedisWakes(connect_blocking(url), settings.namespace),
        dispatcher=RedisDispatcher(client, clock),
        registry=RedisRegistry(client, settings.namespace),
        trust=make_trust(settings),
        clock=clock,
        namespace=settings.namespace,
        limits=Limits(
            max_job_bytes=settings.max_job_bytes, max_waiters=threads - SPARE_THREADS
        ),
    )


def make_secrets(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Return the secrets of each scope: those of the settings, else the one on disk.

    Raises:
        ConfigurationError: if one on disk cannot be read, or by others, too.
    """
    state = StateDirectory(settings.state_dir)
    configured = {
        "admin": settings.admin_secrets,
        "user": settings.user_secrets,
        "register": settings.register_secrets,
    }
    return {
        scope: tuple(secret.get_secret_value() for secret in configured[scope])
        or (state.secret(scope),)
        for scope in SCOPES
    }


def make_node(
    settings: Settings,
    name: str,
    executors: Mapping[str, Executor],
    *,
    clock: Clock | None = None,
) -> Node:
    """Return what a runner decides on and works with.

    Args:
        settings: What the deployment chose.
        name: The runner's name: its key lies in the state directory.
        executors: What it serves.
        clock: Tells the time; the machine's clock by default.

    Raises:
        ConfigurationError: if its key cannot be read.
    """
    state = StateDirectory(settings.state_dir)
    journal = Journal(state.journal)
    url = redis_url(settings)
    client = connect(url)
    return Node(
        name=name,
        aud=settings.namespace,
        executors=executors,
        key=read_key_file(state.runner_key_file(name)),
        trust=make_trust(settings, journal),
        journal=journal,
        store=RedisStore(client, settings.namespace),
        logs=RedisLogs(client, settings.namespace),
        wakes=RedisWakes(connect_blocking(url), settings.namespace),
        clock=clock or SystemClock(),
        rooms=state.rooms,
        software=f"horus {__version__}, python {platform.python_version()}",
    )
