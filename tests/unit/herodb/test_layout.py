"""The keys and the users of a context are its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.herodb import layout
from horus_celery.herodb.accounts import accounts
from horus_celery.herodb.contexts import Context, Usage, User
from horus_celery.herodb.layout import Layout, Role

HERO = Layout(namespace="hero")
MASTER = bytes(range(32))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._@:-]{0,20}\Z")


@given(NAMES, NAMES, st.binary(max_size=20))
def test_no_key_is_of_two_contexts(one, other, rest):
    key = HERO.prefix(one).encode() + rest
    assert HERO.context_of(key) == one
    assert key.startswith(HERO.prefix(other).encode()) == (one == other)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_user_is_of_two_contexts(one, other, name, another):
    assert HERO.jobs_user(one) != HERO.user(other, name)
    if (one, name) != (other, another):
        assert HERO.user(one, name) != HERO.user(other, another)


@pytest.mark.parametrize(
    "key", [b"hero:herodb:contexts", b"hero:job:{a}:", b"", b"{a}:"]
)
def test_what_is_no_data_is_of_no_context(key):
    assert HERO.context_of(key) is None


def words(role, *, is_over=False):
    return set(layout.rules("P:", role, is_over=is_over))


def test_a_role_may_do_what_the_one_below_may_and_more():
    read, write, admin = (words(role) for role in Role)
    commands = [
        {one for one in found if one[0] == "+"} for found in (read, write, admin)
    ]
    assert commands[0] < commands[1] == commands[2]
    assert "%R~P:*" in read
    assert "~P:*" not in read | write
    assert "~P:*" in admin
    assert "+set" not in read


def test_over_the_quota_everybody_reads_and_deletes_alone():
    for role in Role:
        assert "+set" not in words(role, is_over=True)
        assert "+get" in words(role, is_over=True)
    assert "+del" in words(Role.WRITE, is_over=True)
    jobs = set(layout.jobs_rules("P:", is_over=True))
    assert {"+eval_ro", "+evalsha_ro", "+eval"} <= jobs
    assert "+evalsha" not in jobs


def test_nobody_is_allowed_what_only_we_answer():
    for role in Role:
        assert not {"+scan", "+keys", "+osis", "+client"} & words(role)


def test_a_password_is_of_one_user_and_one_day():
    made = {
        layout.password(master, user, generation)
        for master in (MASTER, bytes(32))
        for user in ("a", "b")
        for generation in (1, 11)
    }
    assert len(made) == 8


def test_the_password_of_yesterday_and_tomorrow_count_and_no_other():
    for days, counts in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        then = layout.generation_at(NOW + timedelta(days=days))
        hashed = layout.hashed(layout.password(MASTER, "u", then))
        assert (hashed in set(layout.hashes(MASTER, "u", NOW))) == counts


def made(context, usage=None):
    return accounts(
        {context.name: context},
        {} if usage is None else {context.name: usage},
        of=HERO,
        master=MASTER,
        database=3,
        now=NOW,
    )


def test_who_was_let_in_is_a_user_by_his_hash_alone():
    bob = User(name="bob", role=Role.READ, hash="ab" * 32, created_at=NOW)
    users = made(Context(name="a").with_user(bob))
    assert set(users) == {HERO.lister, HERO.jobs_user("a"), HERO.user("a", "bob")}
    assert users[HERO.user("a", "bob")][:3] == ("reset", "on", f"#{'ab' * 32}")
    assert all("+select|3" in one for one in users.values())


def test_the_lister_has_no_keys():
    assert not [one for one in made(Context(name="a"))[HERO.lister] if "~" in one]


@pytest.mark.parametrize(
    ("max_bytes", "max_keys", "is_over"),
    [
        (None, None, False),
        (10, None, False),
        (9, None, True),
        (None, 1, True),
        (10, 2, False),
        (0, 0, True),
    ],
)
def test_a_context_is_over_its_quota_with_more_than_it(max_bytes, max_keys, is_over):
    context = Context(name="a", max_bytes=max_bytes, max_keys=max_keys)
    usage = Usage(size=10, keys=2, at=NOW)
    assert context.is_over(usage) == is_over
    assert ("+set" in made(context, usage)[HERO.jobs_user("a")]) != is_over
    assert not context.is_over(None)


def test_without_a_context_there_is_no_user():
    nobody = accounts({}, {}, of=HERO, master=MASTER, database=0, now=NOW)
    assert nobody == {}


def test_a_context_is_read_as_it_was_written():
    bob = User(name="bob", role=Role.WRITE, hash="cd" * 32, created_at=NOW)
    context = Context(name="a:b", max_bytes=5).with_user(bob)
    assert Context.from_json("a:b", context.to_json()) == context
    assert Context.from_json("a:b", b'{"v":2}') is None
    usage = Usage(size=1, keys=2, at=NOW)
    assert Usage.from_json(usage.to_json()) == usage


@pytest.mark.parametrize(
    "text", [b"", b"x", b"[1]", b'["a",1,2]', b"[1,2,1e99]", b"{}"]
)
def test_what_is_no_measurement_is_none(text):
    assert Usage.from_json(text) is None
