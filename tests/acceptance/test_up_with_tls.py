"""`horus up` with a certificate: its own commands find and believe it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

pytestmark = pytest.mark.acceptance


@pytest.fixture
def issue(state_dir):
    """Write a certificate that holds for `localhost` alone; return its settings."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(state_dir.parent / "ca.pem"))

    def put(**options):
        issued = authority.issue_cert("localhost", **options)
        files = {
            "HORUS_TLS_CERT": state_dir.parent / "cert.pem",
            "HORUS_TLS_KEY": state_dir.parent / "key.pem",
        }
        chain = issued.private_key_and_cert_chain_pem
        chain.write_to_path(str(files["HORUS_TLS_CERT"]))
        issued.private_key_pem.write_to_path(str(files["HORUS_TLS_KEY"]))
        return {name: str(path) for name, path in files.items()}

    return put


@pytest.fixture
def tls_up(up, issue):
    return up(env=issue())


def test_commands_here_need_nothing_and_others_the_authority(tls_up, state_dir, horus):
    assert tls_up.addresses["url"].startswith("https://127.0.0.1:")
    # By an address that the certificate does not have, and without the settings.
    ran = horus(state_dir, "run", "-c", "print(1 + 1)")
    assert (ran.returncode, ran.stdout) == (0, "2\n"), ran.stderr
    url = tls_up.addresses["url"].replace("127.0.0.1", "localhost")
    elsewhere = ["run", "--url", url, "-c", "print(1 + 1)"]
    refused = horus(state_dir, *elsewhere)
    assert refused.returncode == 1
    assert f"the certificate of {url} is not believed" in refused.stderr
    assert "HORUS_CA" in refused.stderr
    believed = {"HORUS_CA": str(state_dir.parent / "ca.pem")}
    ran = horus(state_dir, *elsewhere, env_more=believed)
    assert (ran.returncode, ran.stdout) == (0, "2\n"), ran.stderr


def test_a_certificate_whose_time_is_over_keeps_nothing_here_from_running(
    up, issue, state_dir, horus
):
    settings = issue(not_after=datetime(2025, 1, 1, tzinfo=UTC))
    deployment = up(env=settings)
    assert "cert.pem: certificate has expired" in "".join(deployment.said)
    ran = horus(state_dir, "run", "-c", "print(1 + 1)")
    assert (ran.returncode, ran.stdout) == (0, "2\n"), ran.stderr
    url = deployment.addresses["url"].replace("127.0.0.1", "localhost")
    believed = {"HORUS_CA": str(state_dir.parent / "ca.pem")}
    refused = horus(state_dir, "job", "list", "--url", url, env_more=believed)
    assert refused.returncode != 0
    assert "is not believed (certificate has expired)" in refused.stderr


def test_a_key_that_is_none_is_said_before_anything_starts(issue, state_dir, horus):
    settings = issue()
    path = Path(settings["HORUS_TLS_KEY"])
    path.write_text("none")
    told = horus(state_dir, "supervisor", "--port", "0", env_more=settings)
    assert told.returncode == 1
    assert f"tls_key: {path} holds no private key" in told.stderr
    assert not (state_dir / "logs").exists()
