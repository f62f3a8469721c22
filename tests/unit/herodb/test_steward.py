"""What is to be in HeroDB is kept under a seal, and put in force."""

from __future__ import annotations

import pytest

from horus_celery.api_secrets.shelf import MemoryShelf
from horus_celery.errors import ConflictError, NotFoundError, UnavailableError
from horus_celery.herodb.contexts import Quota
from horus_celery.herodb.estate import MemoryEstate
from horus_celery.herodb.layout import Layout, Role
from horus_celery.herodb.steward import MAX_USERS, Steward, StewardRounds, ensuring
from tests.conftest import FrozenClock

HERO = Layout(namespace="hero")


class World:
    """A steward with all that it stands on, and others of the same deployment."""

    def __init__(self):
        self.estate = MemoryEstate()
        self.shelf = MemoryShelf()
        self.clock = FrozenClock()
        self.steward = self.another()

    def another(self, master=bytes(32), layout=HERO, **chosen):
        return Steward(
            self.estate,
            self.shelf,
            layout,
            master=master,
            database=0,
            clock=self.clock,
            **chosen,
        )

    def users(self):
        return set(self.estate.made)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def steward(world):
    return world.steward


def test_a_context_is_there_at_once_and_for_all_supervisors(world, steward):
    steward.create("a")
    assert world.users() == {HERO.lister, HERO.jobs_user("a")}
    assert [one.context.name for one in world.another().list()] == ["a"]
    with pytest.raises(ConflictError, match="already"):
        steward.create("a")


def test_a_context_has_a_quota_until_somebody_sets_another(steward):
    steward.ensure("a")
    (view,) = steward.list()
    assert (view.context.max_bytes, view.context.max_keys) == (2**30, 1_000_000)
    assert steward.set_quota("a", max_bytes=None, max_keys=None).context.users == {}
    (view,) = steward.list()
    assert view.context.max_bytes is None


def test_a_context_that_is_made_has_the_quota_that_was_chosen(world):
    steward = world.another(usual=Quota(size=5, keys=None))
    steward.create("a")
    world.another().ensure("b")
    a, b = steward.list()
    assert (a.context.max_bytes, a.context.max_keys) == (5, None)
    assert b.context.max_bytes == 2**30


def test_a_context_that_is_needed_is_made_once(world, steward):
    steward.ensure("a")
    reads = world.shelf.reads
    steward.ensure("a")
    assert world.shelf.reads == reads
    steward.add_user("a", "bob", Role.READ)
    world.another().ensure("a")
    assert len(steward.users("a")) == 1


def test_a_context_that_was_deleted_is_made_again_when_it_is_needed(world, steward):
    steward.ensure("a")
    world.estate.held["a"] = (10, 1)
    world.another().delete("a")
    assert world.users() == set()
    assert world.estate.held == {}
    steward.make_round()
    steward.ensure("a")
    assert HERO.jobs_user("a") in world.users()


@pytest.mark.parametrize(
    "action",
    [
        lambda steward: steward.delete("none"),
        lambda steward: steward.set_quota("none", max_bytes=1, max_keys=1),
        lambda steward: steward.add_user("none", "bob", Role.READ),
        lambda steward: steward.remove_user("none", "bob"),
        lambda steward: steward.users("none"),
    ],
)
def test_what_is_not_there_is_not_found(steward, action):
    with pytest.raises(NotFoundError, match="no context none"):
        action(steward)


def test_a_user_is_let_in_and_out(world, steward):
    steward.create("a")
    login, password = steward.add_user("a", "bob", Role.READ)
    assert login == HERO.user("a", "bob")
    assert login in world.users()
    (entry,) = world.shelf.read().values()
    assert password.encode() not in entry
    assert [(name, one.role) for name, one in steward.users("a")] == [(login, "read")]
    with pytest.raises(ConflictError, match="already"):
        steward.add_user("a", "bob", Role.ADMIN)
    steward.remove_user("a", "bob")
    assert login not in world.users()
    with pytest.raises(NotFoundError, match="no user bob"):
        steward.remove_user("a", "bob")


