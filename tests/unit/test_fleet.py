"""What is shown of runners, and what is done with those of the configuration."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from datetime import timedelta

import pytest

from horus_celery.errors import (
    ConflictError,
    NotCoveredError,
    NotFoundError,
    RefusedError,
    SignatureError,
    UnavailableError,
)
from horus_celery.fleet import (
    Fleet,
    ManagedStatus,
    Planned,
    RunnerStatus,
    status_of,
)
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Event
from horus_celery.record import LEASE, Change
from horus_celery.registry import (
    PATIENCE,
    MemoryRegistry,
    Phase,
    RunnerBeat,
    write_beat,
)
from horus_celery.routing import queue_of
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes
from tests.conftest import FrozenClock

#: Name to contexts.
LISTED = {"free": ["*"], "bound": ["a", "b"], "managed": ["*"]}


class Desk:
    """A process manager of one runner that does as it is told."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.state: dict[str, ManagedStatus] = dict.fromkeys(names, "stopped")
        self.told: list[tuple[str, str]] = []
        #: Whose status was asked for.
        self.asked: list[str] = []
        self.is_away = False

    def names(self):
        return self._names

    def plan(self, name):
        return Planned(executor="python", contexts=("*",), concurrency=3)

    def kind(self, name):
        return "simple"

    def start(self, name):
        self.told.append(("start", name))
        self.state[name] = "running"

    def stop(self, name):
        self.told.append(("stop", name))
        self.state[name] = "stopped"

    def status(self, name):
        self.asked.append(name)
        if self.is_away:
            raise UnavailableError("the desk was told to be away")
        return self.state[name]

    def logs(self, name, *, lines):
        return tuple(f"line {number}" for number in range(lines))


class Notes(MemoryRegistry):
    """A registry that nobody can read while a test says so."""

    is_away = False

    def texts(self, names):
        if self.is_away:
            raise UnavailableError("the notes were told to be away")
        return super().texts(names)


class Town:
    """A fleet with everything that it stands on."""

    def __init__(self, clock, make_summary):
        self.clock = clock
        self.make_summary = make_summary
        self.keys = {name: KeyPair.generate() for name in LISTED}
        self.trust = Trust.from_wire(self.trust_body())
        wakes = MemoryWakes()
        self.store = MemoryStore(wakes=wakes, logs=MemoryLogs(wakes))
        self.registry = Notes()
        self.desk = Desk("managed")
        self.fleet = Fleet(
            registry=self.registry,
            trust=self,
            store=self.store,
            clock=clock,
            namespace="hero",
            managers=self.desk,
        )

    def current(self):
        return self.trust

    def trust_body(self, **changes):
        usual = {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": to_ms(self.clock.at),
            "expires_at": to_ms(self.clock.at + timedelta(days=1)),
            "keys": {key.keyid: key.public.hex() for key in self.keys.values()},
            "grants": [],
            "runners": [
                {
                    "name": name,
                    "key": self.keys[name].keyid,
                    "executors": ["python", "system"],
                    "contexts": contexts,
                }
                for name, contexts in LISTED.items()
            ],
        }
        return {**usual, **changes}

    def beat(self, name, phase=Phase.RUNNING, **changes):
        said = {
            "name": name,
            "executors": ("python",),
            "contexts": tuple(LISTED[name]),
            "concurrency": 2,
            "phase": phase,
            "at": self.clock.at,
            "host": "here",
            "pid": 1,
        }
        beat = RunnerBeat(**{**said, **changes})
        text = write_beat(beat, aud="hero", key=self.keys[name])
        self.registry.keep(name, text)

    def registration(self, name="free", *, key=None, **changes):
        body = {
            "v": 1,
            "aud": "hero",
            "name": name,
            "executor": "python",
            "contexts": LISTED.get(name, ["*"]),
            "concurrency": 4,
            "nonce": f"nonce {next(_numbers)}",
            "at": to_ms(self.clock.at),
            **changes,
        }
        signer = key or self.keys[name]
        signed = dsse.sign(dsse.RUNNER, canonical.encode(body), [signer])
        return dsse.to_wire(signed)

    def submit(self, **facts):
        summary = self.make_summary(**facts)
        queue = queue_of(
            executor=summary.executor,
            runner=summary.runner,
            context_id=summary.context_id,
            trust=self.trust,
        )
        return self.store.add(
            summary,
            "{}",
            at=self.clock.at,
            priority=4,
            not_before=None,
            queue=queue,
        )

    def claim(self, record, name):
        change = Change(
            event=Event.CLAIMED,
            at=self.clock.at,
            attempt=1,
            ran_on=name,
            lease_until=self.clock.at + LEASE,
        )
        self.store.apply(record.summary.digest, change)

    def status(self, name):
        return self.fleet.get(name).status

    def names(self, fleet=None):
        return [view.name for view in (fleet or self.fleet).list()]


