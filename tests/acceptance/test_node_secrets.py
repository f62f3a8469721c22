"""A secret of the node, from horus.toml to a script, by the real command line."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.acceptance

VALUE = "correct horse battery"
GRANT = "trust grant --context default --caller default --key default --secrets"
#: Writes down how long the secret is, and blurts it out.
SCRIPT = 'cd "$HORUS_SECRETS"; wc -c < db-password; cat db-password'


@pytest.fixture
def deployment(state_dir, up, horus):
    """A deployment with one secret, whose file is named as it is seen from there."""
    folder = state_dir.parent
    (folder / "horus.toml").write_text(
        'executors = ["system"]\n[node_secrets]\ndb-password = {file = "password"}\n'
    )
    (folder / "password").write_text(VALUE)
    (folder / "password").chmod(0o600)
    assert horus(state_dir, "init").returncode == 0
    assert horus(state_dir, *GRANT.split(), "db-password,absent").returncode == 0
    return up()


@pytest.mark.usefixtures("deployment")
def test_a_script_gets_the_secrets_that_its_signer_names(state_dir, horus):
    def run(*secrets):
        words = [word for name in secrets for word in ("--secret", name)]
        return horus(state_dir, "run", "--executor", "system", *words, "-c", SCRIPT)

    told = run("db-password")
    assert (told.returncode, told.stdout) == (0, f"{len(VALUE)}\n***")
    told = run("db-password", "absent")
    assert told.returncode == 3
    assert "rejected: auth.secrets" in told.stderr
    told = run("root-password")
    assert told.returncode == 3
    assert "refused: auth.secrets: no grant covers the named secrets" in told.stderr
    password = state_dir.parent / "password"
    newer = password.with_name("newer")
    newer.write_text("another horse")
    newer.chmod(0o600)
    newer.replace(password)
    assert run("db-password").stdout == f"{len('another horse')}\n***"


def test_nothing_starts_with_a_secret_that_others_may_read(state_dir, horus):
    folder = state_dir.parent
    (folder / "horus.toml").write_text("\n[node_secrets]\nx = {file = 'password'}\n")
    (folder / "password").write_text(VALUE)
    (folder / "password").chmod(0o644)
    told = horus(state_dir, "up")
    assert told.returncode == 1
    assert told.stdout == ""
    assert f"horus.toml line 3: node_secrets.x.file names {folder}" in told.stderr
    assert f"chmod 600 {folder}/password" in told.stderr
    assert VALUE not in told.stderr
