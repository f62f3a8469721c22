"""Faults are told in the words of JSON, whoever's model found them."""

from datetime import UTC, datetime

import pytest

from horus_celery.errors import MalformedError
from horus_celery.statements.job import Job, make_job

WIRE = make_job(
    aud="hero",
    caller_id="alice",
    context_id="billing",
    executor="python",
    payload="print(1)",
    now=datetime(2026, 1, 1, tzinfo=UTC),
).to_wire()
LIMITS = WIRE["limits"]
INPUT = {"from": "0" * 64, "max_bytes": 1}
SAID = [
    ({"args": None}, "args: must be a list"),
    ({"args": ["x"] * 257}, "args: has too many items: at most 256"),
    ({"env_vars": []}, "env_vars: must be an object"),
    ({"limits": 1}, "limits: must be an object"),
    ({"limits": {**LIMITS, "procs": True}}, "limits.procs: must be an integer"),
    ({"limits": {**LIMITS, "nice": 1}}, "limits.nice: is unknown"),
    ({"inputs": {"N": {"from": "0" * 64}}}, "inputs.N.max_bytes: is missing"),
    ({"inputs": {f"N{n}": INPUT for n in range(65)}}, "inputs: has too many items"),
    ({"timeout": 0}, "timeout: must be at least 1"),
    ({"attempts": 11}, "attempts: must be at most 10"),
    ({"net": "all"}, "net: must be 'none', 'herodb' or 'host'"),
    ({"payload": 1}, "payload: must be a string of UTF-8 text without U+0000"),
    ({"args": ["\udcff"]}, "args.0: must be a string of UTF-8 text without U+0000"),
]


@pytest.mark.parametrize(("changes", "said"), SAID, ids=[said for _, said in SAID])
def test_what_is_wrong_is_told_in_the_words_of_json(changes, said):
    with pytest.raises(MalformedError) as refusal:
        Job.from_wire({**WIRE, **changes})
    assert refusal.value.detail.startswith(said)
