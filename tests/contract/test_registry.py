from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import orjson
import pytest

from horus_celery.instants import to_ms
from horus_celery.registry import (
    NONCE_LIFETIME,
    PATIENCE,
    Phase,
    Roster,
    RunnerBeat,
    is_alive,
    write_beat,
    write_registration,
    write_removed,
)
from horus_celery.statements import dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.runner import Registration
from horus_celery.statements.trust import Trust

NAMES = ("a", "b", "osis_runner_1")


def make_trust(clock, keys, **changes):
    usual = {
        "v": 1,
        "aud": "hero",
        "version": 1,
        "issued_at": to_ms(clock.at),
        "expires_at": to_ms(clock.at) + 10**9,
        "keys": {key.keyid: key.public.hex() for key in keys.values()},
        "grants": [],
        "runners": [
            {
                "name": name,
                "key": key.keyid,
                "executors": ["osis", "v"],
                "contexts": ["*"],
            }
            for name, key in keys.items()
        ],
    }
    return Trust.from_wire({**usual, **changes})


class GivenTrust:
    """The bundle that a test gives it."""

    def __init__(self, trust):
        self.trust = trust

    def current(self):
        return self.trust


@pytest.fixture
def town(registry, clock):
    """Three runners of a bundle, and who reads their words."""
    keys = {name: KeyPair.generate() for name in NAMES}
    trust = GivenTrust(make_trust(clock, keys))
    return SimpleNamespace(
        keys=keys,
        trust=trust,
        registry=registry,
        roster=Roster(registry, trust, clock),
    )


@pytest.fixture
def beat(clock):
    def make(name: str = "osis_runner_1", **changes) -> RunnerBeat:
        usual = RunnerBeat(
            name=name,
            executors=("osis", "v"),
            contexts=("*",),
            concurrency=4,
            phase=Phase.RUNNING,
            host="näde",
            pid=4711,
            at=clock.at,
        )
        return replace(usual, **changes)

    return make


def say(town, beat, **how):
    key = how.pop("key", town.keys[beat.name])
    town.registry.keep(beat.name, write_beat(beat, aud="hero", key=key))


# --- the port ------------------------------------------------------------------


def test_nothing_is_kept_of_a_runner_before_its_first_word(registry):
    assert registry.texts(["a", "b"]) == {}
    assert registry.texts([]) == {}


def test_the_latest_text_of_each_runner_is_kept(registry):
    registry.keep("a", b"1")
    registry.keep("b", b"2")
    registry.keep("a", b"3")
    assert registry.texts(["b", "a", "c"]) == {"a": b"3", "b": b"2"}
    assert registry.texts({"a"}) == {"a": b"3"}


def test_a_runner_that_is_forgotten_is_gone(registry):
    registry.keep("a", b"1")
    registry.keep("b", b"2")
    registry.leave("a")
    registry.leave("a")
    assert registry.texts(["a", "b"]) == {"b": b"2"}


def test_a_nonce_is_used_once(registry, clock):
    def spend(nonce):
        return registry.spend(nonce, at=clock.at, name="a", text=None)

    assert spend("a 1")
    assert spend("a 2")
    clock.advance(seconds=599)
    assert not spend("a 1")


def test_what_comes_with_a_nonce_is_kept_once(registry, clock):
    assert registry.spend("a 1", at=clock.at, name="a", text=b"1")
    assert registry.texts(["a"]) == {"a": b"1"}
    registry.keep("a", b"2")
    assert not registry.spend("a 1", at=clock.at, name="a", text=b"1")
    assert registry.texts(["a"]) == {"a": b"2"}
    registry.leave("a")
    assert not registry.spend("a 1", at=clock.at, name="a", text=b"1")
    assert registry.texts(["a"]) == {}


def test_nothing_that_comes_with_a_nonce_leaves_the_latest_as_it_is(registry, clock):
    registry.keep("a", b"1")
    assert registry.spend("a 1", at=clock.at, name="a", text=None)
    assert registry.texts(["a"]) == {"a": b"1"}


def test_of_those_who_use_a_nonce_at_once_one_is_kept(registry, clock):
    def spend(text):
        return registry.spend("a 1", at=clock.at, name="a", text=text)

    texts = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        spent = list(pool.map(spend, texts))
    assert spent.count(True) == 1
    assert registry.texts(["a"]) == {"a": texts[spent.index(True)]}


