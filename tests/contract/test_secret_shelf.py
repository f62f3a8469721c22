"""What every shelf for the API's secrets promises, and what a book makes of it."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.removals import MemoryRemovals
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import Given
from horus_celery.errors import ConflictError, NotFoundError

KEY = bytes(range(32))
CHOSEN = "chosen-0123456789abcdef"


def stands(scope, text):
    return Given(scope=scope, secret=text, place=f"{scope}_secrets")


GIVEN = stands("admin", "given-admin-0123456789")
USER = stands("user", "given-user-0123456789")


class Ticks:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
def open_book(shelf, namespace, ticks, clock):
    """Return a book of a process that has just started, on a node of its own."""

    def open_one(*given, key=KEY, removals=None):
        return SecretBook(
            given or [GIVEN],
            shelf,
            Seal(key, namespace),
            removals=removals,
            now=ticks,
            clock=clock,
        )

    return open_one


class TestShelf:
    def test_it_begins_empty(self, shelf):
        assert shelf.read() == {}

    def test_what_was_put_is_read(self, shelf):
        assert shelf.swap("a", old=None, new=b"\x00\xff 1")
        assert shelf.swap("b", old=None, new=b"2")
        assert shelf.read() == {"a": b"\x00\xff 1", "b": b"2"}

    def test_another_entry_than_the_expected_one_stays(self, shelf):
        assert shelf.swap("a", old=None, new=b"1")
        assert not shelf.swap("a", old=None, new=b"2")
        assert not shelf.swap("a", old=b"3", new=b"2")
        assert not shelf.swap("b", old=b"1", new=b"2")
        assert shelf.read() == {"a": b"1"}
        assert shelf.swap("a", old=b"1", new=b"2")
        assert shelf.read() == {"a": b"2"}

    def test_what_is_taken_is_gone(self, shelf):
        assert shelf.swap("a", old=None, new=b"1")
        assert shelf.swap("a", old=b"1", new=None)
        assert shelf.read() == {}
        assert not shelf.swap("a", old=b"1", new=None)

    @pytest.mark.parametrize(
        ("standing", "is_swapped"),
        [
            ({"b": b"2"}, True),
            ({"b": b"3"}, False),
            ({"b": b"3", "c": None}, True),
            ({"b": None}, False),
            ({"c": None}, True),
            ({}, False),
        ],
    )
    def test_one_of_those_that_must_stand_stands(self, shelf, standing, is_swapped):
        shelf.swap("a", old=None, new=b"1")
        shelf.swap("b", old=None, new=b"2")
        assert shelf.swap("a", old=b"1", new=None, standing=standing) is is_swapped
        assert ("a" in shelf.read()) is not is_swapped


class TestBook:
    def test_what_one_process_adds_another_knows_at_once(self, open_book):
        here, there = open_book(), open_book()
        assert there.list()
        added, text = here.add(scope="user", contexts=["lab"], secret=None)
        for book in (here, there):
            assert book.holder(text) == added

    def test_what_one_process_removes_another_forgets_within_a_second(
        self, open_book, ticks
    ):
        here, there = open_book(), open_book()
        added, text = here.add(scope="user", contexts=["*"], secret=None)
        assert there.holder(text)
        here.remove(added.id)
        assert here.holder(text) is None
        ticks.at += 1
        assert there.holder(text) is None

    def test_it_is_told_over_a_restart(self, open_book):
        added, text = open_book().add(scope="user", contexts=["b", "a"], secret=None)
        later = open_book()
        assert later.holder(text) == added
        assert added.shown_contexts() == ["a", "b"]

    def test_a_given_one_stays_removed_over_a_restart(self, open_book):
        book = open_book(GIVEN, USER)
        holder = book.holder(USER.secret)
        book.remove(holder.id)
        later = open_book(GIVEN, USER)
        assert later.holder(USER.secret) is None
        assert [one.scope for one in later.list()] == ["admin"]
        with pytest.raises(NotFoundError):
            later.remove(holder.id)

    def test_a_given_one_that_was_removed_may_be_added_again(self, open_book):
        book = open_book(GIVEN, USER)
        book.remove(book.holder(USER.secret).id)
        added, _ = book.add(scope="user", contexts=["lab"], secret=USER.secret)
        later = open_book(GIVEN, USER)
        assert later.holder(USER.secret) == added
        later.remove(added.id)
        assert open_book(GIVEN, USER).holder(USER.secret) is None

    @pytest.mark.parametrize("adds", [(GIVEN,), (GIVEN, USER)])
    @pytest.mark.parametrize("removes", [(GIVEN,), (GIVEN, USER)])
    def test_one_that_was_added_again_is_removed_wherever_it_is_given(
        self, open_book, ticks, adds, removes
    ):
        book = open_book(GIVEN, USER)
        book.remove(book.holder(USER.secret).id)
        for _ in range(2):
            added, _ = open_book(*adds).add(
                scope="user", contexts=["*"], secret=USER.secret
            )
            assert book.holder(USER.secret) == added
            open_book(*removes).remove(added.id)
            ticks.at += 1
            assert book.holder(USER.secret) is None
            assert open_book(GIVEN, USER).holder(USER.secret) is None

    def test_one_that_is_given_is_removed_though_who_added_it_did_not_know(
        self, open_book, ticks
    ):
        book = open_book(GIVEN, USER)
        assert book.holder(USER.secret).contexts is None
        added, _ = open_book().add(scope="user", contexts=["lab"], secret=USER.secret)
        ticks.at += 1
        assert book.holder(USER.secret) == added
        open_book().remove(added.id)
        ticks.at += 1
        assert book.holder(USER.secret) is None
        assert open_book(GIVEN, USER).holder(USER.secret) is None

    def test_one_that_was_put_into_the_configuration_later_is_removed_as_well(
        self, open_book
    ):
        added, text = open_book().add(scope="user", contexts=["*"], secret=None)
        kept = stands("user", text)
        open_book(GIVEN, kept).read()
        open_book().remove(added.id)
        assert open_book(GIVEN, kept).holder(text) is None

    def test_of_one_that_is_given_nowhere_nothing_is_left_a_day_later(
        self, open_book, shelf, clock
    ):
        for _ in range(2):
            added, _ = open_book().add(scope="user", contexts=["*"], secret=CHOSEN)
            open_book().remove(added.id)
            other, _ = open_book().add(scope="user", contexts=["*"], secret=None)
            clock.advance(hours=23)
            open_book().remove(other.id)
            assert shelf.read().keys() == {added.id, other.id}
            clock.advance(hours=25)
            last, _ = open_book().add(scope="user", contexts=["*"], secret=None)
            assert shelf.read().keys() == {last.id}
            open_book().remove(last.id)
            shelf.swap(last.id, old=shelf.read()[last.id], new=None)

    def test_that_a_given_one_was_removed_is_said_for_good(
        self, open_book, shelf, clock
    ):
        book = open_book(GIVEN, USER)
        added, _ = open_book().add(scope="user", contexts=["*"], secret=USER.secret)
        open_book().remove(added.id)
        book.read()  # it was away meanwhile, and hears that it is gone
        clock.advance(days=100)
        book.add(scope="user", contexts=["*"], secret=None)
        assert open_book(GIVEN, USER).holder(USER.secret) is None

    def test_an_entry_of_an_earlier_version_counts_until_it_is_removed(
        self, open_book, shelf, namespace
    ):
        added, text = open_book().add(scope="user", contexts=["*"], secret=None)
        entry = shelf.read()[added.id]
        body = re.sub(rb',"given".*}', b"}", entry.partition(b".")[2])
        older = Seal(KEY, namespace).close(added.id, body)
        shelf.swap(added.id, old=entry, new=older)
        book = open_book()
        assert book.holder(text) == added
        book.remove(added.id)
        shelf.swap(added.id, old=shelf.read()[added.id], new=older)
        assert [one.scope for one in book.list()] == ["admin"]
        assert book.add(scope="user", contexts=["*"], secret=text)[0] == added
        assert book.holder(text) == added

    def test_the_same_secret_is_not_there_twice(self, open_book):
        book = open_book()
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        for again in (text, GIVEN.secret):
            with pytest.raises(ConflictError) as refused:
                open_book().add(scope="admin", contexts=["*"], secret=again)
            assert again not in refused.value.detail

    def test_the_last_admin_stays(self, open_book):
        book = open_book()
        (admin,) = book.list()
        with pytest.raises(ConflictError, match="last"):
            book.remove(admin.id)
        added, _ = book.add(scope="admin", contexts=["*"], secret=None)
        book.remove(admin.id)
        with pytest.raises(ConflictError, match="last"):
            book.remove(added.id)
        assert open_book().list() == (added,)

    def test_of_removals_at_once_one_admin_is_left(self, open_book):
        book = open_book()
        for _ in range(5):
            book.add(scope="admin", contexts=["*"], secret=None)
        admins = [one.id for one in book.list()]
        assert len(admins) == 6
        start = threading.Barrier(6)

        def remove(secret_id):
            own = open_book()
            start.wait(10)
            try:
                own.remove(secret_id)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(remove, admins)) == 5
        assert len(open_book().list()) == 1

    def test_of_two_who_add_the_same_secret_one_succeeds(self, open_book):
        start = threading.Barrier(4)

        def add(scope):
            own = open_book()
            start.wait(10)
            try:
                own.add(scope=scope, contexts=["*"], secret=CHOSEN)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(add, ["admin", "user"] * 2)) == 1


class TestForeignHands:
    """Whoever writes to the shelf can take entries away, and add none."""

    def test_an_entry_without_our_seal_adds_nothing(self, open_book, shelf):
        thief = open_book(key=bytes(32))
        added, text = thief.add(scope="admin", contexts=["*"], secret=None)
        entry = shelf.read()[added.id]
        book = open_book()
        ours, _ = book.add(scope="user", contexts=["*"], secret=None)
        for planted in (
            entry,
            entry[65:],
            b"." + entry[65:],
            b".",
            b"{}",
            b"\xff" * 100,
            shelf.read()[ours.id][:64] + entry[64:],
        ):
            shelf.swap(added.id, old=shelf.read()[added.id], new=planted)
            assert open_book().holder(text) is None
            assert len(open_book().list()) == 2

    def test_an_entry_of_another_id_adds_nothing(self, open_book, shelf):
        book = open_book()
        added, text = book.add(scope="admin", contexts=["*"], secret=None)
        entry = shelf.read()[added.id]
        shelf.swap("sec_0123456789abcdef", old=None, new=entry)
        assert len(open_book().list()) == 2
        book.remove(added.id)
        later = open_book()
        assert later.holder(text) is None
        assert len(later.list()) == 1

    def test_an_entry_of_another_deployment_adds_nothing(self, open_book, shelf):
        other = SecretBook([GIVEN], shelf, Seal(KEY, "other"))
        _, text = other.add(scope="admin", contexts=["*"], secret=None)
        assert open_book().holder(text) is None

    def test_an_altered_scope_or_context_adds_nothing(self, open_book, shelf):
        added, text = open_book().add(scope="user", contexts=["lab"], secret=None)
        entry = shelf.read()[added.id]
        for old, new in ((b"user", b"admin"), (b'"lab"', b'"*"')):
            shelf.swap(
                added.id, old=shelf.read()[added.id], new=entry.replace(old, new)
            )
            assert open_book().holder(text) is None

    def test_who_kept_the_entry_of_a_removed_one_cannot_put_it_back(
        self, open_book, shelf, ticks
    ):
        """At no node that has heard of the removal, and over no restart of it."""
        nodes = [MemoryRemovals(), MemoryRemovals()]
        here, there = (open_book(removals=node) for node in nodes)
        added, text = here.add(scope="admin", contexts=["*"], secret=None)
        assert there.holder(text)
        kept = shelf.read()[added.id]
        here.remove(added.id)
        ticks.at += 1
        assert there.holder(text) is None
        shelf.swap(added.id, old=shelf.read()[added.id], new=None)
        shelf.swap(added.id, old=None, new=kept)
        ticks.at += 1
        for book in (here, there, *(open_book(removals=node) for node in nodes)):
            assert book.holder(text) is None
            assert len(book.list()) == 1
            with pytest.raises(NotFoundError):
                book.remove(added.id)

    def test_one_that_is_added_again_counts_and_its_earlier_entry_does_not(
        self, open_book, shelf, ticks
    ):
        node = MemoryRemovals()
        book = open_book(removals=node)
        earlier = []
        for scope in ("admin", "admin", "user"):
            added, _ = book.add(scope=scope, contexts=["*"], secret=CHOSEN)
            assert open_book(removals=node).holder(CHOSEN).scope == scope
            earlier.append(shelf.read()[added.id])
            book.remove(added.id)
        book.add(scope="user", contexts=["lab"], secret=CHOSEN)
        for kept in earlier:
            shelf.swap(added.id, old=shelf.read()[added.id], new=kept)
            ticks.at += 1
            assert book.holder(CHOSEN) is None
            assert open_book(removals=node).holder(CHOSEN) is None

    def test_nor_does_its_entry_of_before_it_said_that_it_is_given(
        self, open_book, shelf, ticks
    ):
        node = MemoryRemovals()
        book = open_book(GIVEN, USER, removals=node)
        added, _ = open_book().add(scope="user", contexts=["*"], secret=USER.secret)
        kept = shelf.read()[added.id]
        book.read()
        assert shelf.read()[added.id] != kept
        book.remove(added.id)
        shelf.swap(added.id, old=shelf.read()[added.id], new=kept)
        ticks.at += 1
        assert book.holder(USER.secret) is None
        assert open_book(removals=node).holder(USER.secret) is None

    def test_a_strange_entry_does_not_keep_an_admin_alive(self, open_book, shelf):
        shelf.swap("sec_0123456789abcdef", old=None, new=b'{"scope":"admin"}')
        book = open_book()
        (admin,) = book.list()
        with pytest.raises(ConflictError, match="last"):
            book.remove(admin.id)

    def test_no_secret_lies_on_the_shelf(self, open_book, shelf):
        book = open_book()
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        book.add(scope="user", contexts=["*"], secret=CHOSEN)
        lying = b" ".join(shelf.read().values())
        for secret in (text, CHOSEN, GIVEN.secret):
            assert secret.encode() not in lying
