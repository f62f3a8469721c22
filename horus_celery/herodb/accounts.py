"""Which users there have to be in the Redis of HeroDB, and what each of them may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from horus_celery.herodb import layout
from horus_celery.herodb.contexts import Context, Usage
from horus_celery.herodb.layout import Layout

#: What stands behind `ACL SETUSER NAME`.
Words: TypeAlias = tuple[str, ...]
#: What clients say of themselves before all else.
_GREETING: Final = ("+client|setname", "+client|id")


def accounts(
    contexts: Mapping[str, Context],
    usage: Mapping[str, Usage],
    *,
    of: Layout,
    master: bytes,
    database: int,
    now: datetime,
) -> Mapping[str, Words]:
    """Return all users by name, with what each is made of.

    Args:
        contexts: The contexts that there are, by name.
        usage: What was measured of them.
        of: The deployment's keys and users.
        master: What our own passwords are made of.
        database: The number of the database that HeroDB is in.
        now: The present.
    """
    chosen = (f"+select|{database}",)
    found: dict[str, Words] = {}
    if contexts:
        found[of.lister] = (
            *_ours(of.lister, master, now),
            *layout.lister_rules(),
            *chosen,
        )
    for name, context in contexts.items():
        prefix = of.prefix(name)
        is_over = context.is_over(usage.get(name))
        jobs = of.jobs_user(name)
        allowed = layout.jobs_rules(prefix, is_over=is_over)
        found[jobs] = (*_ours(jobs, master, now), *allowed, *chosen)
        for user in context.users.values():
            found[of.user(name, user.name)] = (
                *("reset", "on", f"#{user.hash}"),
                *layout.rules(prefix, user.role, is_over=is_over),
                *_GREETING,
                *chosen,
            )
    return found


def _ours(user: str, master: bytes, now: datetime) -> Iterator[str]:
    yield from ("reset", "on")
    yield from (f"#{one}" for one in layout.hashes(master, user, now))
