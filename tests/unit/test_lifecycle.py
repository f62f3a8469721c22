from __future__ import annotations

from itertools import product

import pytest

from horus_celery.errors import IllegalTransition
from horus_celery.lifecycle import HELD, TERMINAL, TRANSITIONS, Event, Status, advance

FORBIDDEN = [pair for pair in product(Status, Event) if pair not in TRANSITIONS]


@pytest.mark.parametrize(("status", "event"), TRANSITIONS)
def test_what_is_in_the_table_leads_where_it_says(status, event):
    assert advance(status, event) is TRANSITIONS[status, event]


@pytest.mark.parametrize(("status", "event"), FORBIDDEN)
def test_what_is_not_in_the_table_is_refused(status, event):
    with pytest.raises(IllegalTransition) as refused:
        advance(status, event)
    assert (refused.value.status, refused.value.event) == (status, event)


def test_the_statuses_that_nothing_leaves_are_the_four_ends_of_the_protocol():
    assert TERMINAL == {"completed", "failed", "stopped", "rejected"}


def test_a_runner_holds_what_runs_and_what_is_being_stopped():
    assert HELD == {"running", "stopping"}


def test_every_status_can_be_reached_from_created():
    reached = {Status.CREATED}
    while (
        more := {to for (at, _), to in TRANSITIONS.items() if at in reached} - reached
    ):
        reached |= more
    assert reached == set(Status)


def test_every_status_that_is_not_an_end_leads_to_one():
    ends = set(TERMINAL)
    while more := {at for (at, _), to in TRANSITIONS.items() if to in ends} - ends:
        ends |= more
    assert ends == set(Status)
