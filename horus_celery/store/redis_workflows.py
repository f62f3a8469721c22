"""The store of workflows on Redis: one script for each change, steps by number."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import orjson
import redis

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import ENDED, ENDS, RULES, StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import (
    DamagedError,
    IdTaken,
    NotFoundError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.statements.manifest import When
from horus_celery.store.connection import answering, ask
from horus_celery.store.keys import Keys
from horus_celery.store.packing import pack, unpack
from horus_celery.store.scripts import Script, make_scripts_of
from horus_celery.store.tallies import read_histogram, read_tally
from horus_celery.store.workflows import (
    GRACE,
    MAX_HANDED,
    Handed,
    Outline,
    StepEnd,
    StepJob,
    StepRecord,
    Taken,
    WorkflowFilter,
    WorkflowRecord,
    WorkflowTally,
    incomplete,
    not_over,
    step_taken,
)

#: How the scripts write where a step stands; those from `completed` on are over.
_CODES: Final[Mapping[StepStatus, int]] = MappingProxyType(
    {
        StepStatus.PENDING: 0,
        StepStatus.QUEUED: 2,
        StepStatus.COMPLETED: 3,
        StepStatus.FAILED: 4,
        StepStatus.STOPPED: 5,
        StepStatus.REJECTED: 6,
        StepStatus.SKIPPED: 7,
    }
)
#: As pending, but that it may start is decided.
_READY: Final = 1
_STATUS_OF: Final[Mapping[int, StepStatus]] = MappingProxyType(
    {_READY: StepStatus.PENDING, **{code: said for said, code in _CODES.items()}}
)
_WHEN: Final[Mapping[When, int]] = MappingProxyType(
    {"all_success": 0, "all_done": 1, "one_failed": 2, "none_failed": 3}
)
#: Added to the number of `when`: the failure of the step is its workflow's.
_FAILS: Final = 4
#: A step: status, rule, supervisor, then how many parents it has, how many of them are
#: over, then its start and its end.
_STATE: Final = struct.Struct("<BBHIIdd")
_LUA_STATE: Final = "<BBHI4I4dd"
_IDS: Final = 48
_NO_JOB: Final = bytes(_IDS)
#: Entries that one script of `list` looks at before it lets others have their turn.
_LIST_BUDGET: Final = 4000
#: Jobs that one script keeps.
_JOBS: Final = 500


class RedisWorkflows:
    """A `WorkflowStore` on Redis."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._keys = Keys.of(namespace)
        self._scripts = _make_scripts(namespace)

    def create(
        self, outline: Outline, manifest: str, graph: Graph, *, at: datetime
    ) -> WorkflowRecord:
        others = _others(graph)
        bounds, children = _children(graph)
        answer = self._run(
            "create",
            outline.digest,
            _summary(outline, others),
            to_ms(at),
            len(graph),
            outline.max_parallel or 0,
            len(others),
            pack(manifest),
            _states(graph, others),
            bounds,
            children,
        )
        if answer[0] == b"taken":
            raise IdTaken(outline.id, outline.context_id, what="workflow")
        return _record(outline.digest, answer[1])

    def add_jobs(self, digest: str, jobs: Sequence[StepJob]) -> int:
        missing = None
        for start in range(0, max(len(jobs), 1), _JOBS):
            args: list[str | int | bytes] = []
            for job in jobs[start : start + _JOBS]:
                args += (job.index, _ids(job), pack(job.envelope))
            answer = self._run("add_jobs", digest, *args)
            if answer[0] == b"missing":
                raise _no_workflow(digest)
            if answer[0] == b"other":
                raise step_taken(digest, answer[1])
            missing = answer[1]
        return int(missing or 0)

    def start(
        self, digest: str, *, at: datetime, strategy: Strategy = Strategy.REFERENCE
    ) -> WorkflowRecord:
        answer = self._run("start", digest, to_ms(at), strategy.value)
        if answer[0] == b"missing":
            raise _no_workflow(digest)
        if answer[0] == b"incomplete":
            raise incomplete(digest, answer[1])
        return _record(digest, answer[1])

    def take(
        self,
        digest: str,
        *,
        at: datetime,
        limit: int,
        until: datetime,
        supervisor: str | None = None,
        ends: Sequence[StepEnd] = (),
    ) -> Taken:
        number = 0
        names: tuple[str, ...] = ()
        if supervisor is not None:
            names = self._others(digest)
            if supervisor not in names:
                return Taken(steps=(), has_more=False, waiting=frozenset())
            number = names.index(supervisor) + 1
        found, has_more, waiting, others, done = self._run(
            "take",
            digest,
            to_ms(at),
            limit,
            to_ms(until),
            number,
            MAX_HANDED,
            *_ends(ends),
        )
        if waiting and not names:
            names = self._others(digest)
        named = (None, *names)
        return Taken(
            steps=tuple(
                _handed(
                    step,
                    ids,
                    supervisor,
                    envelope=_envelope(digest, envelope),
                    is_shared=others > 0,
                )
                for step, ids, envelope in found
            ),
            has_more=bool(has_more),
            waiting=frozenset(named[each] for each in waiting if each < len(named)),
            done=tuple(done),
        )

    def take_step(
        self, digest: str, index: int, *, at: datetime, until: datetime
    ) -> Handed | None:
        found = self._run("take_step", digest, index, to_ms(at), to_ms(until))
        if not found:
            return None
        step, ids, envelope = found
        text = _envelope(digest, envelope)
        return _handed(step, ids, None, envelope=text, is_shared=False)

    def mark(self, digest: str, mark: str, member: int) -> int:
        return int(self._run("mark", digest, mark, member))

    def began(self, digest: str, job: str, *, at: datetime) -> None:
        self._run("began", digest, job, to_ms(at))

    def tally(self) -> WorkflowTally:
        said = read_tally(ask(self._client, "HGETALL", self._keys.tally))
        # Names are of a kind, of no executor, and of what was counted.
        of: dict[str, dict[str, int]] = {"workflow": {}, "step": {}, "noticed": {}}
        for name, number in said.items():
            match name:
                case [kind, "", what] if kind in of:
                    of[kind][what] = number
                case _:
                    continue
        return WorkflowTally(
            started=of["workflow"].get("started", 0),
            ended={one: of["workflow"].get(one, 0) for one in ENDED},
            steps={one: of["step"].get(one, 0) for one in ENDS},
            noticed=read_histogram(of["noticed"]),
        )

    def postpone(
        self, digest: str, index: int, *, until: datetime, note: str, at: datetime
    ) -> None:
        self._run("postpone", digest, index, to_ms(until), note, to_ms(at))

    def ended(
        self, digest: str, ends: Sequence[StepEnd], *, at: datetime
    ) -> WorkflowRecord | None:
        values = self._run("ended", digest, to_ms(at), *_ends(ends))
        return _record(digest, values) if values else None

    def job(self, digest: str, index: int) -> StepJob:
        ids = self._slice(digest, "ids", index, _IDS)
        kept = ask(self._client, "HGET", self._part(digest, "jobs"), index)
        if kept is None or len(ids) != _IDS:
            raise NotFoundError(f"step {index} of workflow {digest} has no job here")
        job_id, job_digest = _read_ids(ids)
        return StepJob(
            index=index,
            job_id=job_id,
            digest=job_digest,
            envelope=_envelope(digest, kept),
        )

    def digests_of(self, digest: str, indexes: Sequence[int]) -> Mapping[int, str]:
        self.get(digest)
        key = self._part(digest, "ids")
        pipeline = self._client.pipeline(transaction=False)
        for index in indexes:
            pipeline.getrange(key, index * _IDS, (index + 1) * _IDS - 1)
        with answering(key):
            answers = pipeline.execute()
        return {
            index: _read_ids(ids)[1]
            for index, ids in zip(indexes, answers, strict=True)
            if len(ids) == _IDS and ids != _NO_JOB
        }

    def look(
        self,
        digest: str,
        *,
        at: datetime,
        again_at: datetime,
        limit: int,
        supervisor: str | None = None,
    ) -> Sequence[Handed]:
        number = 0
        if supervisor is not None:
            names = self._others(digest)
            if supervisor not in names:
                return ()
            number = names.index(supervisor) + 1
        found, others = self._run(
            "look", digest, to_ms(at), to_ms(again_at), limit, number
        )
        return tuple(
            _handed(step, ids, supervisor, envelope="", is_shared=others > 0)
            for step, ids in found
        )

    def overdue(self, *, at: datetime, limit: int) -> Sequence[str]:
        return _digests(self._run("overdue", to_ms(at), limit))

    def stop(self, digest: str, *, at: datetime) -> WorkflowRecord:
        return self._read(digest, self._run("stop", digest, to_ms(at)))

    def delete(self, digest: str) -> None:
        answer = self._run("delete", digest)
        if answer[0] == b"illegal":
            raise not_over(digest, answer[1].decode())

    def get(self, digest: str) -> WorkflowRecord:
        return self._read(digest, self._run("get", digest))

    def manifest(self, digest: str) -> str:
        kept = self._whole(digest, "manifest")
        if not kept:
            raise _no_workflow(digest)
        return _envelope(digest, kept)

    def steps(self, digest: str) -> Sequence[StepRecord]:
        record = self.get(digest)
        states = self._whole(digest, "states")
        ids = self._whole(digest, "ids")
        said = ask(self._client, "HGETALL", self._part(digest, "reasons"))
        reasons = {int(step): text for step, text in said.items() if step.isdigit()}
        if len(states) != record.steps * _STATE.size:
            raise _damaged(digest)
        was_stopped = record.status is WorkflowStatus.STOPPED
        return tuple(
            _step(
                digest,
                index,
                state,
                ids[index * _IDS : (index + 1) * _IDS],
                reasons.get(index),
                was_stopped=was_stopped,
            )
            for index, state in enumerate(_STATE.iter_unpack(states))
        )

    def step(self, digest: str, index: int) -> StepRecord:
        record = self.get(digest)
        if not 0 <= index < record.steps:
            raise NotFoundError(f"workflow {digest} has no step {index}")
        state = self._slice(digest, "states", index, _STATE.size)
        ids = self._slice(digest, "ids", index, _IDS)
        reason = ask(self._client, "HGET", self._part(digest, "reasons"), index)
        if len(state) != _STATE.size:
            raise _damaged(digest)
        was_stopped = record.status is WorkflowStatus.STOPPED
        values = _STATE.unpack(state)
        return _step(digest, index, values, ids, reason, was_stopped=was_stopped)

    def named(
        self, workflow_id: str, *, contexts: frozenset[str] | None = None
    ) -> Sequence[WorkflowRecord]:
        if contexts is not None and not contexts:
            return ()
        found = self._run("named", workflow_id, *(contexts or ()))
        # Whoever writes there may have put another one under this id.
        named = WorkflowFilter(contexts=contexts)
        return sorted(
            (
                each
                for each in _readable(found)
                if each.outline.id == workflow_id and named.has(each)
            ),
            key=lambda each: each.created_at,
        )

    def list(
        self, wanted: WorkflowFilter, *, limit: int, after: str | None = None
    ) -> Sequence[WorkflowRecord]:
        below = b"+inf" if after is None else self._sequence(after)
        groups = self._groups(wanted)
        found: list[WorkflowRecord] = []
        while below and all(groups) and len(found) < limit:
            page, below = self._run(
                "list",
                limit - len(found),
                below,
                _LIST_BUDGET,
                *map(len, groups),
                keys=[index for group in groups for index in group],
            )
            # An index says where to look, and others write there.
            found += filter(wanted.has, _readable(page))
        return found

    def finished(self, *, before: datetime, limit: int) -> Sequence[str]:
        return _digests(self._run("finished", to_ms(before), limit))

    def _run(
        self, script: str, *args: str | int | bytes, keys: Sequence[str] = ()
    ) -> Any:  # noqa: ANN401 - what a script answers is read by its caller
        return self._scripts[script].run(self._client, keys, args)

    def _part(self, digest: str, part: str) -> str:
        return f"{self._keys.workflow}{{{digest}}}:{part}"

    def _slice(self, digest: str, part: str, index: int, size: int) -> bytes:
        begin = index * size
        key = self._part(digest, part)
        return bytes(ask(self._client, "GETRANGE", key, begin, begin + size - 1))

    def _whole(self, digest: str, part: str) -> bytes:
        key = self._part(digest, part)
        return bytes(ask(self._client, "GETRANGE", key, 0, -1))

    def _read(self, digest: str, values: Sequence[bytes | None]) -> WorkflowRecord:
        if not values or values[0] is None:
            raise _no_workflow(digest)
        return _record(digest, values)

    def _others(self, digest: str) -> tuple[str, ...]:
        """Return the names of the other supervisors, in the order of their numbers."""
        text = ask(self._client, "HGET", self._part(digest, "head"), "summary")
        try:
            return tuple(str(name) for name in orjson.loads(text or b"")["supervisors"])
        except (ValueError, KeyError, TypeError):
            raise _damaged(digest) from None

    def _sequence(self, digest: str) -> bytes:
        found: bytes | None = ask(
            self._client, "HGET", self._part(digest, "head"), "seq"
        )
        if found is None:
            raise _no_workflow(digest)
        return found

    def _groups(self, wanted: WorkflowFilter) -> Sequence[Sequence[str]]:
        """Return the indexes: one that is wanted stands in one of each group."""
        by = self._keys.workflow_by
        theirs = wanted.contexts
        if wanted.context_id is not None:
            own = {wanted.context_id}
            theirs = frozenset(own if theirs is None else own & theirs)
        groups: list[Sequence[str]] = []
        if theirs is not None:
            groups.append([f"{by}context_id:{each}" for each in sorted(theirs)])
        if wanted.caller_id is not None:
            groups.append([f"{by}caller_id:{wanted.caller_id}"])
        if wanted.status is not None:
            groups.append([f"{by}status:{wanted.status}"])
        return groups or [[self._keys.workflows]]


