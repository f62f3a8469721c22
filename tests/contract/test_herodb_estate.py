"""What is done about users and data of HeroDB, in memory and in Redis alike."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from horus_celery.herodb.accounts import accounts
from horus_celery.herodb.contexts import Context, Usage
from horus_celery.herodb.estate import MemoryEstate, RedisEstate
from horus_celery.herodb.layout import Layout
from horus_celery.store.connection import connect

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class InMemory:
    """The estate within this process, and how data comes into it."""

    def __init__(self):
        self.layout = Layout(namespace="hero")
        self.estate = MemoryEstate()

    def fill(self, context, keys):
        self.estate.held[context] = (100 * keys, keys)

    def close(self):
        pass


class InRedis:
    """The estate in a server that other things lie in, too."""

    def __init__(self, url, namespace):
        self.layout = Layout(namespace=namespace)
        self.client = connect(url)
        self.estate = RedisEstate(self.client, self.layout)
        self.client.set(f"{namespace}:job:1", "another thing")
        self.client.execute_command("ACL SETUSER", f"{namespace}:other")

    def fill(self, context, keys):
        for number in range(keys):
            self.client.set(f"{self.layout.prefix(context)}{number}", "x" * 40)

    def close(self):
        self.estate.appoint({}, dismissed=self.estate.users())
        assert self.client.get(f"{self.layout.namespace}:job:1") == b"another thing"
        other = f"{self.layout.namespace}:other"
        assert other in self.client.execute_command("ACL USERS")
        self.client.execute_command("ACL DELUSER", other)
        self.client.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def world(request):
    made: InMemory | InRedis = InMemory()
    if request.param == "redis":
        url, namespace = (
            request.getfixturevalue(name) for name in ("redis_url", "namespace")
        )
        made = InRedis(url, namespace)
    yield made
    made.close()


def users_of(world, *names):
    contexts = {name: Context(name=name) for name in names}
    return accounts(
        contexts, {}, of=world.layout, master=bytes(32), database=0, now=NOW
    )


def test_users_are_made_and_removed(world):
    estate = world.estate
    wanted = users_of(world, "a", "b:c")
    estate.appoint(wanted, dismissed=())
    assert set(estate.users()) == set(wanted)
    estate.appoint(wanted, dismissed=())
    estate.appoint({}, dismissed=[world.layout.jobs_user("a")])
    assert set(estate.users()) == {world.layout.lister, world.layout.jobs_user("b:c")}
    estate.appoint({}, dismissed=())
    assert len(estate.users()) == 2


def test_what_contexts_hold_is_measured(world):
    world.fill("a", 3)
    world.fill("a:b", 1)
    found = None
    while found is None:
        found = world.estate.measure(["a", "a:b", "empty"], now=NOW)
    assert {name: one.keys for name, one in found.items()} == {
        "a": 3,
        "a:b": 1,
        "empty": 0,
    }
    assert found["a"].size > found["a:b"].size > found["empty"].size == 0
    assert found["a"].at == NOW


def test_no_more_is_counted_than_there_is(world):
    world.fill("a", 3)
    world.estate.measure(["a"], now=NOW)
    (counted,) = world.estate.counted(["a"], now=NOW).values()
    assert 0 <= counted.keys <= 3
    assert counted.at == NOW


def test_what_was_noted_is_there_for_all(world):
    assert world.estate.usage() == {}
    usage = Usage(size=5, keys=1, at=NOW)
    world.estate.note({"a": usage, "b": usage})
    later = Usage(size=6, keys=2, at=NOW)
    world.estate.note({"b": later})
    assert world.estate.usage() == {"a": usage, "b": later}


def test_a_context_is_emptied_and_no_other(world):
    world.fill("a", 3)
    world.fill("a:b", 2)
    usage = Usage(size=5, keys=1, at=NOW)
    world.estate.note({"a": usage, "a:b": usage})
    world.estate.empty("a")
    world.estate.empty("nobody")
    found = None
    while found is None:
        found = world.estate.measure(["a", "a:b"], now=NOW)
    assert [one.keys for one in found.values()] == [0, 2]
    assert set(world.estate.usage()) == {"a:b"}
