"""Which runners there are, what they serve and whether they are alive.

A runner says every two seconds that it is there, in a registration that it signs anew.
The registry keeps what was said last, whoever wrote it; the roster shows the runners
whose words verify against the trust bundle, and no others.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

import orjson
import redis

from horus_celery import kernel
from horus_celery.clock import Clock
from horus_celery.errors import RefusedError
from horus_celery.instants import from_ms, to_ms
from horus_celery.statements import dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.runner import (
    MAX_BODY,
    SKEW,
    Registration,
    read_registration,
)
from horus_celery.statements.trust import RunnerEntry, Trust, is_listed
from horus_celery.store.connection import ask
from horus_celery.store.keys import Keys

#: How often a runner says that it is alive.
BEAT: Final = timedelta(seconds=2)
#: How long it may be silent and still counts as alive.
PATIENCE: Final = timedelta(seconds=8)
#: How long a nonce is remembered: longer than a registration counts, either way of the
#: clocks' skew.
NONCE_LIFETIME: Final = timedelta(minutes=10)

#: What stands in the place of a beat once somebody has removed the runner.
_REMOVED: Final = b'"removed"'
_ENTRY_FIELDS: Final = frozenset({"registration", "facts", "heard_at"})
_MS: Final = timedelta(milliseconds=1)


class Phase(StrEnum):
    """How far a runner is, by its own words."""

    #: It will take jobs soon.
    STARTING = "starting"
    #: It takes jobs.
    RUNNING = "running"
    #: It finishes what it runs, and takes no more jobs.
    STOPPING = "stopping"
    #: It ended in order.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerBeat:
    """What a runner says of itself; it is shown, and nothing is decided on it."""

    name: str
    executors: tuple[str, ...]
    #: Names, or "*" for all.
    contexts: tuple[str, ...]
    concurrency: int
    phase: Phase
    #: By the clock of all who share the registry: a machine's own may be wrong. By that
    #: own clock where it only registered.
    at: datetime
    #: When a supervisor heard of one that only registered, by the clock of all.
    heard_at: datetime | None = None
    #: The machine and its main process there; None for one that only registered.
    host: str | None = None
    pid: int | None = None

    @property
    def seen_at(self) -> datetime:
        """When it was seen, by the clock of all who share the registry."""
        return self.heard_at or self.at


class Registry(Protocol):
    """Keeps what every runner said last, as text; `Roster` says what of it counts.

    Every method raises `UnavailableError` as `RecordStore` does.
    """

    def keep(self, name: str, text: bytes) -> None:
        """Keep this text in place of the runner's latest."""
        ...

    def texts(self, names: Collection[str]) -> Mapping[str, bytes]:
        """Return what is kept of these runners, by name."""
        ...

    def leave(self, name: str) -> None:
        """Forget a runner; forgetting it twice is fine."""
        ...

    def spend(self, nonce: str, *, at: datetime, name: str, text: bytes | None) -> bool:
        """Use a nonce up and keep what came with it, in one atomic step.

        Returns False, with nothing changed, if it was used within `NONCE_LIFETIME`
        before. What cannot be kept uses no nonce up.

        Args:
            nonce: What must not have been used.
            at: The present.
            name: The runner's name.
            text: Kept in place of the runner's latest; None leaves that as it is.
        """
        ...


class TrustSource(Protocol):
    """Where the trust bundle is read."""

    def current(self) -> Trust:
        """Return the bundle that counts now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Who was heard of, at one look."""

    #: When that was, by the clock of beats.
    at: datetime
    #: The latest beat of every runner, by name.
    beats: Mapping[str, RunnerBeat]
    #: Names that somebody removed, and that were not heard since.
    removed: frozenset[str]