@cache
def _make_scripts(namespace: str) -> Mapping[str, Script]:
    codes = {status.value: str(code) for status, code in _CODES.items()}
    return make_scripts_of(
        "workflow",
        namespace,
        tables={
            "CODE": {**codes, "ready": str(_READY)},
            "OVER_OF_WORKFLOW": {status.value: "true" for status in ENDED},
        },
        values={
            "RULES": _rules(),
            "FAILS": str(_FAILS),
            "GRACE": str(GRACE // timedelta(milliseconds=1)),
            "CANVAS": f"'{Strategy.CANVAS}'",
            "STATE": f"'{_LUA_STATE}'",
            "STATE_SIZE": str(_STATE.size),
        },
    )


def _rules() -> str:
    """Write the rules for Lua: what decides about a step by the status of a parent."""
    rules = []
    for when, number in _WHEN.items():
        rule = RULES[when]
        decisive = [
            f"[{_CODES[status]}] = true"
            for status, end in ENDS.items()
            if end in rule.decisive
        ]
        decisive += (f"at_once = '{rule.at_once}'", f"at_last = '{rule.at_last}'")
        rules.append(f"[{number}] = {{ {', '.join(decisive)} }}")
    return f"{{ {', '.join(rules)} }}"


def _others(graph: Graph) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in graph.supervisors if name is not None))