_numbers = itertools.count()


@pytest.fixture
def town(clock, make_summary):
    return Town(clock, make_summary)


# --- who is shown -------------------------------------------------------------


def test_a_runner_that_beats_is_shown_with_all_that_it_said(town):
    town.beat("free", executors=("python", "system"))
    view = town.fleet.get("free")
    assert view.name == "free"
    assert view.executor == "python,system"
    assert view.contexts == ("*",)
    assert view.concurrency == 2
    assert view.status == "running"
    assert view.last_seen == town.clock.at
    assert (view.queued, view.running) == (0, 0)
    assert view.process_manager is None


def test_a_managed_runner_that_was_never_started_is_shown_stopped(town):
    [view] = town.fleet.list()
    assert (view.name, view.status, view.process_manager) == (
        "managed",
        "stopped",
        "simple",
    )
    assert (view.executor, view.concurrency, view.last_seen) == ("python", 3, None)


def test_runners_are_listed_by_name(town):
    town.beat("free")
    town.beat("bound")
    assert town.names() == ["bound", "free", "managed"]


def test_a_silent_runner_is_lost_after_eight_seconds(town):
    town.beat("free")
    town.clock.at += PATIENCE
    assert town.status("free") == "running"
    town.clock.advance(seconds=0.001)
    assert town.status("free") == "lost"


@pytest.mark.parametrize("wrong", [timedelta(minutes=-3), timedelta(minutes=3)])
def test_a_supervisor_whose_clock_is_wrong_shows_a_runner_as_it_does(town, wrong):
    beats, own = FrozenClock(), FrozenClock()
    own.at = beats.at + wrong
    fleet = Fleet(
        registry=town.registry,
        trust=town,
        store=town.store,
        clock=own,
        namespace="hero",
        beat_clock=beats,
    )
    town.beat("free", at=beats.at)
    assert fleet.get("free").status == "running"
    beats.advance(seconds=9)
    assert fleet.get("free").status == "lost"


def test_a_runner_that_ended_in_order_stays_in_the_list(town):
    town.beat("free", Phase.STOPPED)
    town.clock.advance(hours=1)
    assert town.status("free") == "stopped"


def test_nobody_is_found_under_a_name_that_nobody_has(town):
    with pytest.raises(NotFoundError, match="no runner nobody"):
        town.fleet.get("nobody")


def test_a_runner_that_the_bundle_no_longer_lists_is_not_shown(town):
    town.beat("free")
    body = town.trust_body()
    body["runners"] = [one for one in body["runners"] if one["name"] != "free"]
    town.trust = Trust.from_wire(body)
    assert town.names() == ["managed"]


def test_a_process_manager_that_is_away_hides_no_runner(town):
    town.beat("free")
    town.beat("managed")
    town.desk.is_away = True
    assert [view.status for view in town.fleet.list()] == ["running", "running"]


def test_a_managed_runner_that_was_killed_starts_until_it_is_heard_again(town):
    town.desk.state["managed"] = "running"
    with subprocess.Popen(["true"]) as process:  # noqa: S607 - any will do
        process.wait()
    here = {"host": socket.gethostname(), "pid": process.pid}
    town.beat("managed", **here)
    assert town.status("managed") == "starting"
    for other in ({"host": "elsewhere"}, {"pid": os.getpid()}):
        town.beat("managed", **{**here, **other})
        assert town.status("managed") == "running"


BEATS: dict[str, tuple[Phase, timedelta] | None] = {
    "none": None,
    "starting": (Phase.STARTING, timedelta(0)),
    "running": (Phase.RUNNING, timedelta(0)),
    "stopping": (Phase.STOPPING, timedelta(0)),
    "silent": (Phase.RUNNING, PATIENCE * 2),
    "ended": (Phase.STOPPED, timedelta(0)),
    "ended long ago": (Phase.STOPPED, timedelta(days=1)),
}
#: What was said last, what the process manager knows: what is shown.
SHOWN: dict[tuple[str, ManagedStatus | None], RunnerStatus] = {
    ("none", "stopped"): "stopped",
    ("none", "running"): "starting",
    ("none", None): "stopped",
    ("starting", "stopped"): "starting",
    ("starting", "running"): "starting",
    ("starting", None): "starting",
    ("running", "stopped"): "running",
    ("running", "running"): "running",
    ("running", None): "running",
    ("stopping", "stopped"): "running",
    ("stopping", "running"): "running",
    ("stopping", None): "running",
    ("silent", "stopped"): "stopped",
    ("silent", "running"): "lost",
    ("silent", None): "lost",
    ("ended", "stopped"): "stopped",
    ("ended", "running"): "starting",
    ("ended", None): "stopped",
    ("ended long ago", "stopped"): "stopped",
    ("ended long ago", "running"): "starting",
    ("ended long ago", None): "stopped",
    **{(said, "starting"): "starting" for said in BEATS},
    **{(said, "crashed"): "crashed" for said in BEATS},
}


