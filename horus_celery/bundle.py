"""How a trust bundle changes: who is granted, listed, revoked, before it is signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from horus_celery.errors import ConfigurationError
from horus_celery.statements.keys import key_id

#: The body of a trust bundle, as it is on the wire.
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRunner:
    """A runner to be listed, by the one executor that it serves."""

    executor: str
    public: bytes


def default_grant(keyid: str) -> Body:
    """Return the grant of the default caller's key."""
    return {
        "context_id": "default",
        "caller_id": "default",
        "keys": [keyid],
        "threshold": 1,
        "executors": ["*"],
        "nets": ["none", "herodb"],
        "max_timeout": 86400,
    }


def with_keys(body: Body, keys: Sequence[bytes]) -> Body:
    """Return a trust body that lists these public keys, too."""
    return {
        **body,
        "keys": {**body["keys"], **{key_id(key): key.hex() for key in keys}},
    }


def with_grant(body: Body, grant: Body, *, keys: Sequence[bytes]) -> Body:
    """Return a trust body with one more grant, and the keys that it names."""
    if grant in body["grants"]:
        return with_keys(body, keys)
    return with_keys({**body, "grants": [*body["grants"], grant]}, keys)


def with_runners(body: Body, runners: Mapping[str, NewRunner]) -> Body:
    """Return a trust body with more runners, each for one executor, every context."""
    entries = [
        {
            "name": name,
            "key": key_id(runner.public),
            "executors": [runner.executor],
            "contexts": ["*"],
        }
        for name, runner in runners.items()
    ]
    body = {**body, "runners": [*body["runners"], *entries]}
    return with_keys(body, [runner.public for runner in runners.values()])


def without(body: Body, name: str) -> Body:
    """Return a trust body without a key (by its id) or a runner (by its name).

    A grant that loses so many keys that its threshold cannot be met goes, too.

    Raises:
        ConfigurationError: if the bundle knows neither.
    """
    keyids = {runner["key"] for runner in body["runners"] if runner["name"] == name}
    if name in body["keys"]:
        keyids.add(name)
    if not keyids:
        raise ConfigurationError(
            f"the trust bundle knows no key and no runner {name!r}:"
            " `horus trust show` lists them"
        )
    grants = [
        {**grant, "keys": [key for key in grant["keys"] if key not in keyids]}
        for grant in body["grants"]
    ]
    return {
        **body,
        "keys": {k: v for k, v in body["keys"].items() if k not in keyids},
        "grants": [g for g in grants if len(g["keys"]) >= g["threshold"]],
        "runners": [r for r in body["runners"] if r["key"] not in keyids],
    }