def _children(graph: Graph) -> tuple[bytes, bytes]:
    """Return where the children of each step begin, and all of them.

    What stands before the roots is a step as well, the last one.
    """
    every = [*graph.children, tuple(graph.roots)]
    begins = (0, *accumulate(map(len, every)))
    return _numbers(begins), _numbers(chain.from_iterable(every))


def _numbers(values: Iterable[int]) -> bytes:
    numbers = [*values]
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _states(graph: Graph, others: Sequence[str]) -> bytes:
    number_of: dict[str | None, int] = {None: 0}
    number_of |= {name: number for number, name in enumerate(others, 1)}
    return b"".join(
        _STATE.pack(
            _CODES[StepStatus.PENDING],
            _WHEN[when] + (_FAILS if on_failure == "fail" else 0),
            number_of[supervisor],
            len(parents),
            *(0, 0.0, 0.0),
        )
        for when, on_failure, supervisor, parents in zip(
            graph.when,
            graph.on_failure,
            graph.supervisors,
            graph.parents,
            strict=True,
        )
    )


def _summary(outline: Outline, others: Sequence[str]) -> bytes:
    return orjson.dumps(
        {
            "id": outline.id,
            "caller_id": outline.caller_id,
            "context_id": outline.context_id,
            "name": outline.name,
            "max_parallel": outline.max_parallel,
            "expires_at": to_ms(outline.expires_at),
            "signed_by": outline.signed_by,
            "supervisors": others,
        }
    )


