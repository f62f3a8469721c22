"""What no runner signed is counted and logged once, however often it is met."""

from __future__ import annotations

from structlog.testing import capture_logs

from horus_celery.mismatches import Mismatches, Place


def test_a_lie_is_counted_and_logged_once():
    found = Mismatches()
    with capture_logs() as logs:
        for _ in range(3):
            found.note("a" * 64, Place.RECORD)
        found.note("b" * 64, Place.RECORD)
    assert found.counts() == {Place.RECORD: 2, Place.LOG: 0}
    assert [(one["what"], one["digest"][0]) for one in logs] == [
        ("record", "a"),
        ("record", "b"),
    ]
    assert {one["log_level"] for one in logs} == {"error"}


def test_the_record_and_the_log_of_a_job_are_two():
    found = Mismatches()
    for place in Place:
        found.note("a" * 64, place)
    assert found.counts() == dict.fromkeys(Place, 1)


def test_so_many_are_remembered_and_no_more():
    found = Mismatches(remembered=2)
    for name in "abca":
        found.note(name, Place.RECORD)
    assert found.counts()[Place.RECORD] == 4
    found.note("c", Place.RECORD)
    assert found.counts()[Place.RECORD] == 4