class Roster:
    """Reads the registry, and believes of it what the trust bundle bears out.

    An entry that is none, that somebody else signed, or that claims more than the
    bundle allows shows no runner. What was verified once is not verified again.
    """

    def __init__(self, registry: Registry, trust: TrustSource, clock: Clock) -> None:
        """Read what is kept; `clock` is the one by which beats are given."""
        self._registry = registry
        self._trust = trust
        self._clock = clock
        self._lock = threading.Lock()
        # At most one for each runner of the bundle.
        self._read: dict[str, tuple[bytes, RunnerBeat | None]] = {}
        self._believed: Trust | None = None

    def list(self) -> tuple[RunnerBeat, ...]:
        """Return the latest beat of every runner, by name."""
        return tuple(beat for _, beat in sorted(self.look().beats.items()))

    def look(self, others: Collection[str] = ()) -> Roll:
        """Return who was heard of, and who of them and of the `others` was removed."""
        trust = self._trust.current()
        names = {entry.name for entry in trust.runners}.union(others)
        texts = self._registry.texts(names)
        found = {name: self._beat(name, text, trust) for name, text in texts.items()}
        return Roll(
            at=self._clock.now(),
            beats=MappingProxyType(
                {name: beat for name, beat in found.items() if beat is not None}
            ),
            removed=frozenset(name for name, text in texts.items() if text == _REMOVED),
        )

    def _beat(self, name: str, text: bytes, trust: Trust) -> RunnerBeat | None:
        with self._lock:
            if self._believed is not trust:
                self._read.clear()
                self._believed = trust
            known = self._read.get(name)
        if known is not None and known[0] == text:
            return known[1]
        beat = read_beat(text, name=name, trust=trust)
        with self._lock:
            if self._believed is trust and trust.runner(name) is not None:
                self._read[name] = text, beat
        return beat


def is_alive(beat: RunnerBeat, now: datetime) -> bool:
    """Whether the runner was heard recently enough and has not ended in order."""
    # A beat of the future comes from another clock; replayed it would live long.
    return beat.phase is not Phase.STOPPED and abs(now - beat.seen_at) <= PATIENCE


def is_gone(beat: RunnerBeat) -> bool:
    """Whether it was said on this very machine, by a process that is there no more."""
    if beat.pid is None or beat.host != socket.gethostname():
        return False
    return kernel.look_at(beat.pid) is None


def write_beat(beat: RunnerBeat, *, aud: str, key: KeyPair) -> bytes:
    """Write what a runner says, signed with its key.

    What a registration has no field for is signed through its nonce, which is the hash
    of that; so nobody else can alter how the runner is shown.
    """
    facts = orjson.dumps(
        {
            "executors": beat.executors,
            "phase": beat.phase.value,
            "host": beat.host,
            "pid": beat.pid,
            "salt": secrets.token_hex(16),
        }
    ).decode()
    said = Registration.from_wire(
        {
            "v": 1,
            "aud": aud,
            "name": beat.name,
            "executor": beat.executors[0],
            "contexts": list(beat.contexts),
            "concurrency": beat.concurrency,
            "nonce": _digest(facts),
            "at": to_ms(beat.at),
        }
    )
    return _to_text(dsse.sign(dsse.RUNNER, said.body(), [key]), facts)


def write_registration(envelope: dsse.Envelope, *, heard_at: datetime) -> bytes:
    """Write what a runner registered with, which says no more than that it starts."""
    return _to_text(envelope, None, heard_at=heard_at)


def write_removed() -> bytes:
    """Write that a runner was removed: its next beat brings it back."""
    return _REMOVED


def read_beat(text: bytes, *, name: str, trust: Trust) -> RunnerBeat | None:
    """Read a beat; what is none shows no runner, whoever wrote it.

    Of what a runner says that it serves, only what the bundle allows it now counts: it
    may have said so before the bundle changed.
    """
    try:
        entry = orjson.loads(text)
        if not isinstance(entry, dict) or entry.keys() != _ENTRY_FIELDS:
            return None
        envelope = dsse.from_wire(
            entry["registration"], dsse.RUNNER, max_bytes=MAX_BODY
        )
        said = read_registration(envelope, trust=trust, aud=trust.aud)
        allowed = trust.runner(name)
        if said.name != name or allowed is None:
            return None
        beat = _with_facts(_without_facts(said), entry["facts"], nonce=said.nonce)
        beat = _as_heard(beat, entry["heard_at"])
    except (ValueError, TypeError, KeyError, RecursionError, RefusedError):
        return None
    return _as_allowed(beat, allowed)


