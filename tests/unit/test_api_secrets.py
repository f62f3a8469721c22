"""The book of the API's secrets: who is known, and what a stranger learns of it."""

import hmac
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from horus_celery.api_secrets.book import SecretBook, SecretRounds
from horus_celery.api_secrets.removals import MemoryRemovals
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import (
    MAX_CHARS,
    MIN_CHARS,
    MIN_LETTERS,
    Given,
    fault_of,
)
from horus_celery.api_secrets.shelf import MemoryShelf
from horus_celery.errors import ConfigurationError, UnavailableError


def stands(scope, text, *contexts, place):
    return Given(scope=scope, secret=text, contexts=contexts or ("*",), place=place)


ADMIN = stands("admin", "admin-0123456789abcdef", place="admin_secrets")
USER = stands("user", "user-0123456789abcdef", "lab", place="/state/secrets/user")
REGISTER = stands("register", "register-0123456789", place="register_secrets")


class Ticks:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
def shelf():
    return MemoryShelf()


@pytest.fixture
def open_book(shelf, ticks):
    def open_one(*given, key=bytes(32), removals=None):
        return SecretBook(
            given or (ADMIN, USER, REGISTER),
            shelf,
            Seal(key, "hero"),
            removals=removals,
            now=ticks,
        )

    return open_one


@pytest.fixture
def book(open_book):
    return open_book()


class TestHolder:
    def test_each_given_one_is_known_by_its_scope_and_contexts(self, book):
        for one in (ADMIN, USER, REGISTER):
            holder = book.holder(one.secret)
            assert holder.scope == one.scope
            assert holder.shown_contexts() == list(one.contexts)
        assert book.holder(ADMIN.secret).contexts is None
        assert book.holder(USER.secret).contexts == {"lab"}

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "admin-0123456789abcde",
            "admin-0123456789abcdeg",
            "admin-0123456789abcdef ",
            "ADMIN-0123456789ABCDEF",
            "\xff",
            "\ud800",
            "x" * 100_000,
        ],
    )
    def test_nothing_else_is_known(self, book, secret):
        assert book.holder(secret) is None

    def test_ids_stay_the_same_and_say_nothing(self, open_book):
        ids = {one.id for one in open_book().list()}
        assert ids == {one.id for one in open_book().list()}
        assert ids.isdisjoint(one.id for one in open_book(key=b"\x01" * 32).list())
        assert all(len(one) == 20 and one.startswith("sec_") for one in ids)

    def test_secrets_are_not_kept_and_not_shown(self, book):
        book.list()
        kept = repr([vars(book), book.list(), USER])
        for one in (ADMIN, USER, REGISTER):
            assert one.secret not in kept

    @pytest.mark.parametrize(
        "secret",
        [
            ADMIN.secret,
            REGISTER.secret,
            "Xdmin-0123456789abcdef",
            "admin-0123456789abcdeX",
            "nobody",
            "",
        ],
    )
    def test_every_secret_is_compared_wherever_a_wrong_one_differs(
        self, book, monkeypatch, secret
    ):
        book.list()
        compared = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((len(one), len(other)))
            return one == other

        monkeypatch.setattr(hmac, "compare_digest", compare)
        book.holder(secret)
        # A stranger is looked for once more, behind a new reading.
        rounds = 1 if secret in {ADMIN.secret, REGISTER.secret} else 2
        assert compared == [(32, 32)] * 3 * rounds

    def test_in_a_long_list_strangers_are_compared_with_all(
        self, book, monkeypatch, ticks
    ):
        texts = [
            book.add(scope="user", contexts=["*"], secret=None)[1] for _ in range(80)
        ]
        assert all(book.holder(text) for text in texts)
        compared = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append(other)
            return one == other

        monkeypatch.setattr(hmac, "compare_digest", compare)
        assert book.holder(texts[0])
        assert not compared
        for _ in range(10):
            book.holder("nobody")
        compared.clear()
        book.holder("nobody")
        assert len(compared) == 83
        compared.clear()
        ticks.at += 1  # another list: nobody was found in it yet
        assert book.holder(texts[0])
        assert len(compared) == 83

    def test_what_is_remembered_of_one_is_worthless_without_the_seal(self):
        one, other = Seal(bytes(32), "hero"), Seal(b"\x01" * 32, "hero")
        assert one.digest("secret") != other.digest("secret")

    def test_a_short_seal_is_none(self):
        with pytest.raises(ConfigurationError):
            Seal(bytes(16), "hero")


