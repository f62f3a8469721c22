"""What somebody spoils of one workflow in Redis is named, and stops no other."""

from __future__ import annotations

import hashlib
import math
import struct
import uuid
from datetime import timedelta

import pytest

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.errors import DamagedError, NotFoundError
from horus_celery.statements.manifest import make_step
from horus_celery.store.connection import connect
from horus_celery.store.keys import Keys
from horus_celery.store.redis_workflows import RedisWorkflows
from horus_celery.store.workflows import Outline, StepEnd, StepJob, WorkflowFilter
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.doorbell import MemoryDoorbell

pytestmark = pytest.mark.integration

GRAPH = Graph.of_steps([make_step("a"), make_step("b", depends_on=["a"])])
NEEDED = {"head", "states", "ids", "jobs", "running", "held", "todo", "ready:0"}


class Starting:
    """A supervisor that takes every job, and has no record of any."""

    def __init__(self):
        self.started: list[str] = []

    def start(self, envelope, upstream):
        self.started.append(envelope)
        return False

    def find(self, digest, envelope):
        return None

    def stop(self, digest):
        """Stop nothing."""


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as made:
        yield made


@pytest.fixture
def store(client, namespace):
    return RedisWorkflows(client, namespace)


@pytest.fixture
def supervisor():
    return Starting()


@pytest.fixture
def conductor(store, supervisor, clock):
    return Conductor(
        store=store, supervisor=supervisor, doorbell=MemoryDoorbell(), clock=clock
    )


def job_of(digest, index):
    own = hashlib.sha256(f"{digest}{index}".encode()).hexdigest()
    return StepJob(
        index=index,
        job_id=str(uuid.UUID(own[:32])),
        digest=own,
        envelope=f"{digest} {index}",
    )


@pytest.fixture
def begin(store, clock):
    """Have a workflow of two steps started, and return its digest."""

    def make():
        digest = hashlib.sha256(uuid.uuid4().bytes).hexdigest()
        outline = Outline(
            digest=digest,
            id=str(uuid.uuid4()),
            caller_id="alice",
            context_id="billing",
            name="etl",
            max_parallel=None,
            expires_at=clock.at + timedelta(days=1),
            signed_by=(),
        )
        store.create(outline, "{}", GRAPH, at=clock.at)
        store.add_jobs(digest, [job_of(digest, index) for index in range(2)])
        store.start(digest, at=clock.at)
        return digest

    return make


@pytest.fixture
def spoil(client, namespace):
    """Put something else in the place of a part of a workflow."""

    def put(digest, part, value):
        key = f"{Keys.of(namespace).workflow}{{{digest}}}:{part}"
        client.delete(key)
        if isinstance(value, dict):
            client.hset(key, mapping=value)
        elif value is not None:
            client.set(key, value)

    return put


@pytest.mark.parametrize("part", sorted(NEEDED))
def test_a_part_of_another_kind_is_named_and_stops_no_other(
    begin, spoil, conductor, supervisor, part
):
    spoilt, other = begin(), begin()
    is_hash = part in {"head", "jobs", "held"}
    spoil(spoilt, part, "something else" if is_hash else {"some": "thing"})

    with pytest.raises(DamagedError) as damage:
        conductor.look(spoilt)
    conductor.sweep()

    assert spoilt in damage.value.detail
    assert supervisor.started == [f"{other} 0"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("states", ""),
        ("states", "\0" * 27),
        ("ids", "\0"),
        ("head", {"status": "running"}),
        ("jobs", {"1": "x"}),
    ],
)
def test_what_lacks_something_is_damaged_too(begin, spoil, conductor, part, value):
    spoilt = begin()
    spoil(spoilt, part, value)

    with pytest.raises(DamagedError, match=spoilt):
        conductor.look(spoilt)


@pytest.mark.parametrize("part", ["bounds", "children"])
@pytest.mark.parametrize("value", [None, "", {"a": "b"}, "\2\0\0\0\1\0\0\0"])
def test_an_end_is_not_carried_on_where_the_edges_are_gone(
    begin, spoil, store, conductor, clock, part, value
):
    spoilt = begin()
    conductor.look(spoilt)
    spoil(spoilt, part, value)
    end = StepEnd(
        digest=job_of(spoilt, 0).digest,
        status=StepStatus.COMPLETED,
        ended_at=clock.at,
    )

    with pytest.raises(DamagedError, match=spoilt):
        store.ended(spoilt, [end], at=clock.at)


def test_lists_leave_out_what_cannot_be_read(begin, spoil, store):
    spoilt, other = begin(), begin()
    spoil(spoilt, "head", {"status": "asleep", "summary": "{}"})

    listed = store.list(WorkflowFilter(), limit=10)

    assert [one.outline.digest for one in listed] == [other]
    with pytest.raises(DamagedError, match=spoilt):
        store.get(spoilt)