def _ends(ends: Iterable[StepEnd]) -> Iterator[str | int]:
    for end in ends:
        yield end.digest
        yield end.status.value
        yield end.reason or ""
        yield 0 if end.started_at is None else to_ms(end.started_at)
        yield to_ms(end.ended_at)


def _ids(job: StepJob) -> bytes:
    return UUID(job.job_id).bytes + bytes.fromhex(job.digest)


def _read_ids(ids: bytes) -> tuple[str, str]:
    return str(UUID(bytes=ids[:16])), ids[16:].hex()


def _handed(
    step: int, ids: bytes, supervisor: str | None, *, envelope: str, is_shared: bool
) -> Handed:
    job_id, digest = _read_ids(ids)
    return Handed(
        index=step,
        supervisor=supervisor,
        job_id=job_id,
        digest=digest,
        envelope=envelope,
        is_shared=is_shared,
    )


def _record(digest: str, values: Sequence[bytes | None]) -> WorkflowRecord:
    """Read a workflow.

    Raises:
        DamagedError: if what stands there was not written by this store.
    """
    try:
        return _parsed(digest, values)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _damaged(digest) from None


def _parsed(digest: str, values: Sequence[Any]) -> WorkflowRecord:
    summary, status, steps, missing, left, *times, strategy = values
    created, started, ended, stop = times
    said = orjson.loads(summary)
    return WorkflowRecord(
        outline=Outline(
            digest=digest,
            id=str(said["id"]),
            caller_id=str(said["caller_id"]),
            context_id=str(said["context_id"]),
            name=str(said["name"]),
            max_parallel=said["max_parallel"],
            expires_at=from_ms(said["expires_at"]),
            signed_by=tuple(str(keyid) for keyid in said["signed_by"]),
        ),
        status=WorkflowStatus(status.decode()),
        steps=int(steps),
        missing=int(missing),
        left=int(left),
        created_at=from_ms(int(created)),
        started_at=_instant(started),
        ended_at=_instant(ended),
        stop_at=_instant(stop),
        strategy=_strategy(strategy),
    )


