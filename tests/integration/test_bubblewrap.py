"""What bubblewrap does for a user who owns nothing here, and is no kind of root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from workers import bubblewrap, handover, sandbox
from workers.launch import SYSTEM_PATH
from workers.order import Ceilings, Order

#: Somebody whose processes the kernel counts, which it never does for root's.
USER = 61_185

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed"
)


class Boxes:
    """A job's room, and scripts of the shell that are run in it by bubblewrap."""

    def __init__(self, room):
        self.room = room
        is_root = os.geteuid() == 0
        self._user = USER if is_root else os.geteuid()
        self._as: dict[str, Any] = (
            {"user": USER, "group": USER, "extra_groups": []} if is_root else {}
        )
        for folder in (room / "work", room / "out", room / "private"):
            folder.mkdir()
        (room / "private" / "key").write_text("secret")

    def __call__(self, text, *, hidden=(), procs=20, **env):
        (self.room / "script").write_text(text)
        for path in (self.room, *self.room.iterdir()):
            os.chown(path, self._user, -1)
        prepared = bubblewrap.prepared(
            shown=("/usr", "/bin", "/lib", "/lib64", str(self.room / "private")),
            hidden=hidden,
            path=SYSTEM_PATH,
        )
        order = Order(
            interpreter=("/bin/sh",),
            script=f"{sandbox.GIVEN}/script",
            args=("one",),
            env={"PATH": SYSTEM_PATH, **env},
            cwd=sandbox.WORK,
            room=str(self.room),
            space=1 << 20,
            ceilings=Ceilings(memory=1 << 28, cpu=10, processes=procs),
        )
        boxed = bubblewrap.boxed(
            order, prepared, host=None, has_network=False, filtered=None
        )
        ended = subprocess.run(  # noqa: S603 - what is tested
            handover.command_line(boxed),
            env=dict(boxed.env),
            close_fds=False,
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
            **self._as,
        )
        return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def run():
    """Run scripts in boxes, as that user where the tests are root's."""
    # Every user can go there, and it is not where the job's own /tmp will be.
    room = Path(tempfile.mkdtemp(prefix="horus-box-", dir="/var/tmp"))
    yield Boxes(room)
    shutil.rmtree(room)


def test_the_kernel_counts_the_processes_of_a_job_alone(run):
    code, out, err = run(
        "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & echo $i; done", procs=5
    )
    assert code != 0
    assert out.split() == ["1", "2", "3", "4"], "with the script they are five"
    assert "fork" in err


def test_what_a_script_is_given_is_seen_in_no_other_place(run):
    code, out, err = run(
        "cat /proc/1/environ /proc/1/cmdline | tr '\\0' ' '; echo; echo $SAID $1",
        SAID="a word",
    )
    assert (code, err) == (0, "")
    above, said = out.splitlines()
    assert said == "a word one"
    assert above.startswith("/usr/bin/bwrap --args ")
    assert "horus-box-" not in above
    assert "a word" not in above


def test_a_path_that_is_hidden_is_empty_and_stays_so(run):
    private = run.room / "private"
    shown = f"cat {private}/key"
    assert run(shown)[1] == "secret"
    code, out, _ = run(f"ls -A {private}; touch {private}/x", hidden=(str(private),))
    assert (code, out) == (1, "")


def test_the_result_is_found_on_the_node_and_the_work_is_not(run):
    code, _, err = run("echo yes > /job/out/result; echo no > /job/work/other")
    assert (code, err) == (0, "")
    assert (run.room / "out" / "result").read_text() == "yes\n"
    assert list((run.room / "work").iterdir()) == []


def test_a_program_that_is_missing_is_named():
    with pytest.raises(FileNotFoundError, match="there is no program prlimit"):
        bubblewrap.prepared(shown=(), hidden=(), path="/nowhere")