def test_an_id_leads_to_no_other_workflow(begin, store, client, namespace):
    own, other = begin(), begin()
    workflow_id, foreign = store.get(own).outline.id, store.get(other).outline.id
    key = Keys.of(namespace).workflow_named + workflow_id
    client.hset(key, mapping={"billing": other, "lab": own})
    assert store.named(workflow_id, contexts=frozenset({"billing"})) == []
    assert store.named(workflow_id, contexts=frozenset({"lab"})) == []
    assert [one.outline.digest for one in store.named(foreign)] == [other]


def test_an_index_shows_no_workflow_to_those_of_another_context(
    begin, store, client, namespace
):
    client.zadd(Keys.of(namespace).workflow_by + "context_id:lab", {begin(): 1})
    lab = frozenset({"lab"})
    assert list(store.list(WorkflowFilter(contexts=lab), limit=9)) == []
    assert list(store.list(WorkflowFilter(context_id="lab"), limit=9)) == []


def test_what_was_spoilt_can_be_stopped_and_deleted(begin, spoil, store, clock):
    spoilt = begin()
    for part in ("states", "children", "bounds", "jobs", "ids", "reasons"):
        spoil(spoilt, part, {"some": "thing"})

    assert store.stop(spoilt, at=clock.at).status is WorkflowStatus.STOPPED
    store.delete(spoilt)

    assert list(store.list(WorkflowFilter(), limit=10)) == []


def test_what_was_taken_out_of_the_list_of_due_ones_goes_on_all_the_same(
    begin, client, namespace, conductor, supervisor
):
    digest = begin()
    client.delete(Keys.of(namespace).workflow_due)

    conductor.sweep()

    assert supervisor.started == [f"{digest} 0"]


@pytest.mark.parametrize("ahead", ["inf", 1e15, 1e300])
@pytest.mark.parametrize("part", [None, "ready:0"])
def test_what_was_put_off_for_ever_goes_on_all_the_same(
    begin, client, namespace, conductor, supervisor, ahead, part
):
    digest, keys = begin(), Keys.of(namespace)
    if part is not None:
        client.zadd(f"{keys.workflow}{{{digest}}}:{part}", {"000000": ahead})
    client.zadd(keys.workflow_due, {digest: ahead})

    conductor.sweep()

    assert supervisor.started == [f"{digest} 0"]


def test_what_is_only_said_to_run_keeps_none_out_of_its_place(
    begin, client, namespace, conductor, supervisor
):
    digest, keys = begin(), Keys.of(namespace)
    junk = {f"nothing {number}": 0 for number in range(5000)}
    client.zadd(keys.workflow_by + "status:running", junk)
    client.delete(keys.workflow_due)

    for _ in range(2):
        conductor.sweep()

    assert supervisor.started == [f"{digest} 0"]


@pytest.mark.parametrize("number", [2_000_000, 10**13])
def test_a_wild_number_of_supervisors_does_not_keep_redis_busy(
    begin, client, namespace, conductor, number
):
    digest = begin()
    head = f"{Keys.of(namespace).workflow}{{{digest}}}:head"
    client.hset(head, "supervisors", number)

    with pytest.raises(DamagedError, match=digest):
        conductor.look(digest)


@pytest.mark.parametrize("ahead", ["inf", 1e15])
def test_a_step_that_was_never_to_be_looked_at_again_is(
    begin, client, namespace, conductor, supervisor, clock, ahead
):
    digest, keys = begin(), Keys.of(namespace)
    conductor.sweep()
    client.zadd(f"{keys.workflow}{{{digest}}}:running", {"000000": ahead})
    client.zadd(keys.workflow_due, {digest: ahead})
    clock.at += timedelta(seconds=30)

    conductor.sweep()

    assert supervisor.started == [f"{digest} 0"] * 2


def test_what_is_no_workflow_keeps_none_from_its_turn(
    begin, client, namespace, conductor, supervisor
):
    due = Keys.of(namespace).workflow_due
    client.zadd(due, {f"nothing {number}": 0 for number in range(1000)})
    digest = begin()

    for _ in range(3):
        conductor.sweep()

    assert supervisor.started == [f"{digest} 0"]
    assert client.zcount(due, 0, 0) == 0


@pytest.mark.parametrize("part", ["head", "states", "jobs"])
def test_damaged_ones_keep_none_from_its_turn(
    begin, spoil, store, conductor, clock, part
):
    for _ in range(3):
        spoil(begin(), part, {"status": "running"})
    clock.at += timedelta(seconds=1)
    begin()
    assert len(store.overdue(at=clock.at, limit=9)) == 4

    conductor.sweep()

    assert store.overdue(at=clock.at, limit=9) == ()