def _readable(found: Iterable[tuple[bytes, Sequence[Any]]]) -> Iterator[WorkflowRecord]:
    """Read those that can be read: one damaged workflow hides no other."""
    for digest, values in found:
        try:
            yield _record(digest.decode(), values)
        except (DamagedError, UnicodeDecodeError):
            continue


def _step(
    workflow: str,
    index: int,
    state: tuple[Any, ...],
    ids: bytes,
    reason: bytes | None,
    *,
    was_stopped: bool,
) -> StepRecord:
    """Read a step.

    Raises:
        DamagedError: if what stands there was not written by this store.
    """
    code, *_, started, ended = state
    status = _STATUS_OF.get(code, StepStatus.PENDING)
    if status is StepStatus.QUEUED and started:
        status = StepStatus.RUNNING
    if was_stopped and status is StepStatus.PENDING:
        status = StepStatus.SKIPPED
    try:
        job_id, digest = (None, None) if ids in (b"", _NO_JOB) else _read_ids(ids)
        started_at = from_ms(int(started)) if started else None
        ended_at = from_ms(int(ended)) if ended else None
    except (ValueError, OverflowError):
        raise _damaged(workflow) from None
    return StepRecord(
        index=index,
        status=status,
        reason=None if reason is None else reason.decode("utf-8", "replace"),
        job_id=job_id,
        digest=digest,
        started_at=started_at,
        ended_at=ended_at,
    )


def _envelope(digest: str, kept: bytes) -> str:
    try:
        return unpack(kept)
    except ValueError:
        raise _damaged(digest) from None


def _digests(found: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(digest.decode("ascii", "replace") for digest in found)


def _strategy(value: bytes | None) -> Strategy:
    return Strategy.REFERENCE if value is None else Strategy(value.decode())


def _instant(value: bytes | None) -> datetime | None:
    return None if value is None else from_ms(int(value))


def _damaged(digest: str) -> DamagedError:
    return DamagedError(
        f"what is kept of workflow {digest} in Redis is damaged: look at the keys with"
        f" {{{digest}}} in their names, then remove them with `DEL`"
    )


def _no_workflow(digest: str) -> NotFoundError:
    return NotFoundError(f"there is no workflow with the digest {digest}")
