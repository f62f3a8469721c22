"""Which cgroup is a runner's own, and what is written there: in a folder like it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from horus_celery.statements.job import Limits
from workers import cgroup, containment
from workers.cgroup import Groups
from workers.room import private_room

LIMITS = Limits(memory_mb=64, cpu_s=10, procs=7, output_kb=16)
_MB = 1024 * 1024


@pytest.fixture
def proc(tmp_path):
    """Write what the kernel says of a process."""

    def told(own, *mounts):
        (tmp_path / "cgroup").write_text(f"4:memory:/x\n{own}\n")
        lines = "".join(f"25 20 0:22 {one} - {kind} cg rw\n" for one, kind in mounts)
        (tmp_path / "mountinfo").write_text(lines)
        return tmp_path

    return told


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A folder that looks like a cgroup which was delegated."""
    base = tmp_path / "unit"
    for name in ("", cgroup.LEAF):
        folder = base / name
        folder.mkdir()
        (folder / "cgroup.procs").touch()
    (base / "cgroup.controllers").write_text("cpu io memory pids\n")
    (base / "cgroup.subtree_control").touch()
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1")
    return base


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        ("0::/a/b", [("/ /sys/fs/cgroup", "cgroup2")], "/sys/fs/cgroup/a/b"),
        ("0::/a/runner", [("/ /c", "cgroup2")], "/c/a"),
        ("0::/", [("/ /c", "cgroup2")], "/c"),
        ("0::/a/b", [("/a /c", "cgroup2")], "/c/b"),
        ("0::/a", [("/ /sys/x", "cgroup"), ("/ /c", "cgroup2")], "/c/a"),
        ("0::/a", [("/ /sys/x", "cgroup")], None),
        ("0::/b", [("/a /c", "cgroup2")], None),
        ("1:name=systemd:/", [("/ /c", "cgroup2")], None),
    ],
)
def test_the_own_cgroup_is_found_where_it_is_mounted(proc, own, mounts, found):
    at = cgroup.own_group(proc(own, *mounts))
    assert (None if at is None else str(at)) == found


def test_a_cgroup_that_was_delegated_will_do(base):
    assert cgroup.fault_of(base) is None


def test_without_a_cgroup_there_are_none():
    assert cgroup.fault_of(None) == "there is no cgroup v2"


def test_a_controller_that_is_missing_is_named(base):
    (base / "cgroup.controllers").write_text("cpu memory\n")
    assert cgroup.fault_of(base) == "cgroup v2 does not control pids there"


def test_what_nobody_delegated_is_left_alone(base, monkeypatch):
    def none(*_):
        raise OSError

    monkeypatch.setattr(os, "getxattr", none)
    fault = cgroup.fault_of(base)
    assert fault is not None
    assert "Delegate=yes" in fault


def test_what_cannot_be_written_is_named(base, monkeypatch):
    def access(path, _):
        return not str(path).endswith("cgroup.procs")

    monkeypatch.setattr(os, "access", access)
    assert cgroup.fault_of(base) == f"{base}/cgroup.procs cannot be written"


def test_controllers_are_asked_for_once_nobody_is_there_any_more(base):
    cgroup.move_in(base)
    assert (base / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_a_cgroup_that_is_never_empty_is_an_error(base):
    (base / "cgroup.procs").write_text("12\n")
    with pytest.raises(OSError, match="busy"):
        cgroup.move_in(base)
    assert (base / cgroup.LEAF / "cgroup.procs").read_text() == "12"


@pytest.fixture
def made(monkeypatch):
    """Let what is made look like a cgroup; return what is removed by its name."""
    removed = {}
    mkdir = Path.mkdir

    def make(path, **options):
        mkdir(path, **options)
        for name in ("memory.max", "memory.oom.group", "pids.max", "cgroup.procs"):
            (path / name).touch()

    def remove(path):
        removed[path.name] = {one.name: one.read_text() for one in path.iterdir()}

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(cgroup, "_remove", remove)
    return removed


@pytest.mark.parametrize(
    ("level", "memory"),
    [
        (containment.plain(), 64 + 16),
        (containment.apart(shown=(), hidden=()), 64 + 64 + 16),
    ],
)
def test_a_job_gets_what_it_may_use(base, made, level, memory):
    groups = Groups(base=base, containment=level)
    with groups.of_job("1-2-x", LIMITS) as group:
        os.write(group.door, b"0")
    assert made == {
        "job-1-2-x": {
            "memory.max": str(memory * _MB),
            "memory.oom.group": "1",
            "pids.max": "7",
            "cgroup.procs": "0",
        }
    }


@pytest.mark.parametrize(("kills", "had_none"), [(0, False), (2, True)])
def test_the_kernel_tells_whom_it_gave_no_memory(base, made, kills, had_none):
    groups = Groups(base=base, containment=containment.plain())
    with groups.of_job("1-2-x", LIMITS) as group:
        text = f"low 0\nhigh 0\nmax 3\noom 1\noom_kill {kills}\n"
        (group.path / "memory.events").write_text(text)
        assert group.had_no_memory() is had_none


def test_what_runners_left_that_are_gone_is_removed(base, made, monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "own_group", lambda: base)
    with private_room(tmp_path, "") as room:
        for name in (f"job-{room.path.name}", "job-4194305-1-x", "other"):
            (base / name).mkdir()
        assert cgroup.take() == base
    assert list(made) == ["job-4194305-1-x"]
