"""What somebody who writes to Redis puts in the place of a bell."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime

from horus_celery.store.runner_bell import TASK, message

JOB_ID = "0b5e8d6e-6f3c-4c8f-9a53-6a7f0f6f2f11"
MARK = "SENDERS-WORDS"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: Values that stand where they do not belong.
_STRANGE: tuple[object, ...] = (
    *(None, True, 5, -1, 1.5, [], {}, "", "x", [MARK], {MARK: MARK}),
    *(f"{MARK}\n\x1b[31m", "\ud800", "0" * 4000, 2**70),
)


def honest(**headers):
    """Return a bell of ours as it is read, with other headers."""
    made = json.loads(message(JOB_ID, "python", 4, at=datetime.now(UTC)))
    made["headers"] |= headers
    return made


def body_of(value):
    return b64encode(json.dumps(value).encode()).decode()


def hostile_items() -> Iterator[bytes]:
    """Yield what ends, stalls or misleads a stock worker, and some of its kin."""
    base = honest()
    yield from (b"", b"\xff\xfe", b"5", b"[]", b'"x"', b"null", b"{}", b"[" * 15_000)
    yield b'{"a":' * 3_000
    yield b"x" * 1_000_000
    shapes: list[object] = [None, 5, [], "x", {}]
    for field in base:
        for value in shapes:
            yield json.dumps({**base, field: value}).encode()
        yield json.dumps({k: v for k, v in base.items() if k != field}).encode()
    for name in ("id", "task", "lang"):
        for value in (None, 5, [MARK], {MARK: MARK}, f"{MARK}\n\x1b[31m"):
            yield json.dumps(honest(**{name: value})).encode()
    for task in ("celery.map", "celery.starmap", "celery.backend_cleanup", MARK):
        args = [[{"task": TASK, "args": [JOB_ID]}, [[JOB_ID]]], {}, EMBED]
        yield json.dumps({**honest(task=task), "body": body_of(args)}).encode()
    for compression in ("application/x-gzip", "x"):
        yield json.dumps(honest(compression=compression)).encode()
    for kind in ("application/x-python-serialize", "application/x-yaml", "x"):
        yield json.dumps({**base, "content-type": kind}).encode()
    bodies: list[object] = [5, [], [[]], [[MARK], {}, EMBED], [[JOB_ID], {}, [MARK]]]
    for body in bodies:
        yield json.dumps({**base, "body": body_of(body)}).encode()
    yield json.dumps({"task": TASK, "id": MARK, "args": [MARK], "kwargs": {}}).encode()


def loud_items() -> Iterator[bytes]:
    """Yield bells that ring, and ask for everything else that a message can ask for."""
    call = {"task": TASK, "args": [MARK], "kwargs": {}, "options": {"queue": "evil"}}
    embed = {
        "callbacks": [call],
        "errbacks": [call],
        "chain": [call],
        "chord": {**call, "chord_size": 1},
    }
    for args in ([JOB_ID], [MARK]):
        loud = honest(
            timelimit=[0.001, 0.001],
            eta="2030-01-01T00:00:00",
            expires="2000-01-01T00:00:00",
            group=MARK,
            root_id=MARK,
            retries=99,
            reply_to=MARK,
            ignore_result=False,
        )
        loud["body"] = body_of([args, {}, embed])
        loud["properties"]["reply_to"] = MARK
        yield json.dumps(loud).encode()


def mutations(chance: random.Random, count: int) -> Iterator[bytes]:
    """Yield altered bells: bits, pieces and fields of what a runner is used to."""
    seeds = [json.dumps(honest()).encode(), *loud_items(), *hostile_items()]
    seeds = [seed for seed in seeds if seed and len(seed) < 16_000]
    for _ in range(count):
        seed = chance.choice(seeds)
        yield chance.choice((_with_bytes, _cut, _with_fields))(chance, seed)


def _with_bytes(chance: random.Random, seed: bytes) -> bytes:
    altered = bytearray(seed)
    for _ in range(chance.randint(1, 8)):
        altered[chance.randrange(len(altered))] = chance.randrange(256)
    return bytes(altered)


def _cut(chance: random.Random, seed: bytes) -> bytes:
    start, end = sorted(chance.randrange(len(seed) + 1) for _ in range(2))
    piece = seed[start:end]
    return chance.choice((piece, seed[:start] + seed[end:], seed[:end] + piece + seed))


def _with_fields(chance: random.Random, seed: bytes) -> bytes:
    altered = honest()
    for part in (altered, altered["headers"], altered["properties"]):
        for name in chance.sample(sorted(part), k=chance.randint(0, 2)):
            part[name] = chance.choice(_STRANGE)
    if isinstance(altered.get("body"), str) and chance.random() < 0.5:
        body = [chance.choice(_STRANGE) for _ in range(chance.randint(0, 4))]
        altered["body"] = body_of(body)
    return json.dumps(altered).encode("utf-8", "surrogatepass")