@pytest.mark.parametrize(
    ("said", "managed"), SHOWN, ids=lambda word: str(word).replace(" ", "_")
)
def test_what_was_said_and_what_the_manager_knows_give_one_status(clock, said, managed):
    known = BEATS[said]
    beat = known and RunnerBeat(
        name="r",
        executors=("python",),
        contexts=("*",),
        concurrency=1,
        phase=known[0],
        at=clock.at - known[1],
    )
    assert status_of(beat, managed, clock.at) == SHOWN[said, managed]


def test_every_pair_of_them_is_in_the_table():
    states = ("starting", "running", "stopped", "crashed", None)
    assert set(SHOWN) == set(itertools.product(BEATS, states))


# --- what they have to do -----------------------------------------------------


def test_what_waits_and_what_runs_is_counted_by_the_queues_that_one_serves(town):
    town.beat("free")
    town.beat("bound")
    town.submit(context_id="c")
    town.submit(context_id="a")
    town.submit(context_id="a", runner="bound")
    town.claim(town.submit(context_id="b"), "bound")
    free, bound = town.fleet.get("free"), town.fleet.get("bound")
    assert (free.queued, free.running) == (2, 0)
    assert (bound.queued, bound.running) == (2, 1)


def test_a_bound_caller_is_told_nothing_of_the_queues_of_other_contexts(town):
    town.beat("free")
    town.submit(context_id="a")
    town.submit(context_id="b")
    assert town.fleet.get("free").queued == 2
    assert town.fleet.within(frozenset({"a"})).get("free").queued == 1


def test_a_bound_caller_is_told_nothing_of_what_others_have_on_a_shared_runner(town):
    town.beat("free")
    town.claim(town.submit(context_id="c"), "free")
    town.submit(context_id="c")
    town.submit(context_id="d")
    for contexts, work in (("a", (0, 0)), ("c", (1, 1)), ("d", (1, 0))):
        view = town.fleet.within(frozenset(contexts)).get("free")
        assert (view.queued, view.running) == work


# --- who sees whom ------------------------------------------------------------


def test_a_bound_caller_sees_only_runners_that_serve_its_contexts(town):
    town.beat("free")
    town.beat("bound")
    inside = town.fleet.within(frozenset({"a"}))
    outside = town.fleet.within(frozenset({"c"}))
    assert town.names(inside) == ["bound", "free", "managed"]
    assert inside.get("bound").contexts == ("a",)
    assert town.names(outside) == ["free", "managed"]
    assert town.fleet.within(None) is town.fleet
    assert town.fleet.get("bound").contexts == ("a", "b")


def test_what_lies_outside_looks_as_if_it_did_not_exist(town):
    town.beat("bound")
    outside = town.fleet.within(frozenset({"c"}))
    with pytest.raises(NotFoundError) as there:
        outside.get("bound")
    with pytest.raises(NotFoundError) as not_there:
        outside.get("dnuob")
    assert str(there.value) == str(not_there.value).replace("dnuob", "bound")
    for method in (outside.start, outside.stop, outside.remove):
        with pytest.raises(NotFoundError):
            method("bound")


@pytest.mark.parametrize("is_heard", [True, False])
def test_of_a_foreign_runner_its_process_manager_is_not_asked(town, is_heard):
    """It takes its time to answer, which it would not for one that is not there."""
    town.trust = Trust.from_wire(
        town.trust_body(
            runners=[
                {
                    "name": "managed",
                    "key": town.keys["managed"].keyid,
                    "executors": ["python"],
                    "contexts": ["a"],
                }
            ]
        )
    )
    if is_heard:
        town.beat("managed", contexts=("a",))
    outside = town.fleet.within(frozenset({"c"}))
    with pytest.raises(NotFoundError):
        outside.get("managed")
    assert outside.list() == ()
    assert town.desk.asked == []
    assert town.names(town.fleet.within(frozenset({"a"}))) == ["managed"]
    assert town.desk.asked == ["managed"]


