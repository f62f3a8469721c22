"""Which concrete pieces go together, and what is told where one of them is missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from horus_celery import wiring
from horus_celery.errors import ConfigurationError
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Unasked:
    """A kind of work that nobody asks for."""

    def check(self, job):
        """Have nothing to say against it."""

    def run(self, assignment, node, behind):
        raise NotImplementedError


def test_a_runner_without_a_key_is_told_what_makes_one(tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    state = StateDirectory(settings.state_dir)
    state.initialise(namespace=settings.namespace, runners=(), now=NOW)
    with pytest.raises(ConfigurationError) as refusal:
        wiring.make_node(settings, "osis_2", {"osis": Unasked()})
    assert refusal.value.detail == (
        f"there is no key for the runner osis_2 at {state.runner_key_file('osis_2')}:"
        " where the root key lies, `horus runner osis --name osis_2` makes it; bring it"
        " here, and the trust.json of there"
    )
