"""While `horus up` runs, the state directory stays valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.cli.up import Caretaker
from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError
from horus_celery.processes.platform import Platform
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Asked:
    """Counts how often it is asked to mend."""

    def __init__(self, error=None):
        self.times = []
        self._error = error

    def __call__(self, *, now):
        self.times.append(now)
        if self._error:
            raise self._error
        return ("mended",)


@pytest.fixture
def deployed(state_dir):
    """What runs since 59 days, in which nobody has looked."""
    state = StateDirectory(state_dir)
    settings = Settings(state_dir=state_dir)
    state.initialise(
        namespace=settings.namespace, runners=runners_of(settings.executors), now=NOW
    )
    began = NOW + 59 * DAY
    return state, Caretaker(Platform(settings).mend, began + HOUR), began


def test_a_bundle_that_ends_soon_is_signed_again_while_all_runs(deployed):
    state, caretaker, began = deployed
    said = [
        note for hours in range(1, 73) for note in caretaker.look(began + hours * HOUR)
    ]
    assert len(said) == 1
    assert "signed the trust bundle again" in said[0]
    assert state.trust().version == 2
    assert state.trust().expires_at - (began + DAY) > 89 * DAY


def test_without_the_root_key_it_is_told_every_hour(deployed):
    state, caretaker, began = deployed
    state.root_key.unlink()
    at = began + 2 * DAY
    assert "horus trust renew" in caretaker.look(at)[0]
    assert caretaker.look(at + HOUR / 2) == ()
    assert "horus trust renew" in caretaker.look(at + HOUR)[0]


def test_a_fault_is_told_and_ends_nothing(deployed):
    state, caretaker, began = deployed
    state.root_key.chmod(0o644)
    assert "chmod 600" in caretaker.look(began + HOUR)[0]


def test_it_looks_once_an_hour():
    asked = Asked()
    caretaker = Caretaker(asked, NOW + HOUR)
    for seconds in range(3 * 3600 + 1):
        caretaker.look(NOW + timedelta(seconds=seconds))
    assert asked.times == [NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR]


def test_after_a_long_sleep_it_looks_once():
    asked = Asked()
    caretaker = Caretaker(asked, NOW + HOUR)
    assert caretaker.look(NOW + 10 * DAY) == ("mended",)
    assert caretaker.look(NOW + 10 * DAY + timedelta(seconds=1)) == ()


def test_a_clock_that_was_set_back_does_not_put_it_off():
    asked = Asked()
    caretaker = Caretaker(asked, NOW + HOUR)
    assert caretaker.look(NOW - DAY) == ("mended",)
    assert caretaker.look(NOW - DAY + HOUR / 2) == ()


def test_what_cannot_be_mended_is_asked_for_again_an_hour_later():
    asked = Asked(ConfigurationError("mend it"))
    caretaker = Caretaker(asked, NOW)
    assert caretaker.look(NOW) == ("mend it",)
    assert caretaker.look(NOW + HOUR) == ("mend it",)
    assert len(asked.times) == 2