# --- they announce themselves -------------------------------------------------


def test_a_runner_that_registers_is_shown_starting_and_then_lost(town):
    view = town.fleet.register(town.registration())
    assert (view.name, view.status, view.concurrency) == ("free", "starting", 4)
    assert view.last_seen == town.clock.at
    town.clock.advance(seconds=9)
    assert town.status("free") == "lost"


@pytest.mark.parametrize("wrong", [timedelta(minutes=-3), timedelta(minutes=3)])
def test_a_runner_with_a_wrong_clock_that_registers_is_shown_starting(town, wrong):
    for _ in range(2):
        # Again and again, it stays so.
        registration = town.registration(at=to_ms(town.clock.at + wrong))
        shown = town.fleet.register(registration)
        assert (shown.status, shown.last_seen) == ("starting", town.clock.at)
        town.clock.advance(seconds=7)
    town.clock.advance(seconds=2)
    assert town.status("free") == "lost"


def test_a_nonce_counts_once(town):
    registration = town.registration()
    town.fleet.register(registration)
    with pytest.raises(ConflictError) as refusal:
        town.fleet.register(registration)
    assert refusal.value.reason == "nonce_used"
    town.fleet.register(town.registration())


def test_a_registration_that_was_refused_uses_no_nonce_up(town):
    registration = town.registration(nonce="n")
    town.clock.advance(minutes=-6)
    with pytest.raises(RefusedError):
        town.fleet.register(registration)
    town.clock.advance(minutes=6)
    town.fleet.register(registration)


def test_a_registration_in_vain_counts_when_it_comes_again(town):
    town.registry.is_away = True
    registration = town.registration()
    with pytest.raises(UnavailableError):
        town.fleet.register(registration)
    town.registry.is_away = False
    assert town.fleet.register(registration).status == "starting"


def test_a_registration_shown_again_does_not_bring_a_removed_runner_back(town):
    town.beat("free")
    old = town.registration()
    town.fleet.register(old)
    town.clock.advance(seconds=9)
    town.fleet.remove("free")
    with pytest.raises(ConflictError):
        town.fleet.register(old)
    assert "free" not in town.names()


def test_a_registration_takes_nothing_from_a_runner_that_runs(town):
    town.beat("free", concurrency=2)
    town.clock.advance(seconds=1)
    view = town.fleet.register(town.registration(concurrency=9))
    assert (view.status, view.concurrency) == ("running", 2)


def test_an_older_registration_does_not_revive_a_runner_that_ended(town):
    old = town.registration()
    town.clock.advance(minutes=1)
    town.beat("free", Phase.STOPPED)
    assert town.fleet.register(old).status == "stopped"
    town.clock.advance(minutes=1)
    assert town.fleet.register(town.registration()).status == "starting"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "nobody", "key": "free"}, "bind.runner"),
        ({"aud": "other"}, "bind.aud"),
        ({"executor": "osis"}, "bind.executor"),
        ({"name": "bound", "contexts": ["*"]}, "bind.context"),
        ({"name": "bound", "contexts": ["a", "c"]}, "bind.context"),
        ({"key": "bound"}, "sig.none"),
        ({"key": "stranger"}, "sig.none"),
        ({"concurrency": 0}, "schema.concurrency"),
        ({"more": 1}, "schema.fields"),
        ({"at": 0}, "time.expired"),
        ({"at": 4_000_000_000_000}, "time.future"),
    ],
    ids=str,
)
def test_what_does_not_hold_is_refused_and_shows_no_runner(town, changes, reason):
    signer = changes.get("key")
    if signer:
        changes = {**changes, "key": town.keys.get(signer, KeyPair.generate())}
    registration = town.registration(**changes)
    with pytest.raises(RefusedError) as refusal:
        town.fleet.register(registration)
    assert refusal.value.reason == reason
    assert town.names() == ["managed"]


@pytest.mark.parametrize(
    ("junk", "reason"),
    [(None, "env.fields"), ({}, "env.fields"), ([], "env.fields")],
    ids=str,
)
def test_what_is_no_envelope_is_refused(town, junk, reason):
    with pytest.raises(RefusedError) as refusal:
        town.fleet.register(junk)
    assert refusal.value.reason == reason


def test_another_statement_of_the_runner_is_no_registration(town):
    receipt = {**town.registration(), "payloadType": dsse.RECEIPT}
    with pytest.raises(RefusedError) as refusal:
        town.fleet.register(receipt)
    assert refusal.value.reason == "env.type"


