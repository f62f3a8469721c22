from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.routing import all_queues, queue_of, queues_of
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust

KEYS = [KeyPair.generate() for _ in range(4)]
EXECUTORS = ("python", "system")
CONTEXTS = ("billing", "lab", "osis.ctx.lab")


def bundle(*runners):
    """Make a bundle of runners: what each serves and for which contexts."""
    keys = KEYS[: len(runners)]
    return Trust.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": 0,
            "expires_at": 1,
            "keys": {key.keyid: key.public.hex() for key in keys},
            "grants": [],
            "runners": [
                {
                    "name": f"r{number}",
                    "key": key.keyid,
                    "executors": list(executors),
                    "contexts": list(contexts),
                }
                for number, (key, (executors, contexts)) in enumerate(
                    zip(keys, runners, strict=True)
                )
            ],
        }
    )


def some(names):
    lists = st.lists(st.sampled_from(names), min_size=1, unique=True)
    return st.just(["*"]) | lists


BUNDLES = st.lists(st.tuples(some(EXECUTORS), some(CONTEXTS)), max_size=4).map(
    lambda runners: bundle(*runners)
)


@given(
    trust=BUNDLES,
    executor=st.sampled_from(EXECUTORS),
    context=st.sampled_from([*CONTEXTS, "other"]),
    runner=st.none() | st.sampled_from(["r0", "r1", "r2", "r3"]),
)
def test_whoever_may_run_a_job_serves_its_queue(trust, executor, context, runner):
    queue = queue_of(executor=executor, runner=runner, context_id=context, trust=trust)
    for entry in trust.runners:
        if runner in {None, entry.name} and entry.serves(
            executor=executor, context_id=context
        ):
            assert queue in queues_of(entry, [executor], trust)
            assert queue in all_queues([executor], trust)


@given(
    trust=BUNDLES,
    executor=st.sampled_from(EXECUTORS),
    context=st.sampled_from([*CONTEXTS, "other"]),
)
def test_a_bound_runner_gets_no_bell_of_another_context(trust, executor, context):
    queue = queue_of(executor=executor, runner=None, context_id=context, trust=trust)
    for entry in trust.runners:
        if not entry.serves(executor=executor, context_id=context):
            executors = [one for one in EXECUTORS if one in entry.executors]
            assert queue not in queues_of(entry, executors, trust)


@pytest.mark.parametrize(
    ("runner", "context", "queue"),
    [
        (None, "billing", "python"),
        (None, "lab", "python.ctx.lab"),
        ("r0", "lab", "python.at.r0"),
        ("gone", "billing", "python.at.gone"),
    ],
)
def test_a_queue_is_named_for_what_binds_the_job_most(runner, context, queue):
    trust = bundle((["*"], ["*"]), (["python"], ["lab"]))
    assert (
        queue_of(executor="python", runner=runner, context_id=context, trust=trust)
        == queue
    )


def test_a_context_is_bound_for_the_executors_of_its_runners_only():
    trust = bundle((["*"], ["*"]), (["python"], ["lab"]))
    queue = queue_of(executor="system", runner=None, context_id="lab", trust=trust)
    assert queue == "system"


def test_a_runner_of_all_contexts_serves_those_of_the_bound_ones_too():
    trust = bundle((EXECUTORS, ["*"]), (["python"], ["lab"]))
    free, bound = trust.runners
    assert queues_of(free, EXECUTORS, trust) == (
        "python.at.r0",
        "python",
        "python.ctx.lab",
        "system.at.r0",
        "system",
    )
    assert queues_of(bound, ["python"], trust) == ("python.at.r1", "python.ctx.lab")


def test_every_queue_is_listed_once():
    trust = bundle((["python"], ["*"]), (["python"], ["lab"]), (["python"], ["lab"]))
    assert sorted(all_queues(EXECUTORS, trust)) == [
        "python",
        "python.at.r0",
        "python.at.r1",
        "python.at.r2",
        "python.ctx.lab",
    ]
