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
class WantedRunner:
    """A runner that a deployment is to have, and what its entry must say."""

    name: str
    executors: tuple[str, ...]
    #: None: whatever its entry says, and all of them in a new one.
    contexts: tuple[str, ...] | None = None

    def is_met_by(self, entry: Body) -> bool:
        """Whether an entry says what it must."""
        served = set(entry["executors"])
        if self.contexts is None:
            return served.issuperset(self.executors)
        return served == set(self.executors) and set(entry["contexts"]) == set(
            self.contexts
        )

    def to_entry(self, keyid: str, listed: Body | None = None) -> Body:
        """Return its entry, in place of the one that is listed."""
        executors, contexts = self.executors, self.contexts
        if contexts is None:
            kept = [] if listed is None else listed["executors"]
            executors = (*kept, *(name for name in executors if name not in kept))
            contexts = ("*",) if listed is None else tuple(listed["contexts"])
        return {
            "name": self.name,
            "key": keyid,
            "executors": list(executors),
            "contexts": list(contexts),
        }


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


def unmet(body: Body, runners: Sequence[WantedRunner]) -> list[WantedRunner]:
    """Return the runners that a body does not list, or lists with something else."""
    listed = {entry["name"]: entry for entry in body["runners"]}
    return [
        runner
        for runner in runners
        if runner.name not in listed or not runner.is_met_by(listed[runner.name])
    ]


def with_runners(body: Body, runners: Mapping[WantedRunner, bytes]) -> Body:
    """Return a trust body in which runners are listed as they are wanted.

    Args:
        body: The present one.
        runners: Each with its public key.
    """
    listed = {entry["name"]: entry for entry in body["runners"]}
    for runner, public in runners.items():
        entry = runner.to_entry(key_id(public), listed.get(runner.name))
        listed[runner.name] = entry
    return with_keys({**body, "runners": [*listed.values()]}, [*runners.values()])


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