def _without_facts(said: Registration) -> RunnerBeat:
    return RunnerBeat(
        name=said.name,
        executors=(said.executor,),
        contexts=said.contexts,
        concurrency=said.concurrency,
        phase=Phase.STARTING,
        at=said.at,
    )


def _with_facts(beat: RunnerBeat, facts: object, *, nonce: str) -> RunnerBeat:
    """Add the facts that a runner signed; others do not count."""
    if not isinstance(facts, str) or _digest(facts) != nonce:
        return beat
    known = orjson.loads(facts)
    return replace(
        beat,
        executors=tuple(str(one) for one in known["executors"]),
        phase=Phase(known["phase"]),
        host=str(known["host"]),
        pid=int(known["pid"]),
    )


def _as_heard(beat: RunnerBeat, heard_at: object) -> RunnerBeat:
    """Add when a supervisor heard of it, which nobody signed: not any time counts."""
    if type(heard_at) is not int:
        return beat
    heard = from_ms(heard_at)
    # The runner's clock and the one of all may be apart from the supervisor's.
    return beat if abs(heard - beat.at) > 2 * SKEW else replace(beat, heard_at=heard)


def _as_allowed(beat: RunnerBeat, entry: RunnerEntry) -> RunnerBeat | None:
    executors = tuple(one for one in beat.executors if is_listed(one, entry.executors))
    contexts = tuple(one for one in beat.contexts if is_listed(one, entry.contexts))
    if not executors:
        return None
    return replace(beat, executors=executors, contexts=contexts or entry.contexts)


class RedisRegistry:
    """A `Registry` on Redis: one hash, and a key for each nonce."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        keys = Keys.of(namespace)
        self._key, self._nonces = keys.runners, keys.nonces

    def keep(self, name: str, text: bytes) -> None:
        ask(self._client, "HSET", self._key, name, text)

    def texts(self, names: Collection[str]) -> Mapping[str, bytes]:
        wanted = sorted(names)
        # Only of those that may be shown: others may have put any number there.
        found: Sequence[bytes | None] = (
            ask(self._client, "HMGET", self._key, *wanted) if wanted else ()
        )
        return {
            name: text
            for name, text in zip(wanted, found, strict=True)
            if text is not None
        }

    def leave(self, name: str) -> None:
        ask(self._client, "HDEL", self._key, name)

    def spend(self, nonce: str, *, at: datetime, name: str, text: bytes | None) -> bool:
        keys = (f"{self._nonces}{_digest(nonce)}", self._key)
        kept = () if text is None else (name, text)
        args = (to_ms(at), NONCE_LIFETIME // _MS, *kept)
        return bool(ask(self._client, "EVAL", _SPEND, len(keys), *keys, *args))


#: KEYS: the nonce, the runners. ARGV: the present, how long the nonce is remembered,
#: and what is kept: name and text. A script that fails leaves what it has done: so the
#: nonce comes last.
_SPEND: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[3] then redis.call('HSET', KEYS[2], ARGV[3], ARGV[4]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class MemoryRegistry:
    """A `Registry` within this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, bytes] = {}
        self._nonces: dict[str, datetime] = {}

    def keep(self, name: str, text: bytes) -> None:
        with self._lock:
            self._texts[name] = text

    def texts(self, names: Collection[str]) -> Mapping[str, bytes]:
        with self._lock:
            return {name: self._texts[name] for name in names if name in self._texts}

    def leave(self, name: str) -> None:
        with self._lock:
            self._texts.pop(name, None)

    def spend(self, nonce: str, *, at: datetime, name: str, text: bytes | None) -> bool:
        with self._lock:
            self._nonces = {
                one: until for one, until in self._nonces.items() if until > at
            }
            if nonce in self._nonces:
                return False
            if text is not None:
                self._texts[name] = text
            self._nonces[nonce] = at + NONCE_LIFETIME
            return True


def _to_text(
    envelope: dsse.Envelope, facts: str | None, *, heard_at: datetime | None = None
) -> bytes:
    return orjson.dumps(
        {
            "registration": dsse.to_wire(envelope),
            "facts": facts,
            "heard_at": to_ms(heard_at),
        }
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
