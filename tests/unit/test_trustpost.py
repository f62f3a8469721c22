"""How a new bundle reaches every node, and what of Redis is believed on the way."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError, ConflictError, SignatureError
from horus_celery.journal import Journal
from horus_celery.statedir import StateDirectory
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair, write_public_key_file
from horus_celery.trustfile import TrustFile
from horus_celery.trustpost import MemoryNoticeboard, PostRounds, TrustPost

ROOT, MALLORY = (KeyPair.from_seed(bytes([number]) * 32) for number in (9, 1))


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


class Node:
    """A machine of the deployment, with a disk of its own."""

    def __init__(self, path, board, version=1):
        self.state = StateDirectory(path)
        self.state.make_folders()
        write_public_key_file(self.state.root_pub, ROOT.public)
        self.state.trust_file.write_text(sealed(version))
        self.journal = Journal(self.state.journal)
        self.file = TrustFile(
            self.state.trust_file, self.state.root_pub, self.journal, self.state
        )
        self.post = TrustPost(self.file, board, aud="hero")

    @property
    def version(self):
        return self.file.current().version


class FullDisk(StateDirectory):
    """A state directory in which nothing can be written any more."""

    def put_trust(self, text):
        raise ConfigurationError("no space left on device")


@pytest.fixture
def board():
    return MemoryNoticeboard()


@pytest.fixture
def make_node(tmp_path, board):
    nodes: list[Node] = []

    def make(version=1):
        nodes.append(Node(tmp_path / str(len(nodes)), board, version))
        return nodes[-1]

    yield make
    for node in nodes:
        node.journal.close()


def test_what_is_installed_on_one_node_is_taken_up_on_the_others(make_node):
    here, there = make_node(), make_node()
    assert here.post.install(json.loads(sealed(2))).version == 2
    assert (here.version, there.version) == (2, 1)
    assert there.post.adopt() is True
    assert there.version == 2
    assert there.post.adopt() is False
    assert here.post.adopt() is False


def test_what_was_taken_up_is_on_disk_for_its_owner_alone(make_node):
    here, there = make_node(), make_node()
    here.post.install(json.loads(sealed(2)))
    there.post.adopt()
    assert there.state.trust_file.read_text().strip() == sealed(2)
    assert there.state.trust_file.stat().st_mode & 0o777 == 0o600
    assert there.journal.highest_trust_version() == 2


@pytest.mark.parametrize(
    "planted",
    [
        sealed(9, MALLORY),
        sealed(9, aud="acme"),
        sealed(9)[:-1],
        sealed(9).replace("trust", "job"),
        "",
        "{}",
        "\x1b]0;evil",
        "[" * 100_000,
        " " * (3 * 1024 * 1024),
    ],
)
def test_what_somebody_else_hangs_out_is_ignored_and_told_once(
    make_node, board, planted
):
    node = make_node()
    board.text = planted.encode()
    with capture_logs() as logs:
        for _ in range(3):
            assert node.post.adopt() is False
    assert node.version == 1
    assert [line["log_level"] for line in logs] == ["warning"]
    assert "evil" not in repr(logs)


def test_an_older_one_is_not_taken_up_and_not_told(make_node, board):
    node = make_node(version=5)
    for older in (4, 5):
        board.hang(sealed(older))
        with capture_logs() as logs:
            assert node.post.adopt() is False
        assert logs == []
    assert node.version == 5


def test_a_revocation_cannot_be_undone_from_redis(make_node, board):
    node = make_node()
    board.hang(sealed(3))
    assert node.post.adopt()
    board.hang(sealed(2))
    node.post.adopt()
    assert node.version == 3


def test_what_is_wrong_with_one_brought_by_hand_is_told(make_node, board):
    node = make_node(version=5)
    with pytest.raises(SignatureError):
        node.post.install(json.loads(sealed(9, MALLORY)))
    with pytest.raises(ConflictError, match=r"version 5, .* version 5"):
        node.post.install(json.loads(sealed(5)))
    assert board.text is None


def test_without_the_board_a_bundle_is_installed_and_hung_out_later(make_node, board):
    here, there = make_node(), make_node()
    board.is_away = True
    assert here.post.install(json.loads(sealed(2))).version == 2
    assert there.post.adopt() is False
    there.post.share()
    board.is_away = False
    here.post.adopt()
    here.post.share()
    assert there.post.adopt() is True


def test_what_was_signed_on_a_node_is_shared_by_it(make_node, board):
    here, there = make_node(), make_node()
    here.post.share()
    assert board.text == sealed(1).encode()
    here.state.put_trust(sealed(2))
    here.post.adopt()
    here.post.share()
    assert there.post.adopt() is True
    assert there.version == 2


def test_junk_on_the_board_is_replaced_by_what_is_believed(make_node, board):
    here, there = make_node(version=2), make_node()
    board.text = b"junk"
    here.post.adopt()
    here.post.share()
    assert there.post.adopt() is True


def test_nobody_hangs_his_own_over_what_he_has_not_judged(make_node, board):
    """A node whose disk is full keeps others from nothing."""
    node = make_node()
    board.hang(sealed(2))

    broken = TrustFile(
        node.state.trust_file,
        node.state.root_pub,
        node.journal,
        FullDisk(node.state.path),
    )
    post = TrustPost(broken, board, aud="hero")
    assert post.adopt() is False
    post.share()
    assert board.text == sealed(2).encode()
    assert node.post.adopt() is True


def test_rounds_are_made_until_they_are_closed(make_node, board):
    here, there = make_node(), make_node()
    taken = threading.Event()

    class Watched(TrustPost):
        def adopt(self):
            adopted = super().adopt()
            if adopted:
                taken.set()
            return adopted

    rounds = PostRounds(
        Watched(there.file, board, aud="hero"), every=timedelta(milliseconds=10)
    )
    rounds.start()
    here.post.install(json.loads(sealed(2)))
    assert taken.wait(10)
    rounds.close()
    assert there.version == 2


def test_a_real_state_directory_takes_a_bundle_of_its_own_root(tmp_path, board):
    now = datetime.now(UTC)
    owner, other = (StateDirectory(tmp_path / name) for name in ("owner", "other"))
    owner.initialise(namespace="hero", runners=runners_of(["python"]), now=now)
    other.make_folders()
    write_public_key_file(other.root_pub, owner.root_public())
    other.put_trust(owner.trust_file.read_text())
    newer = owner.reissue(lambda body: body, now=now)
    for state in (owner, other):
        journal = Journal(state.journal)
        file = TrustFile(state.trust_file, state.root_pub, journal, state)
        post = TrustPost(file, board, aud="hero")
        post.adopt()
        post.share()
        assert file.current() == newer
        journal.close()
