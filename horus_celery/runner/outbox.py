"""How the store gets what the journal holds: receipts in their order, and last lines.

The store may be away for long, and an answer may be lost: all of it may come twice.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import structlog

from horus_celery.errors import DamagedError, IllegalTransition, NotFoundError
from horus_celery.instants import from_ms, to_ms
from horus_celery.journal import Entry
from horus_celery.lifecycle import TERMINAL, Event
from horus_celery.record import Change
from horus_celery.runner.node import GIVEN_UP, Node, Outcome, Unsent
from horus_celery.store.base import Chunk, Stream

_logger: Final = structlog.get_logger(__name__)

#: How many lines of a log are read at once.
_LOG_PAGE: Final = 1000
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
#: A chunk as the log shows it: time, stream, text.
_Shown: TypeAlias = tuple[int, Stream, str]


def deliver(node: Node) -> None:
    """Hand over what the journal holds and the store does not know yet.

    Raises:
        UnavailableError: if the store does not answer; the rest stays in the journal.
        DamagedError: if a record is damaged; only its receipt stays in the journal.
    """
    damage: DamagedError | None = None
    for entry in node.journal.undelivered(node.name):
        try:
            hand_over(entry, node)
        except DamagedError as error:
            damage = error
    if damage is not None:
        raise damage


def write_outcome(
    outcome: Outcome,
    *,
    digest: str,
    ended_at: datetime,
    if_attempt: int | None,
    retry_at: datetime | None,
) -> str:
    """Return as JSON, for the journal, what the store is to be told of an end."""
    if outcome.reason == GIVEN_UP:
        return "null"
    return json.dumps(
        {
            "digest": digest,
            "event": outcome.event.value,
            "at": to_ms(ended_at),
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "result": outcome.result,
            "if_attempt": if_attempt,
            "retry_at": to_ms(retry_at),
            "last": _pack(outcome.last),
            "unsent": _unsent_to_wire(outcome.unsent),
        },
        ensure_ascii=False,
    )


def hand_over(entry: Entry, node: Node) -> None:
    """Tell the store of an end, and take its receipt out of the outbox."""
    outcome = json.loads(entry.outcome)
    if outcome is not None:
        _send_rest(outcome, node)
        change = Change(
            event=Event(outcome["event"]),
            at=from_ms(outcome["at"]),
            reason=outcome["reason"],
            ran_on=node.name,
            exit_code=outcome["exit_code"],
            result=outcome["result"],
            receipt=entry.envelope,
            if_attempt=outcome["if_attempt"],
        )
        # An outcome that an earlier version kept has none.
        last = tuple(_unpack(outcome.get("last", ())))
        if not _starts_again(outcome, last, node):
            note(outcome["digest"], change, node, last)
    node.journal.delivered(node.name, entry.seq)


def _starts_again(
    outcome: Mapping[str, Any], last: Sequence[Chunk], node: Node
) -> bool:
    """Put a step that failed back into its queue, if it may start again.

    Its receipt stays in the journal, as that of every start but the last.
    """
    # An outcome that an earlier version kept has none.
    again = outcome.get("retry_at")
    if again is None:
        return False
    change = Change(
        event=Event.REQUEUED,
        at=from_ms(outcome["at"]),
        not_before=from_ms(again),
        if_attempt=outcome["if_attempt"],
    )
    try:
        node.store.note(outcome["digest"], change, last)
    except (IllegalTransition, NotFoundError):
        # Somebody has asked for its end meanwhile, or it was given up.
        return False
    return True


def _send_rest(outcome: Mapping[str, Any], node: Node) -> None:
    """Complete the log of a start that has not been settled."""
    # An outcome that an earlier version kept has none.
    unsent = outcome.get("unsent")
    if unsent is None:
        return
    digest = outcome["digest"]
    try:
        record = node.store.get(digest)
    except NotFoundError:
        return
    if record.attempt != outcome["if_attempt"] or record.status in TERMINAL:
        return
    before, chunks = (list(_unpack(unsent[name])) for name in ("before", "chunks"))
    try:
        there = _count_there([*before, *chunks], digest, node)
        # A log that has lost even what it took gets at least the rest.
        node.logs.append(digest, [*before, *chunks][there or len(before) :])
    except DamagedError:
        # What became of the job counts for more than its lines.
        _logger.warning("lines of output lost", digest=digest, lines=len(chunks))


def _count_there(chunks: Sequence[Chunk], digest: str, node: Node) -> int:
    """Return how many of these chunks the log already ends with.

    An answer may have been lost, and so may this process between two of its calls.
    """
    wanted = [_shown(chunk) for chunk in chunks]
    last: deque[_Shown] = deque(maxlen=len(wanted))
    after = None
    while page := node.logs.read(digest, after=after, limit=_LOG_PAGE):
        last += ((to_ms(line.at), line.stream, line.text) for line in page)
        after = page[-1].cursor
    found = list(last)
    for start, line in enumerate(found):
        if line == wanted[0] and found[start:] == wanted[: len(found) - start]:
            return len(found) - start
    return 0


def _shown(chunk: Chunk) -> _Shown:
    text = chunk.data.decode("utf-8", "replace").removesuffix("\n")
    return to_ms(chunk.at), chunk.stream, text


def _unsent_to_wire(unsent: Unsent | None) -> Mapping[str, object] | None:
    if unsent is None:
        return None
    return {"before": _pack(unsent.before), "chunks": _pack(unsent.chunks)}


def _pack(chunks: Sequence[Chunk]) -> list[tuple[int, str, str]]:
    """Return chunks as JSON; whole lines of one moment stand together."""
    packed: list[tuple[int, Stream, bytearray]] = []
    for chunk in chunks:
        at = to_ms(chunk.at)
        if (
            packed
            and packed[-1][:2] == (at, chunk.stream)
            and packed[-1][2][-1:] == b"\n"
        ):
            packed[-1][2].extend(chunk.data)
        else:
            packed.append((at, chunk.stream, bytearray(chunk.data)))
    return [
        (at, stream.value, base64.b64encode(data).decode())
        for at, stream, data in packed
    ]


def _unpack(packed: Iterable[tuple[int, str, str]]) -> Iterator[Chunk]:
    for at, stream, data in packed:
        for line in _LINE.findall(base64.b64decode(data)):
            yield Chunk(at=from_ms(at), stream=Stream(stream), data=line)


def note(digest: str, change: Change, node: Node, lines: Sequence[Chunk] = ()) -> None:
    """Make a change of a record, if it has not moved on."""
    try:
        node.store.note(digest, change, lines)
    except (IllegalTransition, NotFoundError):
        # It ended otherwise, was told already, or was deleted: a terminal status
        # never changes.
        _logger.info("record has moved on", digest=digest, told=change.event.value)