def test_a_nonce_is_forgotten_after_ten_minutes(registry, redis_or_none, clock):
    registry.spend("a 1", at=clock.at, name="a", text=None)
    if redis_or_none is not None:
        [key] = redis_or_none.keys("*nonce*")
        assert 0 < redis_or_none.pttl(key) <= NONCE_LIFETIME.total_seconds() * 1000
        return
    clock.at += NONCE_LIFETIME
    assert registry.spend("a 1", at=clock.at, name="a", text=None)


@pytest.fixture
def redis_or_none(request, registry):
    if type(registry).__name__ != "RedisRegistry":
        return None
    return request.getfixturevalue("redis_server").client()


# --- what is believed of it ------------------------------------------------------


def test_nobody_is_listed_before_a_beat(town):
    assert town.roster.list() == ()


def test_runners_are_listed_by_name_as_they_said_it(town, beat):
    for name in ("b", "osis_runner_1", "a"):
        say(town, beat(name))
    assert town.roster.list() == (beat("a"), beat("b"), beat("osis_runner_1"))


def test_a_beat_takes_the_place_of_the_one_before(town, beat, clock):
    say(town, beat())
    assert town.roster.list() == (beat(),)
    clock.advance(seconds=2)
    say(town, beat(concurrency=8, phase=Phase.STOPPED))
    assert town.roster.list() == (beat(concurrency=8, phase=Phase.STOPPED),)


def test_a_registration_shows_a_runner_that_starts(town, clock):
    said = Registration.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "name": "a",
            "executor": "v",
            "contexts": ["lab"],
            "concurrency": 2,
            "nonce": "n",
            "at": to_ms(clock.at),
        }
    )
    envelope = dsse.sign(dsse.RUNNER, said.body(), [town.keys["a"]])
    heard_at = clock.at + timedelta(minutes=3)
    text = write_registration(envelope, heard_at=heard_at)
    town.registry.keep("a", text)
    assert town.roster.list() == (
        RunnerBeat(
            name="a",
            executors=("v",),
            contexts=("lab",),
            concurrency=2,
            phase=Phase.STARTING,
            at=clock.at,
            heard_at=heard_at,
        ),
    )
    # Nobody signed when it was heard of: a replayed one is not heard of now.
    late = to_ms(clock.at) + 3_600_000
    wrong: list[object] = [late, -1, 2**80, True, "1", {}]
    for junk in wrong:
        entry = {**orjson.loads(text), "heard_at": junk}
        town.registry.keep("a", json.dumps(entry).encode())
        assert [beat.seen_at for beat in town.roster.list()] == [clock.at]


def test_a_beat_that_somebody_else_signed_shows_no_runner(town, beat):
    say(town, beat("a"), key=town.keys["b"])
    say(town, beat("b"), key=KeyPair.generate())
    assert town.roster.list() == ()


def test_a_beat_under_another_name_shows_no_runner(town, beat):
    town.registry.keep("b", write_beat(beat("a"), aud="hero", key=town.keys["a"]))
    assert town.roster.list() == ()


def test_a_beat_for_another_deployment_shows_no_runner(town, beat):
    town.registry.keep("a", write_beat(beat("a"), aud="other", key=town.keys["a"]))
    assert town.roster.list() == ()


def test_facts_that_were_altered_do_not_count(town, beat):
    say(town, beat("a"))
    entry = orjson.loads(town.registry.texts(["a"])["a"])
    facts = orjson.loads(entry["facts"])
    for changed in ({"phase": "stopped"}, {"host": "elsewhere"}, {"pid": 1}):
        forged = {**entry, "facts": orjson.dumps({**facts, **changed}).decode()}
        town.registry.keep("a", orjson.dumps(forged))
        [shown] = town.roster.list()
        assert (shown.phase, shown.host, shown.pid) == (Phase.STARTING, None, None)


