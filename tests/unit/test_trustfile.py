import os
import threading
from contextlib import contextmanager, suppress

import pytest

from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    NotCoveredError,
    RefusedError,
    SignatureError,
)
from horus_celery.journal import Journal
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair, write_public_key_file
from horus_celery.trustfile import TrustFile

ROOT, ALICE = (KeyPair.from_seed(bytes([number]) * 32) for number in (9, 1))


def sealed(version, *pairs, **changes):
    body = {
        "v": 1,
        "aud": "hero",
        "version": version,
        "issued_at": 0,
        "expires_at": 1,
        "keys": {},
        "grants": [],
        "runners": [],
    }
    signed = dsse.sign(dsse.TRUST, canonical.encode(body | changes), pairs or (ROOT,))
    return dsse.to_json(signed)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


@pytest.fixture
def trust_path(tmp_path):
    return tmp_path / "trust.json"


@pytest.fixture
def root_path(tmp_path):
    path = tmp_path / "root.pub"
    write_public_key_file(path, ROOT.public)
    return path


@pytest.fixture
def trust_file(trust_path, root_path, journal):
    return TrustFile(trust_path, root_path, journal)


def install(path, text):
    """Replace the file as a careful writer does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_the_bundle_is_what_the_file_holds(trust_file, trust_path):
    trust_path.write_text(sealed(3))
    assert trust_file.current().version == 3
    assert trust_file.envelope() == sealed(3)


def test_an_unchanged_file_is_read_once(trust_file, trust_path):
    trust_path.write_text(sealed(3))
    assert trust_file.current() is trust_file.current()


def test_a_changed_file_is_read_again(trust_file, trust_path):
    install(trust_path, sealed(3))
    assert trust_file.current().version == 3
    install(trust_path, sealed(4))
    assert trust_file.current().version == 4
    assert trust_file.envelope() == sealed(4)


def test_a_file_that_was_touched_is_read_again(trust_file, trust_path):
    trust_path.write_text(sealed(3))
    first = trust_file.current()
    os.utime(trust_path, ns=(0, 0))
    assert trust_file.current() is not first


def test_an_expired_bundle_is_still_returned(trust_file, trust_path):
    trust_path.write_text(sealed(3, expires_at=0))
    assert trust_file.current().version == 3


def test_an_older_bundle_is_refused_and_both_versions_named(trust_file, trust_path):
    install(trust_path, sealed(4))
    assert trust_file.current().version == 4
    install(trust_path, sealed(3))
    with pytest.raises(ConfigurationError, match=r"version 3, but .* version 4"):
        trust_file.current()
    install(trust_path, sealed(4, aud="acme"))
    assert trust_file.current().aud == "acme"


def test_another_process_remembers_the_highest_version(
    trust_path, root_path, journal, tmp_path
):
    install(trust_path, sealed(4))
    assert TrustFile(trust_path, root_path, journal).current().version == 4
    install(trust_path, sealed(3))
    later = Journal(tmp_path / "journal.db")
    with pytest.raises(ConfigurationError, match="version 4"):
        TrustFile(trust_path, root_path, later).current()
    later.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sealed(3, ALICE), "sig.none"),
        (sealed(3, v=2), "schema.v"),
        (sealed(3)[:-1], "json.syntax"),
        ("", "json.syntax"),
        ("{}", "env.fields"),
        (" " * (3 * 1024 * 1024), "env.size"),
    ],
)
def test_a_file_that_cannot_be_believed_is_named(trust_file, trust_path, text, reason):
    trust_path.write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as raised:
        trust_file.current()
    assert str(trust_path) in str(raised.value)


def test_what_cannot_be_believed_is_not_remembered(trust_file, trust_path, journal):
    install(trust_path, sealed(9, ALICE))
    with pytest.raises(ConfigurationError):
        trust_file.current()
    assert journal.highest_trust_version() == 0


def test_a_broken_file_does_not_leave_the_old_bundle_in_force(trust_file, trust_path):
    install(trust_path, sealed(3))
    assert trust_file.current()
    install(trust_path, "")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            trust_file.current()
    install(trust_path, sealed(3))
    assert trust_file.current().version == 3


def test_a_missing_file_is_named(trust_file, trust_path):
    remedy = f"cannot be read: No.*`horus init --state-dir {trust_path.parent}`"
    with pytest.raises(ConfigurationError, match=remedy):
        trust_file.current()
    trust_path.write_text(sealed(3))
    assert trust_file.current()
    trust_path.unlink()
    with pytest.raises(ConfigurationError, match="horus init"):
        trust_file.envelope()


def test_a_folder_in_its_place_is_named(trust_file, trust_path):
    trust_path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        trust_file.current()


def test_without_the_root_key_nothing_is_believed(trust_path, tmp_path, journal):
    trust_path.write_text(sealed(3))
    without = TrustFile(trust_path, tmp_path / "none.pub", journal)
    with pytest.raises(ConfigurationError, match=r"none\.pub cannot be read"):
        without.current()


def test_many_threads_read_the_bundle_at_once(trust_file, trust_path):
    install(trust_path, sealed(3))
    start = threading.Barrier(8)
    seen = []

    def read():
        start.wait(10)
        seen.append(trust_file.current().version)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [3] * 8


class Folder:
    """Lets a file be replaced by whoever holds its lock."""

    def __init__(self, path):
        self._path = path
        self._lock = threading.Lock()

    @contextmanager
    def locked(self):
        with self._lock:
            yield

    def put_trust(self, text):
        assert self._lock.locked()
        install(self._path, text)


@pytest.fixture
def open_file(trust_path, root_path, journal):
    """Return the file as a node has it that installs bundles."""
    return lambda: TrustFile(trust_path, root_path, journal, Folder(trust_path))


class TestInstall:
    def test_a_newer_bundle_is_believed_from_now_on(
        self, open_file, trust_path, journal
    ):
        install(trust_path, sealed(3))
        file = open_file()
        assert file.install(sealed(5), aud="hero").version == 5
        assert file.current().version == 5
        assert open_file().envelope() == sealed(5)
        assert journal.highest_trust_version() == 5

    @pytest.mark.parametrize(
        ("text", "error", "reason"),
        [
            (sealed(9, ALICE), SignatureError, "sig.none"),
            (sealed(9, aud="acme"), NotCoveredError, "bind.aud"),
            (sealed(9, v=2), RefusedError, "schema.v"),
            ("{}", RefusedError, "env.fields"),
            ("", RefusedError, "json.syntax"),
            (sealed(3), ConflictError, "trust_version"),
            (sealed(2), ConflictError, "trust_version"),
        ],
    )
    def test_what_is_not_better_than_what_is_there_changes_nothing(
        self, open_file, trust_path, journal, text, error, reason
    ):
        install(trust_path, sealed(3))
        file = open_file()
        with pytest.raises(error) as refused:
            file.install(text, aud="hero")
        assert refused.value.reason == reason
        assert trust_path.read_text() == sealed(3)
        assert file.current().version == 3
        assert journal.highest_trust_version() == 3

    def test_a_conflict_names_both_versions(self, open_file, trust_path):
        install(trust_path, sealed(7))
        with pytest.raises(ConflictError, match=r"version 4, .* version 7"):
            open_file().install(sealed(4), aud="hero")

    def test_what_was_believed_once_is_not_undercut(self, open_file, trust_path):
        """Also not while the file is broken or away: the journal remembers."""
        install(trust_path, sealed(7))
        assert open_file().current().version == 7
        for broken in ("", sealed(2)):
            install(trust_path, broken)
            with pytest.raises(ConflictError, match="version 7"):
                open_file().install(sealed(6), aud="hero")
        trust_path.unlink()
        with pytest.raises(ConflictError, match="version 7"):
            open_file().install(sealed(7), aud="hero")
        assert open_file().install(sealed(8), aud="hero").version == 8

    def test_of_many_at_once_the_newest_stays(self, open_file, trust_path):
        install(trust_path, sealed(1))
        file = open_file()
        start = threading.Barrier(8)

        def put(version):
            start.wait(10)
            with suppress(ConflictError):
                file.install(sealed(version), aud="hero")

        threads = [threading.Thread(target=put, args=(one,)) for one in range(2, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert file.current().version == 9

    def test_where_it_is_only_read_nothing_is_installed(self, trust_file, trust_path):
        install(trust_path, sealed(3))
        with pytest.raises(ConfigurationError, match="only read"):
            trust_file.install(sealed(4), aud="hero")