def test_an_expired_bundle_lets_nobody_register(town):
    registration = town.registration(at=to_ms(town.clock.at + timedelta(days=1)))
    town.clock.advance(days=1)
    with pytest.raises(SignatureError, match="expired"):
        town.fleet.register(registration)


def test_a_secret_for_some_contexts_registers_no_runner_of_more(town):
    inside = town.fleet.within(frozenset({"a", "b"}))
    assert inside.register(town.registration("bound")).status == "starting"
    for contexts, name in (({"a"}, "bound"), ({"a", "b"}, "free"), ((), "free")):
        fleet = town.fleet.within(frozenset(contexts))
        with pytest.raises(NotCoveredError) as refusal:
            fleet.register(town.registration(name))
        assert refusal.value.reason == "bind.context"


# --- they are managed ---------------------------------------------------------


def test_a_managed_runner_is_started_stopped_and_read(town):
    assert town.fleet.start("managed").status == "starting"
    town.beat("managed")
    assert town.status("managed") == "running"
    assert town.fleet.logs("managed", lines=2) == ("line 0", "line 1")
    town.beat("managed", Phase.STOPPED)
    assert town.fleet.stop("managed").status == "stopped"
    assert town.desk.told == [("start", "managed"), ("stop", "managed")]


def test_a_runner_that_had_no_last_word_is_starting_when_it_is_started_again(town):
    town.beat("managed")
    town.clock.advance(seconds=9)
    for state in ("crashed", "stopped"):
        town.desk.state["managed"] = state
        assert town.fleet.start("managed").status == "starting"
        town.beat("managed")
        assert town.status("managed") == "running"
    town.clock.advance(seconds=9)
    assert town.fleet.start("managed").status == "lost"


def test_a_runner_is_stopped_and_started_though_nobody_says_how_it_does(town):
    town.beat("managed")
    town.desk.is_away = True
    town.fleet.stop("managed")
    town.fleet.start("managed")
    assert town.desk.told == [("stop", "managed"), ("start", "managed")]


def test_a_runner_that_had_no_last_word_is_shown_stopped_at_once(town):
    town.fleet.start("managed")
    town.beat("managed")
    assert town.fleet.stop("managed").status == "stopped"


@pytest.mark.parametrize("method", ["start", "stop", "logs"])
def test_what_is_not_managed_here_is_a_conflict_that_says_so(town, method):
    town.beat("free")
    options = {"lines": 1} if method == "logs" else {}
    with pytest.raises(ConflictError, match="does not manage the runner free") as error:
        getattr(town.fleet, method)("free", **options)
    assert error.value.reason == "runner_not_managed"


@pytest.mark.parametrize("method", ["start", "stop", "logs", "remove"])
def test_what_does_not_exist_is_not_found(town, method):
    options = {"lines": 1} if method == "logs" else {}
    with pytest.raises(NotFoundError):
        getattr(town.fleet, method)("nobody", **options)
    assert town.desk.told == []


def test_a_node_that_manages_nothing_shows_those_that_beat(town):
    fleet = Fleet(
        registry=town.registry,
        trust=town,
        store=town.store,
        clock=town.clock,
        namespace="hero",
    )
    town.beat("managed")
    [view] = fleet.list()
    assert (view.name, view.process_manager) == ("managed", None)
    with pytest.raises(ConflictError):
        fleet.stop("managed")


# --- they are removed ---------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING])
def test_a_live_runner_that_is_not_managed_is_not_removed(town, phase):
    town.beat("free", phase)
    with pytest.raises(ConflictError, match="stop it first"):
        town.fleet.remove("free")
    assert town.names() == ["free", "managed"]


def test_a_runner_that_ended_or_was_lost_is_removed(town):
    town.beat("free", Phase.STOPPED)
    assert town.fleet.remove("free").status == "stopped"
    town.beat("bound")
    town.clock.advance(seconds=9)
    assert town.fleet.remove("bound").status == "lost"
    assert town.names() == ["managed"]


def test_a_managed_runner_is_stopped_and_removed_until_it_is_started_again(town):
    town.fleet.start("managed")
    town.beat("managed")
    assert town.fleet.remove("managed").status == "stopped"
    assert town.desk.told[-1] == ("stop", "managed")
    assert town.names() == []
    for method in (town.fleet.stop, town.fleet.remove, town.fleet.get):
        with pytest.raises(NotFoundError):
            method("managed")
    assert town.fleet.start("managed").status == "starting"
    assert town.names() == ["managed"]


def test_a_removed_runner_is_back_when_it_is_heard(town):
    town.fleet.remove("managed")
    assert town.names() == []
    town.beat("managed")
    assert town.names() == ["managed"]