def test_an_executor_that_the_bundle_does_not_allow_is_not_shown(town, beat):
    say(town, beat("a", executors=("osis", "python")))
    [shown] = town.roster.list()
    assert shown.executors == ("osis",)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"registration":{},"facts":null,"heard_at":null}',
        b'{"registration":null,"facts":null,"more":1}',
        b"[" * 100_000,
        b'"' + b"x" * 1_000_000 + b'"',
    ],
    ids=lambda junk: ascii(junk[:20]),
)
def test_junk_shows_no_runner_and_hides_no_other(town, beat, junk):
    say(town, beat("b"))
    town.registry.keep("a", junk)
    town.registry.keep("nobody", junk)
    assert town.roster.list() == (beat("b"),)


@pytest.mark.parametrize(
    "facts", ["null", "[]", "{}", '{"executors":1}', '{"executors":[],"phase":"x"}']
)
def test_facts_that_a_runner_signed_and_are_none_break_nothing(
    town, beat, clock, facts
):
    said = Registration.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "name": "a",
            "executor": "v",
            "contexts": ["*"],
            "concurrency": 2,
            "nonce": hashlib.sha256(facts.encode()).hexdigest(),
            "at": to_ms(clock.at),
        }
    )
    envelope = dsse.to_wire(dsse.sign(dsse.RUNNER, said.body(), [town.keys["a"]]))
    entry = orjson.dumps({"registration": envelope, "facts": facts, "heard_at": None})
    town.registry.keep("a", entry)
    say(town, beat("b"))
    assert town.roster.list() == (beat("b"),)


def test_an_old_beat_shown_again_is_only_old(town, beat, clock):
    say(town, beat("a"))
    old = town.registry.texts(["a"])["a"]
    clock.advance(seconds=60)
    say(town, beat("a", phase=Phase.STOPPED))
    town.registry.keep("a", old)
    [shown] = town.roster.list()
    assert not is_alive(shown, clock.at)


def test_a_new_bundle_counts_at_once(town, beat, clock):
    say(town, beat("a"))
    say(town, beat("b"))
    assert len(town.roster.list()) == 2
    left = {name: key for name, key in town.keys.items() if name != "a"}
    town.trust.trust = make_trust(clock, left, version=2)
    assert town.roster.list() == (beat("b"),)
    other = {**town.keys, "b": KeyPair.generate()}
    town.trust.trust = make_trust(clock, other, version=3)
    assert town.roster.list() == (beat("a"),)


def test_a_runner_is_shown_with_what_the_bundle_still_allows(town, beat, clock):
    say(town, beat("a"))
    say(town, beat("b", executors=("osis",)))
    body = town.trust.trust.to_wire()
    entries = [
        {**one, "executors": ["v"], "contexts": ["lab"]} for one in body["runners"]
    ]
    town.trust.trust = Trust.from_wire({**body, "version": 2, "runners": entries})
    assert town.roster.list() == (beat("a", executors=("v",), contexts=("lab",)),)


def test_a_removed_runner_is_back_with_its_next_beat(town, beat):
    say(town, beat("a"))
    town.registry.keep("a", write_removed())
    town.registry.keep("unlisted", write_removed())
    roll = town.roster.look(["unlisted"])
    assert roll.beats == {}
    assert roll.removed == {"a", "unlisted"}
    say(town, beat("a"))
    assert town.roster.look().removed == frozenset()
    assert town.roster.list() == (beat("a"),)


def test_what_was_verified_is_not_verified_again(town, beat):
    verified = []

    class Counting(Trust):
        def runner_keys(self):
            verified.append(self)
            return super().runner_keys()

    town.trust.trust = Counting.from_wire(town.trust.trust.to_wire())
    say(town, beat("a"))
    first = town.roster.list()
    assert town.roster.list() == first
    assert len(verified) == 1


# --- when it counts as alive -------------------------------------------------------


def test_a_runner_is_alive_as_long_as_patience_lasts(beat, clock):
    heard = beat()
    assert is_alive(heard, clock.at + PATIENCE)
    assert not is_alive(heard, clock.at + PATIENCE * 1.01)


def test_a_beat_of_the_future_does_not_live_for_long(beat, clock):
    assert is_alive(beat(), clock.at - PATIENCE)
    assert not is_alive(beat(), clock.at - PATIENCE * 1.01)


def test_a_runner_that_ended_is_not_alive(beat, clock):
    assert is_alive(beat(phase=Phase.STARTING), clock.at)
    assert not is_alive(beat(phase=Phase.STOPPED), clock.at)