class TestReading:
    def test_the_shelf_is_read_once_in_half_a_second(self, book, shelf, ticks):
        for _ in range(100):
            book.holder(ADMIN.secret)
        assert shelf.reads == 1
        ticks.at += 0.6
        for _ in range(100):
            book.holder(ADMIN.secret)
        assert shelf.reads == 2

    def test_strangers_have_it_read_ten_times_a_second_at_most(
        self, book, shelf, ticks
    ):
        book.holder(ADMIN.secret)
        for _ in range(100):
            book.holder("nobody")
        assert shelf.reads == 11
        ticks.at += 0.4
        book.holder("nobody")
        assert shelf.reads == 11
        ticks.at += 0.6
        book.holder("nobody")
        assert shelf.reads == 13  # the list was old, and there was a stranger

    def test_while_it_is_away_the_last_list_counts(self, open_book, shelf, ticks):
        book = open_book()
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        shelf.is_away = True
        ticks.at += 3600
        assert book.holder(text)
        assert book.holder("nobody") is None
        with pytest.raises(UnavailableError):
            book.list()
        with pytest.raises(UnavailableError):
            book.add(scope="user", contexts=["*"], secret=None)

    def test_without_any_list_nobody_is_known_or_unknown(self, book, shelf, ticks):
        shelf.is_away = True
        for secret in (ADMIN.secret, "nobody"):
            with pytest.raises(UnavailableError):
                book.holder(secret)
        assert book.glance(ADMIN.secret) is None
        shelf.is_away = False
        ticks.at += 1
        assert book.holder(ADMIN.secret)

    def test_those_who_wait_for_a_silent_shelf_do_not_ask_again(
        self, open_book, shelf, ticks
    ):
        book = open_book()
        book.holder(ADMIN.secret)
        shelf.is_away = True
        ticks.at += 5
        reads = shelf.reads
        for _ in range(50):
            assert book.holder(ADMIN.secret)
        assert shelf.reads == reads + 1

    def test_a_glance_finds_what_was_just_added_elsewhere(self, open_book):
        here, there = open_book(), open_book()
        there.read()
        _, text = here.add(scope="user", contexts=["*"], secret=None)
        assert there.glance(text)
        assert there.glance("nobody") is None

    def test_a_glance_does_not_wait_for_somebody_who_reads(self, ticks):
        reading, go_on = threading.Event(), threading.Event()

        class Slow(MemoryShelf):
            def read(self):
                if reads:
                    reading.set()
                    go_on.wait(10)
                reads.append(1)
                return super().read()

        reads = []
        book = SecretBook([ADMIN], Slow(), Seal(bytes(32), "hero"), now=ticks)
        book.read()
        ticks.at += 2
        thread = threading.Thread(target=book.holder, args=(ADMIN.secret,))
        thread.start()
        assert reading.wait(10)
        assert book.glance(ADMIN.secret)
        assert book.glance("nobody") is None
        go_on.set()
        thread.join(10)

    def test_nobody_goes_by_a_list_that_is_too_old(self, ticks):
        """A caller after a long silence waits for the one who reads."""
        reading, go_on = threading.Event(), threading.Event()

        class Slow(MemoryShelf):
            def read(self):
                if reads:
                    reading.set()
                    go_on.wait(10)
                reads.append(1)
                return super().read()

        reads, found = [], []
        shelf = Slow()
        book = SecretBook([ADMIN, USER], shelf, Seal(bytes(32), "hero"), now=ticks)
        other = SecretBook([ADMIN, USER], shelf, Seal(bytes(32), "hero"), now=ticks)
        book.read()
        go_on.set()
        holder = book.holder(USER.secret)
        assert holder is not None
        other.remove(holder.id)
        reading.clear()
        go_on.clear()
        ticks.at += 600

        def ask():
            found.append(book.holder(USER.secret))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert reading.wait(10)
        assert found == []
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert found == [None] * 4


class TestRemoved:
    def test_nobody_brings_a_given_one_back_by_emptying_the_shelf(
        self, open_book, shelf, ticks
    ):
        book = open_book()
        removed = book.holder(USER.secret).id
        book.remove(removed)
        shelf.swap(removed, old=shelf.read()[removed], new=None)
        ticks.at += 2
        assert book.holder(USER.secret) is None
        book.add(scope="user", contexts=["lab"], secret=USER.secret)
        assert book.holder(USER.secret).id == removed

    def test_a_shelf_that_takes_nothing_just_then_keeps_nobody_out(
        self, open_book, shelf, ticks
    ):
        """It is told at the next reading that an added one is given here as well."""
        book = open_book()
        added, _ = open_book(ADMIN).add(
            scope="user", contexts=["lab"], secret=USER.secret
        )
        swap = shelf.swap

        def refuse(*_, **__):
            raise UnavailableError("the shelf was told to take nothing")

        shelf.swap = refuse
        ticks.at += 1
        assert book.holder(USER.secret) == added
        shelf.swap = swap
        ticks.at += 1
        assert book.holder(USER.secret) == added
        open_book(ADMIN).remove(added.id)
        ticks.at += 1
        assert book.holder(USER.secret) is None


