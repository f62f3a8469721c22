"""What the kernel makes of the rules, as far as each version of them goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from horus_celery import kernel

try:
    HERE = kernel.landlock_version()
except OSError:
    pytest.skip("this kernel has no Landlock", allow_module_level=True)

#: Closes itself in by the rules of a version, and tells what it may still do.
CODE = """
import json, os, sys
from horus_celery import kernel
from workers import landlock
from workers.order import Fence

version, tools, room, elsewhere = sys.argv[1:]

def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def write(path):
    with open(path, "w") as file:
        file.write("x")

fence = Fence(shown=(tools,), hidden=(), has_network=False)
grounds = landlock.surveyed(fence, version=int(version))
kernel.give_up_new_privileges()
landlock.close_in(grounds, landlock.settled(grounds), room=room)
read = lambda path: tried(lambda: open(path).close())
print(json.dumps({
    "tool": read(f"{tools}/tool"),
    "script": read(f"{room}/script"),
    "elsewhere": read(f"{elsewhere}/file"),
    "listing": tried(lambda: os.listdir(elsewhere)),
    "own file": tried(lambda: write(f"{room}/work/x")),
    "own folder": tried(lambda: os.mkdir(f"{room}/work/d")),
    "between": tried(lambda: os.rename(f"{room}/work/x", f"{room}/work/d/x")),
    "result": tried(lambda: write(f"{room}/out/result")),
    "beside": tried(lambda: write(f"{room}/x")),
    "script again": tried(lambda: write(f"{room}/script")),
    "tool again": tried(lambda: write(f"{tools}/tool")),
    "new elsewhere": tried(lambda: write(f"{elsewhere}/new")),
    "removal": tried(lambda: os.unlink(f"{elsewhere}/file")),
    "null": tried(lambda: write("/dev/null")),
    "emptied": tried(lambda: os.truncate(f"{elsewhere}/file", 0)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
}))
"""
ALWAYS = {
    "tool": "done",
    "script": "done",
    "elsewhere": "PermissionError",
    "listing": "PermissionError",
    "own file": "done",
    "own folder": "done",
    "result": "done",
    "beside": "PermissionError",
    "script again": "PermissionError",
    "tool again": "PermissionError",
    "new elsewhere": "PermissionError",
    "removal": "PermissionError",
    "null": "done",
}


@pytest.mark.parametrize("version", range(1, HERE + 1))
def test_an_older_version_keeps_what_it_knows(tmp_path, version):
    for name in ("tools", "room/work", "room/out", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tools/tool", "room/script", "elsewhere/file"):
        (tmp_path / name).write_text("x")
    folders = [str(tmp_path / name) for name in ("tools", "room", "elsewhere")]
    said = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", textwrap.dedent(CODE), str(version), *folders],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": os.environ["PATH"]},
    )
    assert json.loads(said.stdout) == {
        **ALWAYS,
        # The kernel moves nothing between folders before it can be allowed to.
        "between": "done" if version >= 2 else "OSError",
        "emptied": "PermissionError" if version >= 3 else "done",
        "signal": "PermissionError" if version >= 6 else "done",
    }
