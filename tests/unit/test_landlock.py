"""What scripts may use where they see all of the machine, by versions of Landlock."""

from __future__ import annotations

import tempfile

import pytest

from workers import landlock, sandbox
from workers.order import Fence

#: The versions that there are, and one that nobody has seen.
VERSIONS = range(1, 12)


def places(*shown, hidden=()):
    """Return what may be read and executed, but for what every script may use."""
    fence = Fence(
        shown=tuple(map(str, shown)), hidden=tuple(map(str, hidden)), has_network=False
    )
    usual = dict(landlock.allowed(Fence(shown=(), hidden=(), has_network=False)))
    return {path for path, how in landlock.allowed(fence) if usual.get(path) != how}


@pytest.mark.parametrize(
    ("version", "files", "network", "scopes"),
    [
        (1, 13, 0, 0),
        (2, 14, 0, 0),
        (3, 15, 0, 0),
        (4, 15, 2, 0),
        (5, 16, 2, 0),
        (6, 16, 2, 2),
        (7, 16, 2, 2),
        (8, 16, 2, 2),
        (9, 17, 2, 2),
    ],
)
def test_a_version_forbids_what_it_knows_and_nothing_more(
    version, files, network, scopes
):
    # More would be an error to the kernel, and there would be no rules at all.
    assert landlock.forbidden(version, has_network=False) == (
        (1 << files) - 1,
        (1 << network) - 1,
        (1 << scopes) - 1,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_the_network_has_all_of_it(version):
    cut = landlock.forbidden(version, has_network=False)
    assert landlock.forbidden(version, has_network=True) == cut._replace(network=0)


def test_what_is_shown_may_be_read_and_no_more(tmp_path):
    fence = Fence(shown=(str(tmp_path),), hidden=(), has_network=False)
    allowed = dict(landlock.allowed(fence))
    assert allowed.pop(str(tmp_path)) == landlock.READ
    devices = {path: allowed.pop(path) for path in sandbox.DEVICES}
    assert all(how & landlock.WRITE_FILE for how in devices.values())
    assert not any(how & landlock.WRITE_FILE for how in allowed.values())
    assert not {"/", tempfile.gettempdir(), "/home", "/root", "/dev"} & set(allowed)


def test_what_lies_below_what_is_shown_is_not_named_again(tmp_path):
    tmp_path.joinpath("a", "b").mkdir(parents=True)
    tmp_path.joinpath("link").symlink_to(tmp_path / "a")
    shown = (tmp_path / "a", tmp_path / "link", tmp_path / "a" / "b")
    assert places(*shown) == {str(tmp_path / "a")}


def test_a_name_that_only_begins_alike_lies_nowhere_below():
    assert landlock.is_below("/a/b", "/a")
    assert landlock.is_below("/a", "/a")
    assert landlock.is_below("/a", "/")
    assert not landlock.is_below("/ab", "/a")


def test_what_is_hidden_is_left_out_with_the_folders_that_lead_there(tmp_path):
    hidden = tmp_path / "srv" / "state"
    for name in ("state/keys", "tools/bin", "other"):
        tmp_path.joinpath("srv", name).mkdir(parents=True)
    tmp_path.joinpath("srv", "file").touch()
    # By a link nobody gets to what is hidden.
    tmp_path.joinpath("srv", "link").symlink_to(hidden / "keys")
    tmp_path.joinpath("srv", "loop").symlink_to(tmp_path / "srv")
    srv = tmp_path / "srv"
    expected = {str(srv / name) for name in ("tools", "other", "file")}
    assert places(srv, hidden=[hidden]) == expected
    assert places(hidden, hidden / "keys", hidden=[hidden]) == set()


def test_a_link_to_what_is_hidden_hides_it_as_well(tmp_path):
    tmp_path.joinpath("real", "state").mkdir(parents=True)
    tmp_path.joinpath("real", "tool").touch()
    tmp_path.joinpath("link").symlink_to(tmp_path / "real")
    hidden = tmp_path / "link" / "state"
    expected = {str(tmp_path / "real" / "tool")}
    assert places(tmp_path / "link", hidden=[hidden]) == expected
