"""`horus secret`, `runners`, `trust install`, `config`, against what really is up."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from horus_celery.instants import to_ms
from horus_celery.statedir import StateDirectory
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import read_key_file

pytestmark = pytest.mark.acceptance

ACTOR = '[[actors]]\nid = "spare"\nexecutor = "python"\n'


@pytest.fixture
def tell(up, state_dir, horus):
    """A deployment with a runner to manage; run a command on it."""
    (state_dir.parent / "horus.toml").write_text(ACTOR)
    up()

    def run(*arguments, env_more=None):
        told = horus(state_dir, *arguments, env_more=env_more)
        assert told.returncode == 0, told.stderr
        return told.stdout

    return run


def test_a_deployment_is_administered_by_its_command_line(tell, state_dir, horus):
    # Secrets: one that was added opens what it is for, until it is removed.
    secret = tell("secret", "add", "--scope", "user", "--context", "default").strip()
    (added,) = [
        one
        for one in json.loads(tell("secret", "list", "--json"))
        if one["contexts"] == ["default"]
    ]
    with_it = {"HORUS_SECRET": secret}
    assert json.loads(tell("job", "list", "--json", env_more=with_it)) == []
    told = horus(state_dir, "secret", "list", env_more=with_it)
    assert (told.returncode, told.stdout) == (1, "")
    tell("secret", "remove", added["id"])
    assert horus(state_dir, "job", "list", env_more=with_it).returncode == 1

    # Runners: one that is managed ends and begins as it is told.
    names = {one["name"] for one in json.loads(tell("runners", "list", "--json"))}
    assert names >= {"python_runner_1", "spare"}
    assert "simple" in tell("runners", "status", "spare")
    assert json.loads(tell("runners", "stop", "spare", "--json"))["status"] == "stopped"
    started = json.loads(tell("runners", "start", "spare", "--json"))
    assert started["status"] in {"starting", "running"}
    assert tell("runners", "logs", "spare", "--lines", "1").count("\n") <= 1
    tell("runners", "remove", "spare")
    names = {one["name"] for one in json.loads(tell("runners", "list", "--json"))}
    assert "spare" not in names

    # Trust: a bundle that was signed elsewhere is brought in.
    state = StateDirectory(state_dir)
    body = state.trust_body()
    version = body["version"] + 1
    body |= {"version": version, "issued_at": to_ms(datetime.now(UTC))}
    root = read_key_file(state.root_key)
    envelope = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
    bundle = state_dir.parent / "bundle.json"
    bundle.write_text(dsse.to_json(envelope))
    assert json.loads(tell("trust", "install", bundle, "--json")) == version
    assert state.trust().version == version

    # Settings: the actor stands where it was written.
    shown = json.loads(tell("config", "show", "--json"))
    assert shown["actors"]["line"] == 1
    assert shown["actors"]["name"] == str(state_dir.parent / "horus.toml")
