"""Somebody who may write everything in Redis, and wants to decide what is run.

He knows the code, has a key of his own that nobody granted anything, keeps what he has
seen, and puts it back later. Each of his ways is a method whose docstring is his hope.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis

from horus_celery.errors import HorusError
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.store.keys import STEPS, Keys, queue
from horus_celery.store.packing import pack, unpack
from horus_celery.store.runner_bell import message
from tests.faults.witness import Witness, mark_of

FORGED: Final = "FORGED"
_JUNK: Final = (
    b"",
    b"\xff",
    b"-1",
    b"0",
    b"9" * 400,
    b"{}",
    b"[]",
    b"null",
    b"\n\x1b[2J",
)
_FIELDS: Final = (
    *("status", "reason", "priority", "attempt", "ran_on", "exit_code", "result"),
    *("receipt", "queue", "seq", "summary", "envelope", "tokens", "not_before"),
    *("created_at", "queued_at", "started_at", "ended_at"),
)
#: Seen keys that he keeps, each as it was at some time.
_KEPT: Final = 400


class Attacker:
    """Does one thing after the other, as his seed says."""

    def __init__(
        self, client: redis.Redis, namespace: str, *, seed: int, witness: Witness
    ) -> None:
        # Its types ask for more care than he takes.
        self._redis: Any = client
        self._namespace = namespace
        self._keys = Keys.of(namespace)
        self._chance = random.Random(seed)  # noqa: S311 - the same attack each time
        self._witness = witness
        self._key = KeyPair.from_seed(self._chance.randbytes(32))
        self._seen: dict[bytes, bytes] = {}
        #: What something else stands in the place of, and what stood there.
        self._replaced: tuple[bytes, bytes] | None = None
        #: How often each way was gone to its end.
        self.done: Counter[str] = Counter()
        self.ways: Final[tuple[Callable[[], object], ...]] = (
            self.swap_a_field,
            self.set_a_field,
            self.set_a_status,
            self.alter_an_envelope,
            self.sign_with_a_foreign_key,
            self.forge_a_summary,
            self.forge_a_result,
            self.shuffle_an_index,
            self.replace_a_key,
            self.keep_a_key,
            self.put_back_a_key,
            self.ring_for_anything,
            self.take_a_bell,
            self.end_a_lease,
            self.point_an_id_elsewhere,
            self.wake_everybody,
            self.hang_out_a_bundle,
        )

    def strike(self) -> None:
        """Go one way."""
        way = self._chance.choice(self.ways)
        if self._replaced is not None:
            key, was = self._replaced
            self._redis.restore(key, 0, was, replace=True)
            self._replaced = None
        # He stumbles over what he did before.
        with suppress(redis.RedisError, HorusError, ValueError, LookupError, TypeError):
            way()
            self.done[way.__name__] += 1

    # --- his ways ------------------------------------------------------------------

    def swap_a_field(self) -> None:
        """The envelope, receipt or summary of one job may serve another."""
        one, other = self._record(), self._record()
        field = self._chance.choice(_FIELDS)
        values = [self._redis.hget(key, field) for key in (one, other)]
        for key, value in zip((other, one), values, strict=True):
            if value is not None:
                self._redis.hset(key, field, value)

    def set_a_field(self) -> None:
        """Something that cannot be read may end whoever reads it."""
        field = self._chance.choice(_FIELDS)
        self._redis.hset(self._record(), field, self._chance.choice(_JUNK))

    def set_a_status(self) -> None:
        """A job that is over, or was stopped, may be run once more."""
        key = self._record()
        status = self._chance.choice((*Status, Status.QUEUED, Status.QUEUED))
        self._redis.hset(key, "status", status)
        if status is Status.QUEUED:
            self._redis.hset(key, mapping={"attempt": 0, "queued_at": self._now()})
            self._ring(self._job_id(key))

    def alter_an_envelope(self) -> None:
        """Who verifies something else than he runs runs this."""
        key = self._record()
        envelope = self._envelope(key)
        body = json.loads(dsse.read(json.dumps(envelope), dsse.JOB).body)
        self._alter(body)
        made = dsse.Envelope(dsse.JOB, canonical.encode(body), ())
        wire = {**dsse.to_wire(made), "signatures": envelope["signatures"]}
        if self._chance.random() < 0.3:
            # The old bytes beside the new ones: which of them are read?
            wire = {**envelope, "payload_": wire["payload"]}
        self._redis.hset(key, "envelope", pack(json.dumps(wire)))
        self._ring(self._job_id(key))

    def sign_with_a_foreign_key(self) -> None:
        """A signature that verifies may be enough, whoever made it."""
        key = self._record()
        body = json.loads(dsse.read(json.dumps(self._envelope(key)), dsse.JOB).body)
        self._alter(body)
        signed = dsse.sign(dsse.JOB, canonical.encode(body), [self._key])
        fields = self._redis.hgetall(key)
        summary = json.loads(fields[b"summary"]) | {"id": body["id"]}
        record = self._keys.record + signed.digest
        self._redis.hset(
            record,
            mapping={
                **{name.decode(): value for name, value in fields.items()},
                "summary": json.dumps(summary),
                "envelope": pack(dsse.to_json(signed)),
                "status": "queued",
            },
        )
        named = self._keys.named + body["id"]
        self._redis.hset(named, body["context_id"], signed.digest)
        self._ring(body["id"])

    def forge_a_summary(self) -> None:
        """More attempts, another runner or context may count where they stand twice."""
        key = self._record()
        summary = json.loads(self._redis.hget(key, "summary") or b"")
        summary |= {
            "attempts": self._chance.choice((1, 10, 10**6)),
            "runner": self._chance.choice((None, "python_runner_1", "nobody")),
            "context_id": self._chance.choice(("default", "vault")),
            "expires_at": self._now() + self._chance.choice((-(10**6), 10**9)),
        }
        self._redis.hset(key, "summary", json.dumps(summary))

    def forge_a_result(self) -> None:
        """What a caller reads may be believed."""
        other = self._redis.hget(self._record(), "receipt") or b""
        told: dict[str, Any] = {"status": "completed", "result": pack(FORGED)}
        mapping = {**told, "receipt": other, "exit_code": 0}
        self._redis.hset(self._record(), mapping=mapping)

    def shuffle_an_index(self) -> None:
        """What is due, silent or abandoned by a wrong score may be done twice."""
        key = self._any_key("zset")
        members = self._redis.zrange(key, 0, 50) or [b"f" * 64]
        scores = (0, "-inf", "inf", self._now(), self._now() * 2)
        scored = {self._chance.choice(members): self._chance.choice(scores)}
        self._redis.zadd(key, scored)
        self._redis.zrem(key, self._chance.choice(members))

    def replace_a_key(self) -> None:
        """Something of another type may end whoever uses it."""
        key = self._any_key()
        was = self._redis.dump(key)
        self._redis.delete(key)
        put: tuple[Callable[[], Any], ...] = (
            lambda: self._redis.set(key, self._chance.choice(_JUNK)),
            lambda: self._redis.rpush(key, *_JUNK),
            lambda: self._redis.sadd(key, *_JUNK),
            lambda: self._redis.hset(key, "junk", self._chance.choice(_JUNK)),
            lambda: self._redis.zadd(key, {b"\xff": 1}),
            lambda: self._redis.xadd(key, {b"junk": b"junk"}),
        )
        self._chance.choice(put)()
        # For good, and nothing would be run any more: that is not what he wants.
        self._replaced = key, was or b""

    def keep_a_key(self) -> None:
        """What is true now may be of use when it is not any more."""
        for _ in range(5):
            key = self._any_key()
            dumped = self._redis.dump(key)
            if dumped is not None and len(self._seen) < _KEPT:
                self._seen[key] = dumped

    def put_back_a_key(self) -> None:
        """A record of before its start may be started again."""
        key, dumped = self._chance.choice(sorted(self._seen.items()))
        self._redis.restore(key, 0, dumped, replace=True)
        if key.startswith(self._keys.record.encode()):
            self._redis.hset(key, mapping={"status": "queued", "attempt": 0})
            self._ring(self._job_id(key))

    def ring_for_anything(self) -> None:
        """Ten bells may start a job ten times."""
        key = self._record()
        for _ in range(self._chance.choice((1, 2, 10))):
            self._ring(self._job_id(key))

    def take_a_bell(self) -> None:
        """A lost bell may lose a job."""
        name = queue("python", self._chance.choice(STEPS))
        self._redis.rpop(name, self._chance.randint(1, 5))

    def end_a_lease(self) -> None:
        """A job that counts as abandoned may be started beside itself."""
        leases = self._keys.leases
        for digest in self._redis.zrange(leases, 0, -1):
            self._redis.zadd(leases, {digest: 0})
        held = self._redis.zrange(f"{self._keys.by}status:running", 0, -1)
        for digest in held[:3]:
            key = self._keys.record.encode() + digest
            self._redis.hset(key, mapping={"status": "queued", "attempt": 0})
            self._ring(self._job_id(key))

    def point_an_id_elsewhere(self) -> None:
        """Under the id of one job another may be run."""
        key = self._keys.named + self._job_id(self._record())
        digest = self._record().decode().rpartition(":")[2]
        self._redis.hset(key, self._chance.choice(("default", "vault")), digest)

    def wake_everybody(self) -> None:
        """Whoever waits may do something rash."""
        self._redis.publish(self._keys.wakes, self._record().rpartition(b":")[2])
        self._redis.publish(self._keys.wakes, self._chance.choice(_JUNK))

    def hang_out_a_bundle(self) -> None:
        """A newer bundle that grants his own key everything may be taken up."""
        now = self._now()
        body = {
            "v": 1,
            "aud": self._namespace,
            "version": 10**6,
            "issued_at": now,
            "expires_at": now + 10**9,
            "keys": {self._key.keyid: self._key.public.hex()},
            "grants": [
                {
                    "context_id": "default",
                    "caller_id": "default",
                    "keys": [self._key.keyid],
                    "threshold": 1,
                    "executors": ["*"],
                    "nets": ["none", "herodb", "host"],
                    "max_timeout": 86400,
                }
            ],
            "runners": [],
        }
        signed = dsse.sign(dsse.TRUST, canonical.encode(body), [self._key])
        self._redis.set(self._keys.trust, dsse.to_json(signed))

    # --- what he works with ----------------------------------------------------------

    def _record(self) -> bytes:
        keys = list(self._redis.scan_iter(f"{self._keys.record}*", count=1000))
        return self._chance.choice(sorted(keys))

    def _any_key(self, kind: str | None = None) -> bytes:
        found = self._redis.scan_iter(f"{self._namespace}:*", count=1000, _type=kind)
        return self._chance.choice(sorted(found))

    def _envelope(self, key: bytes) -> dict[str, Any]:
        kept = self._redis.hget(key, "envelope")
        return json.loads(unpack(kept or b""))

    def _job_id(self, key: bytes) -> str:
        return str(json.loads(self._redis.hget(key, "summary") or b"")["id"])

    def _alter(self, body: dict[str, Any]) -> None:
        """Make a job what the attacker wants it to be."""
        forged = self._witness.payload(mark=f"{FORGED}-{mark_of(body['payload'])}")
        later = datetime.now(UTC) + timedelta(days=1)
        changes: dict[str, Any] = {
            "payload": forged,
            "attempts": 10,
            "expires_at": to_ms(later),
            "env_vars": {"PYTHONSTARTUP_": "x"},
            "args": [FORGED],
            "timeout": 86400,
            "net": "host",
        }
        for name in {"payload", *self._chance.sample(sorted(changes), k=2)}:
            body[name] = changes[name]

    def _ring(self, job_id: str) -> None:
        at = datetime.now(UTC)
        priority = self._chance.randint(0, 9)
        bell = message(job_id, "python", priority, at=at)
        self._redis.lpush(queue("python", priority), bell)

    def _now(self) -> int:
        return to_ms(datetime.now(UTC))
