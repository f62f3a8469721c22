"""Every adapter of every port, so that one suite judges them all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from horus_celery.api_secrets.shelf import MemoryShelf, RedisShelf, SecretShelf
from horus_celery.dispatch import Dispatcher, MemoryDispatcher, RedisDispatcher
from horus_celery.registry import MemoryRegistry, RedisRegistry, Registry
from horus_celery.store.base import LogStore, RecordStore, Wakes
from horus_celery.store.connection import connect, connect_blocking
from horus_celery.store.keys import Keys
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes
from horus_celery.store.memory_workflows import MemoryWorkflows
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.store.redis_wakes import RedisWakes
from horus_celery.store.redis_workflows import RedisWorkflows
from horus_celery.store.workflows import WorkflowStore
from horus_celery.trustpost import (
    MemoryNoticeboard,
    Noticeboard,
    RedisNoticeboard,
)


@dataclass(frozen=True)
class Adapters:
    """One adapter of each port, all of the same kind."""

    store: RecordStore
    logs: LogStore
    wakes: Wakes
    dispatcher: Dispatcher
    registry: Registry
    shelf: SecretShelf
    board: Noticeboard
    workflows: WorkflowStore


@pytest.fixture
def memory_adapters(clock):
    wakes = MemoryWakes()
    logs = MemoryLogs(wakes)
    dispatcher = MemoryDispatcher(clock)
    yield Adapters(
        store=MemoryStore(wakes=wakes, logs=logs, ring=dispatcher.ring),
        logs=logs,
        wakes=wakes,
        dispatcher=dispatcher,
        registry=MemoryRegistry(),
        shelf=MemoryShelf(),
        board=MemoryNoticeboard(),
        workflows=MemoryWorkflows(wakes),
    )
    wakes.close()


@pytest.fixture
def redis_adapters(redis_url, namespace, clock):
    with connect(redis_url) as client, connect_blocking(redis_url) as listening:
        wakes = RedisWakes(listening, namespace)
        yield Adapters(
            store=RedisStore(client, namespace),
            logs=RedisLogs(client, namespace),
            wakes=wakes,
            dispatcher=RedisDispatcher(client, clock),
            registry=RedisRegistry(client, namespace),
            shelf=RedisShelf(client, Keys.of(namespace).secrets),
            board=RedisNoticeboard(client, namespace),
            workflows=RedisWorkflows(client, namespace),
        )
        wakes.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def adapters(request):
    return request.getfixturevalue(f"{request.param}_adapters")


@pytest.fixture
def store(adapters):
    return adapters.store


@pytest.fixture
def logs(adapters):
    return adapters.logs


@pytest.fixture
def wakes(adapters):
    return adapters.wakes


@pytest.fixture
def dispatcher(adapters):
    return adapters.dispatcher


@pytest.fixture
def registry(adapters):
    return adapters.registry


@pytest.fixture
def shelf(adapters):
    return adapters.shelf


@pytest.fixture
def board(adapters):
    return adapters.board


@pytest.fixture
def workflows(adapters):
    return adapters.workflows


@pytest.fixture
def record(store, make_summary, clock):
    """Record a job; a test names what it is about."""

    def add(
        *,
        queue=True,
        priority=4,
        not_before=None,
        envelope="{}",
        rings=False,
        **facts,
    ):
        summary = make_summary(**facts)
        return store.add(
            summary,
            envelope,
            at=clock.at,
            priority=priority,
            not_before=not_before,
            queue=(summary.executor if queue is True else queue) or None,
            rings=rings,
        )

    return add