class Disk(MemoryRemovals):
    """A node's memory that cannot be used while a test says so."""

    def __init__(self):
        super().__init__()
        self.is_full = self.is_broken = False

    def remember_removed(self, serials):
        if self.is_full or self.is_broken:
            raise UnavailableError("the disk was told to be full")
        super().remember_removed(serials)

    def removed_among(self, serials):
        if self.is_broken:
            raise ConfigurationError("the disk was told to be broken")
        return super().removed_among(serials)


class TestRemembered:
    """What this node keeps of the removed ones."""

    def test_a_disk_that_is_full_keeps_no_removed_one_alive(
        self, open_book, shelf, ticks
    ):
        disk = Disk()
        book = open_book(removals=disk)
        added, text = book.add(scope="user", contexts=["*"], secret=None)
        kept = shelf.read()[added.id]
        disk.is_full = True
        with capture_logs() as logs:
            book.remove(added.id)
            book.list()
        assert [line["event"] for line in logs] == ["removed secrets not remembered"]
        shelf.swap(added.id, old=shelf.read()[added.id], new=kept)
        ticks.at += 1
        assert book.holder(text) is None
        disk.is_full = False
        ticks.at += 1
        assert book.holder(text) is None
        assert open_book(removals=disk).holder(text) is None

    def test_while_it_cannot_be_read_the_last_list_counts(
        self, open_book, shelf, ticks
    ):
        disk = Disk()
        book = open_book(removals=disk)
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        disk.is_broken = True
        _, later = open_book().add(scope="user", contexts=["*"], secret=None)
        ticks.at += 1
        assert book.holder(text)
        assert book.holder(later) is None
        with pytest.raises(UnavailableError):
            book.list()
        disk.is_broken = False
        ticks.at += 1
        assert book.holder(later)

    def test_one_that_is_put_back_is_told_once(self, open_book, shelf, ticks):
        book = open_book()
        added, text = book.add(scope="user", contexts=["*"], secret=None)
        kept = shelf.read()[added.id]
        book.remove(added.id)
        shelf.swap(added.id, old=shelf.read()[added.id], new=kept)
        with capture_logs() as logs:
            for _ in range(3):
                ticks.at += 1
                assert book.holder(text) is None
        assert [line["secret_id"] for line in logs] == [added.id]
        assert text not in repr(logs)

    def test_a_node_that_nobody_calls_hears_of_a_removal(self):
        """Also when the shelf was away for a round."""
        heard, missed = threading.Event(), threading.Event()

        class Listening(MemoryRemovals):
            def remember_removed(self, serials):
                super().remember_removed(serials)
                heard.set()

        class Missed(MemoryShelf):
            def read(self):
                try:
                    return super().read()
                except UnavailableError:
                    missed.set()
                    raise

        shelf, seal = Missed(), Seal(bytes(32), "hero")
        here = SecretBook([ADMIN], shelf, seal)
        there = SecretBook([ADMIN], shelf, seal, removals=Listening())
        added, text = here.add(scope="user", contexts=["*"], secret=None)
        kept = shelf.read()[added.id]
        shelf.is_away = True
        rounds = SecretRounds(there, every=timedelta(milliseconds=1))
        rounds.start()
        try:
            assert missed.wait(10)
            shelf.is_away = False
            here.remove(added.id)
            assert heard.wait(10)
        finally:
            rounds.close()
        shelf.swap(added.id, old=shelf.read()[added.id], new=kept)
        assert there.holder(text) is None


class TestTold:
    def test_a_removed_given_one_is_told_with_its_place_once_at_a_start(
        self, open_book
    ):
        book = open_book()
        book.remove(book.holder(USER.secret).id)
        later = open_book()
        with capture_logs() as logs:
            later.read()
            later.list()
        assert [line["place"] for line in logs] == [USER.place]
        assert USER.secret not in repr(logs)

    def test_a_strange_entry_is_told_once(self, open_book, shelf, ticks):
        shelf.swap("sec_\x1b[31m", old=None, new=b"\x1b]0;evil")
        book = open_book()
        with capture_logs() as logs:
            for _ in range(5):
                ticks.at += 2
                book.list()
        assert [line["count"] for line in logs] == [1]
        assert "\x1b" not in repr(logs)

    def test_an_entry_of_a_later_version_is_ignored(self, open_book, shelf):
        seal = Seal(bytes(32), "hero")
        entry = seal.close("sec_1", b'{"v":3,"grants":[]}')
        shelf.swap("sec_1", old=None, new=entry)
        assert len(open_book().list()) == 3

    def test_what_is_told_of_changes_holds_no_secret(self, book):
        with capture_logs() as logs:
            added, text = book.add(scope="user", contexts=["*"], secret=None)
            book.remove(added.id)
        assert text not in repr(logs)


