"""The state directory: made once, kept private, and its trust bundle kept valid."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from horus_celery.bundle import Body, WantedRunner, with_grant, without
from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError
from horus_celery.journal import Journal
from horus_celery.statedir import SCOPES, TRUST_LIFETIME, StateDirectory
from horus_celery.statements.keys import KeyPair, read_key_file, write_key_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def state(tmp_path_factory):
    # Not under this test's name, which may be too long for a unix socket.
    return StateDirectory(tmp_path_factory.mktemp("s") / "state")


def initialise(state, *, executors=("python", "system"), namespace="hero", now=NOW):
    return state.initialise(namespace=namespace, runners=runners_of(executors), now=now)


def contents(state):
    return {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()}


def test_it_has_the_layout_of_the_protocol(state):
    initialise(state)
    found = {str(path.relative_to(state.path)) for path in state.path.rglob("*")}
    assert found == {
        *("root.key", "root.pub", "trust.json", "redis", "logs", "run"),
        *("keys", "keys/default.key", "runners", "run/changes.lock"),
        *("runners/python_runner_1.key", "runners/system_runner_1.key"),
        *("secrets", "secrets/admin", "secrets/user", "secrets/register"),
        *("herodb", "secrets/herodb"),
        "secrets/seal",
    }


def test_who_changes_it_and_does_not_end_is_not_waited_for_for_ever(state, monkeypatch):
    initialise(state)
    monkeypatch.setattr("horus_celery.locks.PATIENCE", timedelta(0))
    with state.locked(), pytest.raises(ConfigurationError, match=r"changes\.lock"):
        initialise(state)
    assert initialise(state) == ()


def test_nobody_else_may_look_into_it(state):
    initialise(state)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    for path in state.path.iterdir():
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
    secret = [state.root_key, *map(state.secret_file, SCOPES)]
    secret += [*state.path.glob("keys/*"), *state.path.glob("runners/*")]
    for path in secret:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_time_changes_nothing(state):
    assert initialise(state)
    before = contents(state)
    assert initialise(state) == ()
    assert contents(state) == before


def test_of_several_at_once_each_gets_the_same(state):
    barrier = threading.Barrier(4)
    seen = []

    def begin():
        barrier.wait()
        initialise(state)
        seen.append(contents(state))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(each == seen[0] for each in seen)


def test_secrets_are_long_and_differ(state):
    initialise(state)
    secrets = {state.secret(scope) for scope in SCOPES}
    assert len(secrets) == 3
    assert all(len(secret) == 43 for secret in secrets)


def test_the_default_key_may_sign_what_the_protocol_says(state):
    initialise(state)
    trust = state.trust()
    keyid = read_key_file(state.key_file("default")).keyid
    (grant,) = trust.grants_for("default", "default")
    assert grant.keys == (keyid,)
    assert grant.executors == ("*",)
    assert set(grant.nets) == {"none", "herodb"}
    assert grant.max_timeout == timedelta(seconds=86400)
    assert grant.threshold == 1


def test_the_bundle_lists_a_runner_for_each_executor(state):
    initialise(state)
    trust = state.trust()
    assert (trust.version, trust.aud) == (1, "hero")
    assert trust.expires_at - trust.issued_at == TRUST_LIFETIME
    for executor in ("python", "system"):
        entry = trust.runner(f"{executor}_runner_1")
        assert entry.executors == (executor,)
        assert entry.contexts == ("*",)
        key = read_key_file(state.runner_key_file(entry.name))
        assert entry.key == key.keyid


def test_a_new_executor_gets_a_key_and_a_newer_bundle(state):
    initialise(state)
    notes = initialise(state, executors=["python", "osis"])
    assert any("osis_runner_1" in note for note in notes)
    assert state.trust().version == 2
    assert state.trust().runner("osis_runner_1") is not None
    assert state.trust().runner("system_runner_1") is not None


# --- what the settings say of runners ---------------------------------------------


def want(state, *runners, now=NOW):
    return state.initialise(namespace="hero", runners=runners, now=now)


def wanted(name="a", executors=("python",), contexts=("one", "two")):
    return WantedRunner(name=name, executors=executors, contexts=contexts)


def entry_of(state, name="a"):
    entry = state.trust().runner(name)
    return entry.executors, entry.contexts


def test_an_actor_gets_a_key_and_an_entry_with_its_contexts(state):
    want(state, wanted())
    assert entry_of(state) == (("python",), ("one", "two"))
    key = read_key_file(state.runner_key_file("a"))
    assert state.trust().runner("a").key == key.keyid


@pytest.mark.parametrize(
    "change", [{"contexts": ("one",)}, {"contexts": ("*",)}, {"executors": ("system",)}]
)
def test_an_entry_that_the_settings_no_longer_bear_out_is_signed_anew(state, change):
    want(state, wanted())
    before = state.trust().runner("a")
    (note,) = want(state, wanted(**change))
    assert "now lists the runner a for" in note
    after = wanted(**change)
    assert entry_of(state) == (after.executors, after.contexts)
    assert state.trust().runner("a").key == before.key
    assert state.trust().version == 2
    assert want(state, wanted(**change)) == ()


def test_the_order_of_contexts_is_no_change(state):
    want(state, wanted())
    assert want(state, wanted(contexts=("two", "one"))) == ()


def test_without_the_root_key_the_difference_is_named_with_the_remedy(state):
    want(state, wanted())
    state.root_key.unlink()
    before = contents(state)
    assert want(state, wanted()) == ()
    with pytest.raises(ConfigurationError) as caught:
        want(state, wanted(contexts=("*",)))
    told = str(caught.value)
    assert "lists the runner a for python in one, two" in told
    assert "`horus init`" in told
    assert contents(state) == before


def test_the_runner_of_an_executor_keeps_what_its_entry_says_beyond_it(state):
    want(state, wanted("python_runner_1", executors=("python", "system")))
    assert initialise(state, executors=["python"]) == ()
    bound = wanted("python_runner_1", contexts=("one",))
    want(state, bound)
    assert initialise(state, executors=["python"]) == ()
    assert entry_of(state, "python_runner_1") == (("python",), ("one",))


def test_one_that_is_to_serve_another_executor_as_well_keeps_its_contexts(state):
    want(state, wanted())
    want(state, wanted(executors=("system",), contexts=None))
    assert entry_of(state) == (("python", "system"), ("one", "two"))


def test_without_runners_there_is_a_bundle_all_the_same(state):
    want(state)
    assert state.trust().runners == ()
    assert want(state) == ()


def test_a_bundle_that_ends_soon_is_signed_again_where_the_root_key_lies(state):
    initialise(state)
    assert initialise(state, now=NOW + 60 * DAY) == ()
    (note,) = initialise(state, now=NOW + 61 * DAY)
    assert "signed the trust bundle again" in note
    trust = state.trust()
    assert trust.version == 2
    assert trust.expires_at == NOW + 61 * DAY + TRUST_LIFETIME


def test_an_expired_bundle_strands_nobody_who_has_the_root_key(state):
    initialise(state)
    initialise(state, now=NOW + 1000 * DAY)
    assert not state.trust().is_expired(NOW + 1000 * DAY)


def test_without_the_root_key_the_end_is_announced_and_then_refused(state):
    initialise(state)
    state.root_key.unlink()
    assert initialise(state, now=NOW + 50 * DAY) == ()
    (note,) = initialise(state, now=NOW + 70 * DAY)
    assert "horus trust renew" in note
    with pytest.raises(ConfigurationError, match=r"expired on 2026-04-01.*trust renew"):
        initialise(state, now=NOW + 90 * DAY)


def test_a_bundle_from_the_future_says_that_the_clock_is_wrong(state):
    initialise(state)
    assert initialise(state, now=NOW - timedelta(minutes=5)) == ()
    with pytest.raises(ConfigurationError, match="clock is wrong"):
        initialise(state, now=NOW - timedelta(minutes=6))


def test_another_namespace_is_refused(state):
    initialise(state)
    with pytest.raises(ConfigurationError, match="namespace = 'hero'"):
        initialise(state, namespace="other")


def test_a_node_that_was_given_its_bundle_never_makes_a_root_of_its_own(state):
    initialise(state)
    state.root_key.unlink()
    before = contents(state)
    initialise(state)
    assert contents(state) == before


def test_a_runner_key_that_was_lost_is_not_silently_replaced(state):
    initialise(state)
    state.runner_key_file("python_runner_1").unlink()
    with pytest.raises(ConfigurationError, match="trust revoke python_runner_1"):
        initialise(state)
    state.revoke("python_runner_1", now=NOW)
    initialise(state)
    assert state.trust().runner("python_runner_1") is not None


def test_a_runner_key_other_than_the_listed_one_is_refused(state):
    initialise(state)
    path = state.runner_key_file("python_runner_1")
    path.unlink()
    write_key_file(path, KeyPair.generate())
    with pytest.raises(ConfigurationError, match="is not the key"):
        initialise(state)


def test_a_revoked_runner_does_not_come_back_with_its_old_key(state):
    initialise(state)
    old = state.trust().runner("python_runner_1").key
    state.revoke("python_runner_1", now=NOW)
    initialise(state)
    assert state.trust().runner("python_runner_1").key != old
    assert old not in state.trust().keys


def test_a_revoked_caller_takes_the_grants_with_it_that_need_it(state):
    initialise(state)
    keyid = read_key_file(state.key_file("default")).keyid
    state.revoke(keyid, now=NOW)
    assert state.trust().grants == ()
    assert keyid not in state.trust().keys


def test_a_grant_that_can_be_met_by_others_stays():
    body = {
        "keys": {"a": "1", "b": "2"},
        "grants": [{"keys": ["a", "b"], "threshold": 1}],
        "runners": [],
    }
    assert without(body, "a")["grants"] == [{"keys": ["b"], "threshold": 1}]


def test_granting_the_same_twice_is_granting_it_once():
    key = KeyPair.generate().public
    body: Body = {"keys": {}, "grants": []}
    once = with_grant(body, {"keys": ["k"]}, keys=[key])
    assert with_grant(once, {"keys": ["k"]}, keys=[key]) == once


def test_what_nobody_knows_cannot_be_revoked(state):
    initialise(state)
    with pytest.raises(ConfigurationError, match="knows no key and no runner 'x'"):
        state.revoke("x", now=NOW)


def test_a_change_that_makes_no_bundle_changes_nothing(state):
    initialise(state)
    before = contents(state)
    with pytest.raises(ConfigurationError, match="cannot stand in a trust bundle"):
        state.reissue(lambda body: {**body, "extra": 1}, now=NOW)
    assert contents(state) == before


def test_a_tampered_bundle_is_named(state):
    initialise(state)
    text = state.trust_file.read_text()
    state.trust_file.write_text(text.replace('"sig":"', '"sig":"AAAA'))
    with pytest.raises(ConfigurationError, match=r"trust\.json cannot be believed"):
        initialise(state)


def test_a_bundle_that_is_made_anew_is_newer_than_what_the_journal_remembers(state):
    initialise(state)
    journal = Journal(state.journal)
    journal.remember_trust_version(7)
    journal.close()
    state.trust_file.unlink()
    initialise(state)
    assert state.trust().version == 8


def test_a_secret_that_others_may_read_is_refused(state):
    initialise(state)
    state.secret_file("user").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        state.secret("user")


def test_a_missing_secret_is_named_with_the_remedy(state):
    with pytest.raises(ConfigurationError, match="horus init"):
        state.secret("user")


def test_a_folder_of_something_else_is_left_alone(state):
    state.path.mkdir(mode=0o755)
    (state.path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigurationError, match="holds other things"):
        initialise(state)
    assert [path.name for path in state.path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken_and_closed_to_others(state):
    state.path.mkdir(mode=0o755)
    initialise(state)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_a_state_directory_that_was_opened_to_others_is_refused(state):
    initialise(state)
    state.path.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {state.path}"):
        initialise(state)


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path):
    state = StateDirectory(tmp_path / ("x" * 100))
    with pytest.raises(ConfigurationError, match="too long for a unix socket"):
        initialise(state)
    assert not state.path.exists()


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(ConfigurationError, match="cannot make the state directory"):
        initialise(StateDirectory(Path("/proc/horus")))


def test_a_root_key_of_another_pair_signs_nothing(state):
    initialise(state)
    state.root_key.unlink()
    write_key_file(state.root_key, KeyPair.generate())
    with pytest.raises(ConfigurationError, match="does not belong"):
        state.reissue(lambda body: body, now=NOW)


def test_without_its_public_key_a_bundle_is_not_believed(state):
    initialise(state)
    state.root_key.unlink()
    state.root_pub.unlink()
    with pytest.raises(ConfigurationError, match=r"root\.pub is missing"):
        initialise(state)
