"""A script is run by actors that tests make, or by ours beside a database in memory."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from workers.actors.ensemble import Surroundings, gather
from workers.actors.stage import check, perform
from workers.heroscript.reading import parse


class Refusal(Exception):
    """What a database says that refuses something."""


class MemoryDatabase:
    """Answers as HeroDB does, as far as the actors ask."""

    def __init__(self):
        self.kept = {}
        self.asked = []

    def call(self, *words):
        self.asked.append(words)
        name, *rest = (str(word) for word in words)
        return getattr(self, name.lower())(*rest)

    def set(self, key, value, *until):
        self.kept[key] = value
        return b"OK"

    def get(self, key):
        value = self.kept.get(key)
        if not isinstance(value, str | None):
            raise Refusal("WRONGTYPE")
        return None if value is None else value.encode()

    def delete(self, *keys):
        return sum(self.kept.pop(key, None) is not None for key in keys)

    def hset(self, key, field, value):
        fields = self.kept.setdefault(key, {})
        is_new = field not in fields
        fields[field] = value
        return int(is_new)

    def hget(self, key, field):
        return self.kept.get(key, {}).get(field, "").encode() or None

    def hgetall(self, key):
        pairs = self.kept.get(key, {}).items()
        return [word.encode() for pair in pairs for word in pair]

    def lpush(self, key, value):
        self.kept.setdefault(key, []).insert(0, value)
        return len(self.kept[key])

    def lrange(self, key, start, stop):
        items = self.kept.get(key, [])
        end = None if int(stop) == -1 else int(stop) + 1
        return [one.encode() for one in items[int(start) : end]]

    def incrby(self, key, by):
        self.kept[key] = str(int(self.kept.get(key, "0")) + int(by))
        return int(self.kept[key])

    def expire(self, key, seconds):
        return int(key in self.kept)

    def keys(self, pattern):
        return [key.encode() for key in self.kept if fnmatchcase(key, pattern)]


# The word is one of Python's.
setattr(MemoryDatabase, "del", MemoryDatabase.delete)


@pytest.fixture
def database():
    return MemoryDatabase()


@pytest.fixture
def said():
    """What scripts said."""
    return []


@pytest.fixture
def further():
    """Actors besides those that are always there."""
    return ()


@pytest.fixture
def around(database, said, further):
    return Surroundings(
        environment={"HERODB_URL": "unix:///db"},
        say=said.append,
        open_database=lambda _: database,
        database_failures=(Refusal,),
        further=further,
    )


@pytest.fixture
def play(around):
    """Run a script, and return its result."""

    def run(text, cast=None):
        actions = parse(text)
        cast = cast or gather(around)
        check(actions, cast)
        return perform(actions, cast, around.variables)

    return run