class TestGiven:
    def test_an_empty_one_names_its_place(self, open_book):
        with pytest.raises(ConfigurationError, match="user_secrets"):
            open_book(Given(scope="user", secret="", place="user_secrets"))

    @pytest.mark.parametrize("scope", ["root", "none", ""])
    def test_a_scope_that_does_not_exist_is_refused(self, open_book, scope):
        with pytest.raises(ConfigurationError):
            open_book(Given(scope=scope, secret="x" * 30, place="here"))

    @pytest.mark.parametrize("scope", ["admin", "register"])
    def test_only_a_user_is_bound_to_contexts(self, open_book, scope):
        bound = Given(scope=scope, secret="x" * 30, contexts=("lab",), place="there")
        with pytest.raises(ConfigurationError, match="there"):
            open_book(bound)

    def test_one_that_stands_twice_names_both_places(self, open_book):
        again = Given(scope="user", secret=ADMIN.secret, place="user_secrets")
        with pytest.raises(ConfigurationError, match=r"admin_secrets.*user_secrets"):
            open_book(ADMIN, again)


class TestAdded:
    def test_a_made_one_has_256_random_bits(self, book):
        texts = {
            book.add(scope="user", contexts=["*"], secret=None)[1] for _ in range(20)
        }
        assert len(texts) == 20
        assert all(len(text) == 43 and fault_of(text) is None for text in texts)

    def test_changes_in_between_are_waited_for(self, open_book, shelf):
        """Of entries that change under its hands none is lost."""
        book, other = open_book(), open_book()
        swap, left = shelf.swap, [3]

        def between(secret_id, **change):
            if left[0]:
                left[0] -= 1
                swap(secret_id, old=shelf.read().get(secret_id), new=b"%d" % left[0])
            return swap(secret_id, **change)

        shelf.swap = between
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        assert other.holder(text)

    def test_who_never_gets_his_turn_is_told(self, open_book, shelf):
        book = open_book()
        shelf.swap = lambda *_, **__: False
        with pytest.raises(UnavailableError):
            book.add(scope="user", contexts=["*"], secret=None)

    def test_a_change_counts_though_the_shelf_falls_silent_behind_it(
        self, open_book, shelf, ticks
    ):
        book = open_book()
        book.list()
        swap = shelf.swap

        def last_words(secret_id, **change):
            done = swap(secret_id, **change)
            shelf.is_away = True
            return done

        shelf.swap = last_words
        _, text = book.add(scope="user", contexts=["*"], secret=None)
        shelf.is_away = False
        ticks.at += 1
        assert book.holder(text)


class TestFault:
    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "short",
            "0123456789abcdefghijk",
            "a" * 30,
            "abcabcabcabcabcabcabcabc",
            "0123456789abcdef0123456",
            "0123456789ABCDEF0123456789ABCDE",
            "012345678901234567890123456789",
            "a-word-and-another-ob",
            "abcdefghijklmnopqrstuvwx",
            "0123456789abcdef 0123456789",
            "0123456789abcdef\t0123456789",
            "0123456789abcdef\n0123456789",
            "0123456789abcdefé0123456789",
            "0123456789abcdef\x000123456789",
            "0123456789abcdef" * 40,
        ],
    )
    def test_what_can_be_guessed_or_sent_in_no_header_is_named(self, secret):
        said = fault_of(secret)
        assert said
        assert not secret or secret not in said

    @pytest.mark.parametrize(
        "secret",
        [
            "Tz9rQm4WvK1sX8bNc0LpYd",
            "0123456789abcdef0123456789abcdef",
        ],
    )
    def test_a_strong_one_has_none(self, secret):
        assert fault_of(secret) is None

    @given(st.binary(min_size=16, max_size=64))
    def test_128_random_bits_in_hexadecimal_pass_as_a_rule(self, raw):
        secret = raw.hex()
        is_varied = len(set(secret)) >= MIN_LETTERS and not secret.isdigit()
        assert is_varied <= (fault_of(secret) is None)

    @given(st.binary(min_size=4, max_size=15))
    def test_fewer_bits_in_hexadecimal_never_pass(self, raw):
        assert fault_of(raw.hex())
        assert fault_of(raw.hex().upper())

    @given(st.text())
    def test_whatever_passes_can_stand_in_a_header(self, text):
        if fault_of(text) is None:
            assert MIN_CHARS <= len(text) <= MAX_CHARS
            assert text == text.strip()
            assert text.encode("ascii").isascii()