@pytest.fixture
def forgetting(store, supervisor, clock):
    """A conductor that forgets workflows an hour after their end."""
    return Conductor(
        store=store,
        supervisor=supervisor,
        doorbell=MemoryDoorbell(),
        clock=clock,
        keep=timedelta(hours=1),
    )


def test_a_workflow_said_to_have_ended_stops_no_other(
    begin, client, namespace, forgetting, supervisor
):
    digest, other = begin(), begin()
    client.zadd(Keys.of(namespace).workflow_ended, {digest: 1})

    forgetting.sweep()

    assert sorted(supervisor.started) == sorted([f"{digest} 0", f"{other} 0"])


def test_what_never_ended_keeps_none_from_being_forgotten(
    begin, spoil, client, namespace, store, forgetting, clock
):
    old, broken = begin(), begin()
    store.stop(old, at=clock.at)
    spoil(broken, "head", {"status": "stopped"})
    junk = {f"nothing {number}": 0 for number in range(1000)}
    client.zadd(Keys.of(namespace).workflow_ended, {**junk, broken: 0})
    clock.at += timedelta(hours=2)

    for _ in range(3):
        forgetting.sweep()

    with pytest.raises(NotFoundError):
        store.get(old)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("workflows", WorkflowFilter()),
        ("workflow_by:context_id:billing", WorkflowFilter(context_id="billing")),
    ],
)
def test_an_index_forgets_what_is_no_workflow_once_it_was_read(
    begin, client, namespace, store, name, wanted
):
    mine = {begin() for _ in range(3)}
    index = f"{namespace}:{name}"
    before = client.zrange(index, 0, -1)
    for page in range(5):
        junk = range(2000 * page, 2000 * page + 2000)
        client.zadd(index, {f"{number:064x}": number + 0.5 for number in junk})
    assert {one.outline.digest for one in store.list(wanted, limit=10)} == mine
    assert client.zrange(index, 0, -1) == before


@pytest.mark.parametrize("score", ["inf", 1e300, 1.5])
def test_an_entry_with_a_wild_number_hides_no_workflow(
    begin, client, namespace, store, score
):
    mine = {begin() for _ in range(3)}
    keys = Keys.of(namespace)
    for index in (keys.workflows, keys.workflow_by + "context_id:billing"):
        client.zadd(index, {"nothing": score})

    for wanted in (WorkflowFilter(), WorkflowFilter(contexts=frozenset({"billing"}))):
        listed = store.list(wanted, limit=10)
        assert {one.outline.digest for one in listed} == mine


@pytest.mark.parametrize("number", ["9007199254740993", "-7", "253402300799999"])
def test_a_wild_count_spoils_no_new_workflow(begin, client, namespace, store, number):
    key = Keys.of(namespace).workflow_sequence
    client.set(key, number)

    with pytest.raises(DamagedError, match=key):
        begin()
    client.delete(key)

    assert store.get(begin()).status is WorkflowStatus.RUNNING


@pytest.mark.parametrize("part", ["running", "ready:0"])
@pytest.mark.parametrize("member", ["junk", "-1", "0.5", "1000000", "inf", "nan"])
def test_a_step_that_is_none_is_damage_like_any_other(
    begin, client, namespace, conductor, supervisor, part, member
):
    spoilt, other = begin(), begin()
    key = f"{Keys.of(namespace).workflow}{{{spoilt}}}:{part}"
    client.zadd(key, {member: 1})

    conductor.sweep()

    assert f"{other} 0" in supervisor.started


def test_a_step_whose_job_is_gone_stops_no_other(
    begin, spoil, conductor, supervisor, clock
):
    spoilt, other = begin(), begin()
    conductor.look(spoilt)
    spoil(spoilt, "jobs", None)
    clock.at += timedelta(seconds=30)

    conductor.sweep()

    assert f"{other} 0" in supervisor.started


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("states", struct.pack("<BBHIIdd", 3, 0, 0, 0, 0, math.nan, 1.0) * 2),
        ("states", struct.pack("<BBHIIdd", 3, 0, 0, 0, 0, 1.0, math.inf) * 2),
        ("states", struct.pack("<BBHIIdd", 3, 0, 0, 0, 0, 1e300, 1.0) * 2),
        ("ids", b"\1" * 10),
    ],
    ids=["no number", "no end", "far ahead", "cut off"],
)
def test_where_steps_stand_is_damaged_if_it_cannot_be_read(
    begin, spoil, store, part, value
):
    spoilt = begin()
    spoil(spoilt, part, value)

    with pytest.raises(DamagedError, match=spoilt):
        store.steps(spoilt)
    with pytest.raises(DamagedError, match=spoilt):
        store.step(spoilt, 0)
