"""The store on Redis: one hash per record, and one script for each change."""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import orjson
import redis

from horus_celery.errors import (
    ClaimError,
    DamagedError,
    IdTaken,
    IllegalTransition,
    NotFoundError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.lifecycle import HELD, TERMINAL, Event, Status
from horus_celery.record import LEASE, Change, Record, Summary
from horus_celery.store.base import (
    CLOCK_SKEW,
    MAX_LISTED,
    STOP_KEPT,
    Ahead,
    ArchivedReceipt,
    Bell,
    Chunk,
    Filter,
    StopPage,
    Tally,
)
from horus_celery.store.connection import ask, ask_all, damaged
from horus_celery.store.keys import STEPS, Keys
from horus_celery.store.keys import queue as queue_key
from horus_celery.store.packing import pack, unpack
from horus_celery.store.redis_logs import entry_of
from horus_celery.store.runner_bell import message, note_put_off
from horus_celery.store.scripts import FIELDS, make_scripts
from horus_celery.store.tallies import read_histogram, read_tally

#: How `list.lua` writes the sizes of the fields.
_SIZES: Final = struct.Struct(f"<{len(FIELDS)}i")
_SEQ: Final = FIELDS.index("seq")
#: Where the time of an event is kept; the script adds `ended_at` when the job is over.
_TIME_OF: Final[Mapping[Event, str]] = MappingProxyType(
    {
        Event.QUEUED: "queued_at",
        Event.REQUEUED: "queued_at",
        Event.CLAIMED: "started_at",
    }
)
#: The facts that are long texts; the envelope is one, too.
_TEXTS: Final = frozenset({"result", "receipt"})
_PRIORITIES: Final = frozenset(str(priority).encode() for priority in range(10))
#: Before whatever stands in a sorted set.
_FIRST: Final = "-inf"
#: Entries that one script of `list` looks at before it lets others have their turn.
_LIST_BUDGET: Final = 4000
#: Where `add.lua` says why it could not ring.
_NOT_RUNG: Final = 2


class RedisStore:
    """A `RecordStore` on Redis."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._keys = Keys.of(namespace)
        self._scripts = make_scripts(namespace)

    def add(
        self,
        summary: Summary,
        envelope: str,
        *,
        at: datetime,
        priority: int,
        not_before: datetime | None,
        queue: str | None,
        rings: bool = False,
    ) -> Record:
        bell: tuple[bytes, str] = (b"", "")
        if rings and queue is not None:
            made = message(summary.id, queue, priority, at=at)
            bell = made, queue_key(queue, priority)
        answer = self._run(
            "add",
            summary.digest,
            _summary_to_json(summary),
            pack(envelope),
            to_ms(at),
            priority,
            "" if not_before is None else to_ms(not_before),
            queue or "",
            *bell,
        )
        if answer[0] == b"taken":
            raise IdTaken(summary.id, summary.context_id)
        if len(answer) > _NOT_RUNG:
            note_put_off(summary.id, _why_not_rung(answer[_NOT_RUNG], bell[1]))
        if answer[0] == b"had":
            return _record(summary.digest, answer[1])
        recorded_at = from_ms(to_ms(at))
        return Record(
            summary=summary,
            envelope=envelope,
            status=Status.CREATED if queue is None else Status.QUEUED,
            queue=queue,
            priority=priority,
            not_before=None if not_before is None else from_ms(to_ms(not_before)),
            created_at=recorded_at,
            queued_at=None if queue is None else recorded_at,
        )

    def adopt(self, record: Record) -> None:
        summary = record.summary
        facts: list[str | int | bytes] = []
        for name in ("queued_at", "started_at"):
            at = getattr(record, name)
            facts += [] if at is None else [name, to_ms(at)]
        for name in ("attempt", "ran_on", "exit_code", "result", "receipt"):
            value = getattr(record, name)
            if value is not None:
                facts += [name, pack(value) if name in _TEXTS else value]
        answer = self._run(
            "adopt",
            summary.digest,
            _summary_to_json(summary),
            pack(record.envelope),
            to_ms(record.created_at),
            to_ms(record.ended_at or record.created_at),
            *facts,
        )
        if answer[0] == b"taken":
            raise IdTaken(summary.id, summary.context_id)

    def get(self, digest: str, *, contexts: frozenset[str] | None = None) -> Record:
        if contexts is None:
            values = ask(self._client, "HMGET", self._keys.record + digest, *FIELDS)
        else:
            values = contexts and self._run("get", digest, *contexts)
        if not values or values[0] is None:
            raise _missing(digest)
        return _record(digest, values)

    def named(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[Record, ...]:
        if contexts is not None and not contexts:
            return ()
        found = self._run("named", job_id, *(contexts or ()))
        records = _readable(sorted(found, key=_sequence_of))
        # Whoever writes there may have put another job under this id.
        return tuple(one for one in records if one.summary.id == job_id)

    def apply(self, digest: str, change: Change) -> Record:
        return _record(digest, self._change(digest, change, wants_record=True))

    def note(self, digest: str, change: Change, lines: Sequence[Chunk] = ()) -> None:
        self._change(digest, change, lines)

    def stop(self, digest: str, *, at: datetime, expires_at: datetime) -> Record | None:
        values = self._run("stop", digest, to_ms(at), to_ms(expires_at + STOP_KEPT))
        return None if values[:1] == [None] else _record(digest, values)

    def stops(self, *, after: str | None, limit: int) -> StopPage:
        following, found = self._run("stops", after or _FIRST, limit)
        return StopPage(digests=_digests(found), next=following.decode())

    def delete(self, digest: str) -> None:
        answer = self._run("delete", digest)
        if answer[0] == b"illegal":
            raise IllegalTransition(answer[1].decode(), "deleted")

    def list(
        self,
        wanted: Filter,
        *,
        limit: int,
        after: str | None = None,
        max_text: int = MAX_LISTED,
    ) -> tuple[Record, ...]:
        below = b"+inf" if after is None else self._sequence(after, wanted.contexts)
        groups = self._groups(wanted)
        found: list[Record] = []
        room = max_text
        while below and all(groups) and len(found) < limit and room > 0:
            page, below = self._run(
                "list",
                limit - len(found),
                below,
                _LIST_BUDGET,
                room,
                *map(len, groups),
                keys=[index for group in groups for index in group],
            )
            # What is packed may be a thousand times longer: one is unpacked at a time.
            for record in _readable((digest, _fields(text)) for digest, text in page):
                # An index says where to look, and others write there.
                if not wanted.has(record):
                    continue
                found.append(record)
                room -= record.length
                if room <= 0:
                    break
        return tuple(found)

    def counts(self, contexts: frozenset[str] | None = None) -> Mapping[Status, int]:
        groups = [
            self._groups(Filter(status=each, contexts=contexts)) for each in Status
        ]
        keys = [index for (group,) in groups for index in group]
        sizes = ask_all(self._client, "ZCARD", keys)
        return {
            status: sum(next(sizes) for _ in group)
            for status, (group,) in zip(Status, groups, strict=True)
        }

    def require_writable(self) -> None:
        # Refused like all that needs memory, and nothing where there is no such key.
        ask(self._client, "ZADD", f"{self._keys.record}probe", "XX", 0, "")

    def queue_lengths(
        self, queues: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        keys = [
            f"{self._keys.bells}{step}:{queue}" for queue in queues for step in STEPS
        ]
        if contexts is None:
            lengths = ask_all(self._client, "ZCARD", keys)
        else:
            lengths = iter(self._theirs(keys, contexts, (Status.QUEUED,)))
        return {queue: sum(next(lengths) for _ in STEPS) for queue in queues}

    def standing(
        self, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        if contexts is not None and not contexts:
            return {}
        [indexes] = self._groups(Filter(status=Status.QUEUED, contexts=contexts))
        keys = () if contexts is None else indexes
        said = iter(self._run("standing", limit, keys=keys))
        return {
            queue.decode(): length for queue, length in zip(said, said, strict=True)
        }

    def ahead(
        self, digest: str, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Ahead:
        if contexts is not None and not contexts:
            return Ahead(count=0, is_all=True)
        count, is_all = self._run("ahead", digest, limit, *(contexts or ()))
        return Ahead(count=count, is_all=bool(is_all))

    def running_on(
        self, runners: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        if contexts is None:
            held = self._run("running", *runners)
        else:
            keys = [self._keys.held + runner for runner in runners]
            held = self._theirs(keys, contexts, HELD)
        return dict(zip(runners, held, strict=True))

    def tally(self) -> Tally:
        said = ask(self._client, "HGETALL", self._keys.tally)
        return _tally(read_tally(said))

    def count_swept(self, found: Mapping[str, int]) -> None:
        args = (word for kind, number in found.items() for word in (kind, number))
        self._run("swept", *args)

    def finished(self, *, before: datetime, limit: int) -> tuple[str, ...]:
        return _digests(self._run("finished", to_ms(before), limit))

    def retire(self, digest: str) -> bool:
        answer = self._run("retire", digest)
        if answer[0] == b"illegal":
            raise IllegalTransition(answer[1].decode(), "retired")
        return bool(answer[0] == b"done")

    def archived(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[ArchivedReceipt, ...]:
        if contexts is not None and not contexts:
            return ()
        found = self._run("archived", job_id, *(contexts or ()))
        return tuple(sorted(_archived(found), key=attrgetter("context_id", "digest")))

    def renew(self, digest: str, *, attempt: int, lease_until: datetime) -> Status:
        answer = self._run("renew", digest, attempt, to_ms(lease_until))
        if answer[0] == b"missing":
            raise _missing(digest)
        if answer[0] == b"illegal":
            raise IllegalTransition(answer[1].decode(), "renewed")
        return Status(answer[1].decode())

    def abandoned(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        usual = at + LEASE
        times = (to_ms(usual), to_ms(usual + CLOCK_SKEW))
        return _digests(self._run("abandoned", to_ms(at), limit, *times))

    def expired(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        return _digests(self._run("expired", to_ms(at), limit))

    def due(self, *, at: datetime, limit: int) -> tuple[Bell, ...]:
        found = self._run("due", to_ms(at), limit)
        return tuple(_bell(each, is_due=True) for each in found)

    def rung(self, digest: str, *, at: datetime, queue: str) -> None:
        self._run("rung", digest, to_ms(at), queue)

    def silent(
        self, *, before: datetime, limit: int, after: datetime | None = None
    ) -> tuple[Bell, ...]:
        latest = "+inf" if after is None else to_ms(after)
        found = self._run("silent", to_ms(before), limit, latest)
        found.sort(key=lambda each: (int(each[1]), each[0]))
        return tuple(_bell(each, is_due=False) for each in found)

    def _change(
        self,
        digest: str,
        change: Change,
        lines: Sequence[Chunk] = (),
        *,
        wants_record: bool = False,
    ) -> Sequence[bytes | None]:
        """Make a change; return the fields of the record if they are wanted."""
        answer = self._run(
            "apply",
            digest,
            _token(digest, change),
            change.event.value,
            to_ms(change.at),
            "" if change.if_attempt is None else change.if_attempt,
            _lease(change),
            change.queue or "",
            "record" if wants_record else "",
            len(lines),
            *map(entry_of, lines),
            *_kept_facts(change),
        )
        if answer[0] == b"missing":
            raise _missing(digest)
        if answer[0] == b"illegal":
            raise IllegalTransition(answer[1].decode(), change.event)
        if answer[0] == b"stopped":
            raise ClaimError(
                "claim.stopped", "the job was stopped for good", digest=digest
            )
        return answer[1] if wants_record else ()

    def _theirs(
        self, keys: Sequence[str], contexts: frozenset[str], statuses: Iterable[Status]
    ) -> Sequence[int]:
        """Count the records of these contexts and statuses in each sorted set."""
        groups = (
            self._groups(Filter(status=status, contexts=contexts))
            for status in statuses
        )
        indexes = [index for (group,) in groups for index in group]
        counts: Sequence[int] = self._run("theirs", len(keys), keys=[*keys, *indexes])
        return counts

    def _run(
        self, script: str, *args: str | int | bytes, keys: Sequence[str] = ()
    ) -> Any:  # noqa: ANN401 - what a script answers is read by its caller
        return self._scripts[script].run(self._client, keys, args)

    def _sequence(self, digest: str, contexts: frozenset[str] | None) -> bytes:
        sequence: bytes | None
        if contexts is None:
            sequence = ask(self._client, "HGET", self._keys.record + digest, "seq")
        else:
            values = contexts and self._run("get", digest, *contexts)
            sequence = values[_SEQ] if values else None
        if sequence is None:
            raise _missing(digest)
        if not sequence.isdigit():
            raise _damaged(digest)
        return sequence

    def _groups(self, wanted: Filter) -> Sequence[Sequence[str]]:
        """Return the indexes: a record that is wanted stands in one of each group."""
        values = {
            field.name: getattr(wanted, field.name)
            for field in fields(wanted)
            if getattr(wanted, field.name) is not None
        }
        theirs = values.pop("contexts", None)
        asked = values.pop("context_id", None)
        if asked is not None:
            theirs = [asked] if theirs is None or asked in theirs else []
        by = self._keys.by
        groups: list[Sequence[str]] = []
        if theirs is not None:
            status = values.pop("status", None)
            begin = "context_id:" if status is None else f"status:{status}:"
            groups.append([f"{by}{begin}{context}" for context in sorted(theirs)])
        groups += [[f"{by}{name}:{value}"] for name, value in values.items()]
        return groups or [[self._keys.every]]


def _token(digest: str, change: Change) -> str:
    """Name a change, so that the store knows it when it is sent again.

    It is made from what the change says, so that a caller who never got the answer, or
    who died and started again, may make the same change once more.
    """
    said = orjson.dumps(
        (
            *(digest, to_ms(change.at), change.event, change.if_attempt, change.queue),
            *_facts(change),
        )
    )
    return urlsafe_b64encode(hashlib.blake2b(said, digest_size=9).digest()).decode()


def _lease(change: Change) -> str | int:
    if change.event is not Event.CLAIMED:
        return ""
    return to_ms(change.lease_until or change.at + LEASE)


def _facts(change: Change) -> list[str | int]:
    facts: list[str | int] = []
    if change.event in _TIME_OF:
        facts += (_TIME_OF[change.event], to_ms(change.at))
    if change.not_before is not None:
        facts += ("not_before", to_ms(change.not_before))
    for name in ("reason", "attempt", "ran_on", "exit_code", "result", "receipt"):
        value = getattr(change, name)
        if value is not None:
            facts += (name, value)
    return facts


def _kept_facts(change: Change) -> Iterator[str | int | bytes]:
    """Yield the facts as they are kept: long texts packed."""
    facts = iter(_facts(change))
    for name in facts:
        yield name
        value = next(facts)
        yield pack(str(value)) if name in _TEXTS else value


def _summary_to_json(summary: Summary) -> bytes:
    return orjson.dumps(
        {
            "id": summary.id,
            "caller_id": summary.caller_id,
            "context_id": summary.context_id,
            "executor": summary.executor,
            "runner": summary.runner,
            "attempts": summary.attempts,
            "expires_at": to_ms(summary.expires_at),
            "workflow_id": summary.workflow_id,
            "signed_by": summary.signed_by,
            **({} if summary.manifest is None else {"manifest": summary.manifest}),
        }
    )


def _summary(digest: str, text: bytes) -> Summary:
    said = orjson.loads(text)
    for name in ("id", "caller_id", "context_id", "executor"):
        _require(isinstance(said[name], str))
    for name in ("runner", "workflow_id"):
        _require(isinstance(said[name], str | None))
    for name in ("attempts", "expires_at"):
        _require(type(said[name]) is int)
    _require(isinstance(said.get("manifest"), str | None))
    _require(all(isinstance(keyid, str) for keyid in said["signed_by"]))
    return Summary(
        digest=digest,
        id=said["id"],
        caller_id=said["caller_id"],
        context_id=said["context_id"],
        executor=said["executor"],
        runner=said["runner"],
        attempts=said["attempts"],
        expires_at=from_ms(said["expires_at"]),
        workflow_id=said["workflow_id"],
        signed_by=tuple(said["signed_by"]),
        manifest=said.get("manifest"),
    )


def _record(digest: str, values: Sequence[bytes | None]) -> Record:
    """Read a record.

    Raises:
        DamagedError: if what stands there was not written by this store.
    """
    try:
        return _parsed(digest, values)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _damaged(digest) from None


def _parsed(digest: str, values: Sequence[Any]) -> Record:
    (
        summary,
        envelope,
        status,
        reason,
        priority,
        not_before,
        created_at,
        queued_at,
        started_at,
        ended_at,
        attempt,
        ran_on,
        exit_code,
        result,
        receipt,
        queue,
        seq,
    ) = values
    _require(seq.isdigit() and priority in _PRIORITIES)
    said = _summary(digest, summary)
    stood = said.executor if queue is None else queue.decode()
    return Record(
        summary=said,
        envelope=unpack(envelope),
        status=Status(status.decode()),
        reason=_text(reason),
        priority=int(priority),
        not_before=_instant(not_before),
        queue=None if queued_at is None else stood,
        created_at=from_ms(int(created_at)),
        queued_at=_instant(queued_at),
        started_at=_instant(started_at),
        ended_at=_instant(ended_at),
        attempt=0 if attempt is None else int(attempt),
        ran_on=_text(ran_on),
        exit_code=None if exit_code is None else int(exit_code),
        result=None if result is None else unpack(result),
        receipt=None if receipt is None else unpack(receipt),
    )


def _fields(joined: bytes) -> Sequence[bytes | None]:
    """Take apart what `list.lua` joins."""
    values: list[bytes | None] = []
    at = _SIZES.size
    for size in _SIZES.unpack_from(joined):
        values.append(None if size < 0 else joined[at : at + size])
        at += max(size, 0)
    return values


def _readable(
    found: Iterable[tuple[bytes, Sequence[bytes | None]]],
) -> Iterator[Record]:
    """Read those records that can be read: one damaged record hides no other."""
    for digest, values in found:
        try:
            yield _record(digest.decode(), values)
        except (DamagedError, UnicodeDecodeError):
            continue


def _sequence_of(found: tuple[bytes, Sequence[bytes | None]]) -> int:
    seq = found[1][_SEQ] if found[1] else None
    return int(seq) if seq is not None and seq.isdigit() else 0


def _require(is_ours: bool) -> None:  # noqa: FBT001 - it reads as what is required
    """Go on with what this store may have written.

    Raises:
        ValueError: if it has not.
    """
    if not is_ours:
        raise ValueError


def _digests(found: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(digest.decode("ascii", "replace") for digest in found)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _instant(value: bytes | None) -> datetime | None:
    return None if value is None else from_ms(int(value))


def _bell(found: Sequence[Any], *, is_due: bool) -> Bell:
    digest, at, job_id, executor, runner, context_id, queue, priority = found
    return Bell(
        digest=digest.decode("ascii", "replace"),
        job_id=job_id.decode(),
        executor=executor.decode(),
        runner=runner.decode() or None,
        context_id=context_id.decode(),
        queue=queue.decode(),
        priority=priority,
        rung_at=None if is_due else from_ms(int(at)),
    )


def _tally(numbers: Mapping[tuple[str, ...], int]) -> Tally:
    ended = {}
    times: dict[str, dict[str, dict[str, int]]] = {"waited": {}, "ran": {}}
    swept = {}
    for name, number in numbers.items():
        match name:
            case ["ended", executor, status, reason] if status in TERMINAL:
                ended[executor, status, reason] = number
            case ["waited" | "ran" as kind, executor, bucket]:
                times[kind].setdefault(executor, {})[bucket] = number
            case ["swept", "", kind]:
                swept[kind] = number
            case _:
                continue
    waited, ran = (
        {name: read_histogram(each) for name, each in kind.items()}
        for kind in times.values()
    )
    return Tally(ended=ended, waited=waited, ran=ran, swept=swept)


def _archived(
    found: Iterable[tuple[bytes, Sequence[bytes]]],
) -> Iterator[ArchivedReceipt]:
    """Read those receipts that were kept by our scripts."""
    for digest, values in found:
        kept = dict(zip(values[::2], values[1::2], strict=True))
        for number in range(1, len(kept) - 1):
            try:
                yield ArchivedReceipt(
                    digest=digest.decode(),
                    job_id=kept[b"id"].decode(),
                    context_id=kept[b"context_id"].decode(),
                    receipt=unpack(kept[str(number).encode()]),
                )
            except (ValueError, TypeError, KeyError):
                continue


def _damaged(digest: str) -> DamagedError:
    return DamagedError(
        f"the record of job {digest} in Redis is damaged: look at the key that ends in"
        f" job:{digest}, then remove it with `DEL`"
    )


def _why_not_rung(error: bytes, key: str) -> str:
    if b"WRONGTYPE" in error:
        return damaged(key).detail
    return "the user of redis_url may not put anything into the queues"


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"there is no job with the digest {digest}")
