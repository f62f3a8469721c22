"""Whatever happens, the store on Redis is where the store in memory is."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from horus_celery.errors import HorusError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change
from horus_celery.store.base import Filter
from horus_celery.store.connection import connect
from horus_celery.store.memory import MemoryStore
from horus_celery.store.redis import RedisStore

pytestmark = pytest.mark.integration

NUMBERS = st.integers(0, 5)
MAYBE = st.none() | st.just("named")
QUEUES = ("python.at.named", "python.ctx.lab")
CONTEXTS = st.none() | st.frozensets(st.sampled_from(["billing", "lab", "unknown"]))
FACTS = {
    "reason": st.none() | st.sampled_from(["exit_code", "timeout"]),
    "attempt": st.none() | st.integers(1, 3),
    "ran_on": MAYBE,
    "exit_code": st.none() | st.integers(0, 255),
    "result": st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
    "receipt": MAYBE,
    "queue": st.sampled_from([None, "python", *QUEUES]),
    "if_attempt": st.none() | st.integers(0, 3),
}


def digest_of(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def machine(redis_url, namespace, make_summary, clock):
    numbers = itertools.count()
    start = clock.at
    client = connect(redis_url)

    class TwoStores(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            clock.at = start
            self.redis = RedisStore(client, f"{namespace}-{next(numbers)}")
            self.memory = MemoryStore()

        def both(self, method, *args, **options):
            answers = []
            for store in (self.redis, self.memory):
                try:
                    answers.append(getattr(store, method)(*args, **options))
                except HorusError as error:
                    answers.append((type(error), error.detail))
            assert answers[0] == answers[1]
            return answers[0]

        @rule(
            number=NUMBERS,
            priority=st.integers(0, 9),
            wait=st.none() | st.integers(0, 20),
            queue=st.sampled_from([None, "python", *QUEUES]),
        )
        def add(self, number, wait, queue, priority):
            # The same digest is the same job; 0 and 1 want the same id in one context.
            summary = make_summary(
                digest=digest_of(number),
                id=f"job-{number // 2}",
                context_id="billing" if number in {0, 1, 2, 4} else "lab",
                executor="python" if number % 3 else "system",
                runner="named" if number % 2 else None,
                workflow_id="named" if number > 2 else None,
                expires_at=start + timedelta(seconds=20 + number),
            )
            self.both(
                "add",
                summary,
                "{}",
                at=clock.at,
                priority=priority,
                not_before=None if wait is None else clock.at + timedelta(seconds=wait),
                queue=queue,
            )

        @rule(
            number=NUMBERS,
            event=st.sampled_from(Event),
            facts=st.fixed_dictionaries(FACTS),
            again=st.booleans(),
        )
        def apply(self, number, event, facts, again):
            change = Change(event=event, at=clock.advance(seconds=1), **facts)
            self.both("apply", digest_of(number), change)
            if again:
                self.both("apply", digest_of(number), change)

        @rule(number=NUMBERS, attempt=st.integers(0, 3))
        def renew(self, number, attempt):
            until = clock.at + timedelta(seconds=15)
            self.both("renew", digest_of(number), attempt=attempt, lease_until=until)

        @rule(number=NUMBERS, queue=st.sampled_from(["python", *QUEUES]))
        def ring(self, number, queue):
            self.both("rung", digest_of(number), at=clock.at, queue=queue)

        @rule(number=NUMBERS)
        def delete(self, number):
            self.both("delete", digest_of(number))

        @rule(number=NUMBERS)
        def retire(self, number):
            self.both("retire", digest_of(number))

        @rule(kind=st.sampled_from(["due", "expired"]), number=st.integers(1, 5))
        def count_swept(self, kind, number):
            self.both("count_swept", {kind: number})

        @rule(seconds=st.integers(1, 10))
        def pass_time(self, seconds):
            clock.advance(seconds=seconds)

        @rule(
            wanted=st.builds(
                Filter,
                context_id=st.none() | st.sampled_from(["billing", "lab"]),
                executor=st.none() | st.sampled_from(["python", "system"]),
                runner=MAYBE,
                status=st.none() | st.sampled_from(Status),
                workflow_id=MAYBE,
                contexts=CONTEXTS,
            ),
            limit=st.integers(1, 4),
            after=st.none() | NUMBERS,
        )
        def list(self, wanted, limit, after):
            behind = None if after is None else digest_of(after)
            self.both("list", wanted, limit=limit, after=behind)

        @invariant()
        def they_agree(self):
            for contexts in (None, frozenset({"lab"}), frozenset({"lab", "billing"})):
                self.both("counts", contexts)
                queues = ["python", "system", *QUEUES]
                self.both("queue_lengths", queues, contexts=contexts)
                for limit in (1, 10):
                    self.both("standing", limit=limit, contexts=contexts)
                self.both("running_on", ["named", "nobody"], contexts=contexts)
                for number in range(3):
                    self.both("named", f"job-{number}", contexts=contexts)
                    self.both("archived", f"job-{number}", contexts=contexts)
                    self.both("get", digest_of(number), contexts=contexts)
            self.both("tally")
            for limit in (1, 10):
                self.both("finished", before=clock.at, limit=limit)
            self.both("abandoned", at=clock.at, limit=10)
            self.both("expired", at=clock.at, limit=10)
            for limit in (1, 10):
                self.both("due", at=clock.at, limit=limit)
                self.both("silent", before=clock.at, limit=limit)

    yield TwoStores
    client.close()


def test_the_store_on_redis_does_what_the_store_in_memory_does(machine):
    run(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
