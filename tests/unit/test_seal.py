"""The seal of the API's secrets: made once, for its owner alone, and looked after."""

from datetime import UTC, datetime

import pytest

from horus_celery import wiring
from horus_celery.errors import ConfigurationError
from horus_celery.settings import load_settings
from horus_celery.statedir import SCOPES, StateDirectory

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def initialise(state):
    return state.initialise(namespace="hero", runners=[], now=NOW)


@pytest.fixture
def state(tmp_path):
    state = StateDirectory(tmp_path / "state")
    initialise(state)
    return state


@pytest.fixture
def settings(state):
    """The settings of a deployment whose Redis nobody asks."""
    return load_settings(
        env={}, state_dir=state.path, redis_url="unix:///nowhere/redis.sock"
    )


def test_it_is_made_once_for_its_owner_alone(state):
    seal = state.seal()
    assert len(seal) == 32
    assert state.seal_file.stat().st_mode & 0o777 == 0o600
    assert not any("seal" in note for note in initialise(state))
    assert state.seal() == seal


def test_every_deployment_has_its_own(state, tmp_path):
    other = StateDirectory(tmp_path / "other")
    initialise(other)
    assert other.seal() != state.seal()


def test_a_state_directory_of_before_is_given_one(state):
    state.seal_file.unlink()
    assert any("seal" in note for note in initialise(state))
    assert state.seal()


def test_without_it_the_remedy_is_named(state, settings):
    state.seal_file.unlink()
    with pytest.raises(
        ConfigurationError, match="seal is missing: `horus init --state"
    ):
        wiring.make_secrets(settings)


@pytest.mark.parametrize(
    "text", ["", "\n", "ab" * 31, "ab" * 33, "xy" * 32, "AB" * 32, "ab" * 5000]
)
def test_one_that_is_none_is_a_fault(state, text):
    state.seal_file.write_text(text)
    assert any(str(state.seal_file) in fault for fault in state.faults([]))
    with pytest.raises(ConfigurationError, match="horus init"):
        state.seal()
    with pytest.raises(ConfigurationError, match="seal"):
        initialise(state)


def test_one_that_others_may_read_is_a_fault(state):
    state.seal_file.chmod(0o640)
    (fault,) = state.faults([])
    assert "chmod 600" in fault
    with pytest.raises(ConfigurationError, match="chmod 600"):
        state.seal()


@pytest.mark.integration
def test_the_secrets_on_disk_count_where_the_settings_name_none(state, redis_url):
    settings = load_settings(env={}, state_dir=state.path, redis_url=redis_url)
    for scope in SCOPES:
        holder = wiring.make_secrets(settings).holder(state.secret(scope))
        assert holder
        assert holder.scope == scope


@pytest.mark.integration
def test_the_secrets_of_the_settings_count_besides_those_on_disk(state, redis_url):
    chosen = "0123456789abcdef0123456789abcdef"
    bound = {"secret": chosen, "contexts": ["lab"]}
    settings = load_settings(
        env={}, state_dir=state.path, redis_url=redis_url, user_secrets=[bound]
    )
    book = wiring.make_secrets(settings)
    holder = book.holder(chosen)
    assert holder
    assert holder.contexts == frozenset({"lab"})
    assert book.holder(state.secret("user"))
    assert book.holder(state.secret("admin"))