def test_a_context_has_so_many_users_and_no_more(steward):
    steward.create("a")
    for number in range(MAX_USERS):
        steward.add_user("a", f"u{number}", Role.READ)
    with pytest.raises(ConflictError, match="remove some"):
        steward.add_user("a", "more", Role.READ)


def test_whoever_writes_to_the_table_lets_nobody_in(world, steward):
    steward.create("a")
    (entry,) = world.shelf.read().values()
    mark, _, body = entry.partition(b".")
    stranger = world.another(master=b"x" * 32)
    stranger.create("forged")
    other = world.another(layout=Layout(namespace="other"))
    other.create("of-another-deployment")
    for name, forged in (
        ("b", entry),
        ("c", body),
        ("d", mark + b"." + body.replace(b"null", b"1")),
        ("e", b""),
        ("f", b"x" * 10**6),
    ):
        world.shelf.swap(name, old=None, new=forged)
    steward.make_round()
    assert [one.context.name for one in steward.list()] == ["a"]
    assert world.users() == {HERO.lister, HERO.jobs_user("a")}


def test_a_round_makes_what_was_forgotten_and_removes_strangers(world, steward):
    steward.create("a")
    wanted = dict(world.estate.made)
    world.estate.made.clear()
    world.estate.made[HERO.user("a", "stranger")] = ("on", "nopass")
    steward.make_round()
    assert world.estate.made == wanted


def test_what_a_user_may_do_is_set_again_from_time_to_time(world, steward):
    steward.create("a")
    user = HERO.jobs_user("a")
    wanted = world.estate.made[user]
    world.estate.made[user] = ("on", "nopass")
    for _ in range(13):
        steward.make_round()
    assert world.estate.made[user] == wanted


def test_passwords_change_with_the_day(world, steward):
    steward.create("a")
    user = HERO.jobs_user("a")
    before = {one for one in world.estate.made[user] if one[0] == "#"}
    world.clock.advance(days=1)
    steward.make_round()
    after = {one for one in world.estate.made[user] if one[0] == "#"}
    assert len(before) == len(after) == 3
    assert len(before & after) == 2


def test_over_the_quota_nobody_writes_until_there_is_less(world, steward):
    steward.create("a")
    login, _ = steward.add_user("a", "bob", Role.WRITE)
    steward.set_quota("a", max_bytes=100, max_keys=None)
    for size, may in ((100, True), (101, False), (10, True)):
        world.estate.held["a"] = (size, 1)
        steward.make_round()
        for user in (login, HERO.jobs_user("a")):
            assert ("+set" in world.estate.made[user]) == may
        (view,) = world.another().list()
        assert (view.usage.size, view.is_over) == (size, not may)
        assert view.usage.at == world.clock.at


def test_while_the_table_is_away_jobs_are_admitted_all_the_same(world, steward):
    world.shelf.is_away = True
    ensuring(steward)("a")
    with pytest.raises(UnavailableError):
        steward.ensure("a")
    world.shelf.is_away = False
    ensuring(steward)("a")
    assert HERO.jobs_user("a") in world.users()


def test_jobs_do_not_wait_for_a_table_that_is_away(world, steward):
    ensure = ensuring(steward)
    world.shelf.is_away = True
    ensure("a")
    reads = world.shelf.reads
    ensure("a")
    ensure("b")
    assert world.shelf.reads == reads
    world.shelf.is_away = False
    steward.make_round()
    assert {HERO.jobs_user("a"), HERO.jobs_user("b")} < world.users()


def test_rounds_go_on_whatever_becomes_of_one(world, steward):
    rounds = StewardRounds(steward)
    world.shelf.is_away = True
    rounds._once()  # noqa: SLF001 - the thread would make the test wait
    world.shelf.is_away = False
    steward.create("a")
    world.estate.made.clear()
    rounds._once()  # noqa: SLF001 - as above
    assert HERO.jobs_user("a") in world.users()
