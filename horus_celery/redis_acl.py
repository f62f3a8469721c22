"""Which users a Redis of ours has, and the least that each of them may do there.

A line below is a `user` line of Redis 7, for its ACL file or for `ACL SETUSER`. What a
script does is checked as if its caller did it: so each key and each command in a script
stands here, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from horus_celery.errors import ConfigurationError
from horus_celery.store import keys
from horus_celery.store.bell import QUEUE
from horus_celery.store.keys import Keys

#: What is read as a password must not be found by trying.
MIN_PASSWORD: Final = 22


class User(StrEnum):
    """Who comes to Redis."""

    #: The API.
    SUPERVISOR = "supervisor"
    #: A Celery worker of ours, with the scripts that it starts.
    RUNNER = "runner"
    #: The Celery worker that moves workflows on.
    COORDINATOR = "coordinator"
    #: The pages that show Celery's queues and events.
    FLOWER = "flower"
    #: Whoever keeps the contexts of HeroDB: an administrator of that Redis, as he makes
    #: users of it, so it is no part of what follows.
    HERODB = "herodb"
    #: Whatever starts all of them on one machine: `horus up`, and a supervisor that
    #: manages runners.
    PLATFORM = "platform"


#: For each key of ours what supervisor and runner do to it: read it, write it, or both.
#: A coordinator does what a supervisor does, but for those of `API_ALONE`.
ACCESS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "record": ("RW", "RW"),
        "named": ("RW", "RW"),
        "log": ("RW", "RW"),
        "by": ("RW", "RW"),
        "every": ("RW", "RW"),
        "sequence": ("RW", ""),
        "bells": ("RW", "RW"),
        "rows": ("RW", "RW"),
        "due": ("RW", "RW"),
        "expiring": ("RW", "RW"),
        "leases": ("RW", "RW"),
        "held": ("RW", "RW"),
        "ended": ("RW", "RW"),
        "stopped": ("RW", "R"),
        "stops": ("RW", "R"),
        "tally": ("RW", "RW"),
        "receipt": ("RW", "RW"),
        "receipts": ("RW", "RW"),
        "runners": ("RW", "RW"),
        "nonces": ("RW", ""),
        "secrets": ("RW", ""),
        "trust": ("RW", "R"),
        "workflow": ("RW", ""),
        "workflows": ("RW", ""),
        "workflow_named": ("RW", ""),
        "workflow_by": ("RW", ""),
        "workflow_sequence": ("RW", ""),
        "workflow_due": ("RW", ""),
        "workflow_ended": ("RW", ""),
    }
)
#: What only the API of all supervisors has to do with.
API_ALONE: Final = frozenset({"nonces", "secrets", "trust"})
#: The fields of `Keys` that are channels.
CHANNELS: Final = ("wakes", "changes", "recalls")

_CONNECTING: Final = frozenset({"auth", "hello", "ping", "role", "select"})
#: What the scripts of the store and the sweep do.
_SCRIPTS: Final = frozenset(
    {"eval", "evalsha", "del", "exists", "publish", "time", "type"}
    | {"hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget"}
    | {"hset", "hvals", "lindex", "llen", "lrange", "rpush"}
    | {"sadd", "smembers", "srem"}
    | {"zadd", "zcard", "zintercard", "zrange", "zrangebyscore", "zrem"}
    | {"zrevrange", "zrevrangebyscore", "zscore"}
)
#: Bells are rung, and looked at by the sweep; the wakes are listened to.
_OURS: Final = _CONNECTING | _SCRIPTS | {"lpush", "getrange", "subscribe"}
#: What gives numbers to what is new, and what the scripts of workflows do.
_RECORDING: Final = frozenset({"incr", "incrby", "set", "setrange", "lset", "lpop"})
COMMANDS: Final[Mapping[User, frozenset[str]]] = MappingProxyType(
    {
        User.SUPERVISOR: _OURS | _RECORDING,
        User.RUNNER: _OURS | {"brpop"} | {"multi", "exec"},
        User.COORDINATOR: _OURS | _RECORDING | {"brpop"} | {"multi", "exec"},
        User.FLOWER: _CONNECTING
        | {"llen", "psubscribe", "punsubscribe", "publish"}
        # Kombu notes with a script that its queue of events is there, and when it ends.
        | {"evalsha", "script|exists", "script|load", "multi", "exec", "time"}
        | {"del", "exists", "sadd", "srem", "zadd", "zrangebyscore", "zrem"},
    }
)
#: What is done about the users of HeroDB, its table, and what contexts hold.
HERODB: Final = _CONNECTING | frozenset(
    {"acl|deluser", "acl|setuser", "acl|users", "eval"}
    | {"hdel", "hget", "hgetall", "hset", "memory|usage", "scan", "unlink"}
)
#: Where kombu notes which queue hangs on which exchange, and Flower's queue of events.
_BINDINGS: Final = ("_kombu.binding.*", "_kombu.binding_permanent.*")
_FLOWERS_OWN: Final = ("_kombu.binding_deadlines", "celeryev.*")
#: The channels of Celery's events, by the number of the database: who listens to all of
#: them may do so only if this very pattern is allowed.
_EVENTS: Final = "/{database}.celeryev/*"
#: Where Flower asks for events before it listens; no runner hears anything there.
_CONTROL: Final = "/{database}.celery.pidbox"


#: Who only looks at executors' queues, and who only rings there.
_QUEUES_OF: Final = MappingProxyType({User.FLOWER: "%R", User.COORDINATOR: "%W"})


def user_lines(
    *,
    namespace: str,
    executors: Sequence[str],
    database: int,
    passwords: Mapping[User, str],
) -> str:
    """Return the lines of all users, and the one that turns the default user off.

    Args:
        namespace: The namespace of the deployment.
        executors: Every executor of it.
        database: The number of the database that `redis_url` names.
        passwords: What stands for each user's password, as `hashed` returns it; for a
            user without one a word that Redis refuses, to be replaced.

    Raises:
        ConfigurationError: if an executor's queue would be a key of the namespace.
    """
    for executor in executors:
        if f"{executor}:".startswith(f"{namespace}:"):
            raise ConfigurationError(
                f"the executor {executor} has its queue among the keys of the namespace"
                f" {namespace}: name one of them differently"
            )
    rules = {
        user: " ".join(
            [
                *_key_rules(user, namespace, executors),
                *_channel_rules(user, namespace, database),
                *(f"+{command}" for command in sorted(COMMANDS[user])),
            ]
        )
        for user in COMMANDS
    }
    # What one of them may do whole, and no mixture of it.
    rules[User.PLATFORM] = " ".join(f"({one})" for one in rules.values())
    allowed = " ".join(f"+{command}" for command in sorted(HERODB))
    rules[User.HERODB] = f"~{namespace}:herodb:* {allowed}"
    lines = ["user default reset off"]
    for user in User:
        password = passwords.get(user, f"#SHA256-OF-THE-PASSWORD-OF-{user.upper()}")
        lines.append(f"user {user} reset on {password} {rules[user]}")
    return "".join(f"{line}\n" for line in lines)


def hashed(password: str) -> str:
    """Return what stands for a password in a line.

    Raises:
        ConfigurationError: if it is too short to be hashed without a salt.
    """
    if len(password) < MIN_PASSWORD:
        raise ConfigurationError(
            f"a password for Redis needs {MIN_PASSWORD} characters or more, such as"
            " `openssl rand -hex 32` gives"
        )
    return f"#{hashlib.sha256(password.encode()).hexdigest()}"


def _key_rules(user: User, namespace: str, executors: Iterable[str]) -> Iterator[str]:
    for executor in executors:
        for pattern in _queues(executor):
            yield f"{_QUEUES_OF.get(user, '')}~{pattern}"
    # Whoever ends a job adds a bell; how many wait, writers may see as well.
    yield f"{'' if user is User.COORDINATOR else _QUEUES_OF.get(user, '%W')}~{QUEUE}"
    if user is User.COORDINATOR:
        yield f"~{_steps_of(QUEUE)}"
    if user is not User.SUPERVISOR:
        yield from (f"~{pattern}" for pattern in _BINDINGS)
    if user is User.FLOWER:
        yield from (f"~{pattern}" for pattern in _FLOWERS_OWN)
        return
    for name, key in asdict(Keys.of(namespace)).items():
        if name in CHANNELS:
            continue
        may = ACCESS[name][1 if user is User.RUNNER else 0]
        if user is User.COORDINATOR and name in API_ALONE:
            continue
        pattern = f"{key}*" if key.endswith(":") else key
        if may:
            yield f"~{pattern}" if may == "RW" else f"%{may}~{pattern}"


def _channel_rules(user: User, namespace: str, database: int) -> Iterator[str]:
    if user is not User.FLOWER:
        names = Keys.of(namespace)
        yield from (f"&{getattr(names, channel)}" for channel in CHANNELS)
    if user is not User.SUPERVISOR:
        yield f"&{_EVENTS.format(database=database)}"
    if user is User.FLOWER:
        yield f"&{_CONTROL.format(database=database)}"


def _queues(executor: str) -> Iterator[str]:
    """Yield patterns of the lists that carry an executor's bells."""
    yield executor
    yield _steps_of(executor)
    yield f"{executor}.at.*"
    yield f"{executor}.ctx.*"


def _steps_of(queue: str) -> str:
    """Return a pattern of the lists of a queue behind the first."""
    steps = [step for step in keys.STEPS if step]
    mark = keys.queue("", steps[0]).removesuffix(str(steps[0]))
    # Printable, so that a line can be shown and copied: no letter of a name fits.
    return f"{queue}{'[^!-~]' * len(mark)}[{''.join(map(str, steps))}]"
