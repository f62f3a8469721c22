"""How many hold a slot at a time, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from horus_celery.errors import ConfigurationError
from workers.slots import Slots

SOON = 10.0  # seconds
HOLD = """
import sys, pathlib
from workers.slots import Slots
slots = Slots(pathlib.Path(sys.argv[1]), count=1)
with slots.taken(before_waiting=lambda: None) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def make_slots(tmp_path):
    def make(count=1):
        slots = Slots(tmp_path / "slots" / "r", count=count)
        slots.prepare()
        return slots

    return make


def never():
    pytest.fail("it waited")


def test_as_many_hold_a_slot_as_there_are(make_slots):
    one, other = make_slots(2), make_slots(2)
    with (
        one.taken(before_waiting=never) as first,
        other.taken(before_waiting=never) as second,
    ):
        assert (first, second) == (True, True)


def test_a_slot_is_free_again_after_the_block(make_slots):
    slots = make_slots()
    for _ in range(3):
        with slots.taken(before_waiting=never) as held:
            assert held


def test_whoever_comes_too_late_waits_and_says_so_once(make_slots):
    first, second = make_slots(), make_slots()
    waits: list[int] = []
    got_it, has_waited = threading.Event(), threading.Event()

    def say():
        waits.append(1)
        has_waited.set()

    def wait():
        with second.taken(before_waiting=say) as held:
            assert held
            got_it.set()

    with first.taken(before_waiting=never):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert has_waited.wait(SOON)
        assert not got_it.wait(0.2)
    assert got_it.wait(SOON)
    waiter.join(SOON)
    assert waits == [1]


def test_nobody_waits_when_the_worker_is_to_end(make_slots):
    first, second = make_slots(), make_slots()
    with first.taken(before_waiting=never):
        second.end()
        with second.taken(before_waiting=lambda: None) as held:
            assert not held


def test_a_slot_goes_with_the_process_that_held_it(make_slots, tmp_path):
    slots = make_slots()
    holder = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", HOLD, str(tmp_path / "slots" / "r")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        waited = []

        def kill():
            waited.append(1)
            holder.kill()

        with slots.taken(before_waiting=kill) as held:
            assert held
        assert waited == [1]


def test_a_command_inherits_no_slot(make_slots):
    slots = make_slots()
    with slots.taken(before_waiting=never):
        # What is inherited only because nobody closes it would be seen here.
        seen = subprocess.run(
            ["/bin/ls", "-l", "/proc/self/fd"],
            close_fds=False,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    assert "slots" not in seen


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_no_folder_of_ours_is_said_with_its_path(tmp_path, what):
    place = tmp_path / "slots"
    if what == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path)
    slots = Slots(place, count=1)
    with pytest.raises(ConfigurationError, match=str(place)):
        slots.prepare()
    with (
        pytest.raises(ConfigurationError, match=str(place)),
        slots.taken(before_waiting=never),
    ):
        pass


def test_a_link_in_the_place_of_a_slot_is_not_followed(make_slots, tmp_path):
    slots = make_slots()
    target = tmp_path / "target"
    (tmp_path / "slots" / "r" / "0").symlink_to(target)
    with (
        pytest.raises(ConfigurationError),
        slots.taken(before_waiting=never),
    ):
        pass
    assert not target.exists()
