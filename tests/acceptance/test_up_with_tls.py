"""`horus up` with a certificate: its own commands find and believe it."""

import pytest
import trustme

pytestmark = pytest.mark.acceptance


@pytest.fixture
def tls_up(up, state_dir):
    """Start it with a certificate that holds for `localhost` alone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(state_dir.parent / "ca.pem"))
    issued = authority.issue_cert("localhost")
    files = {
        "HORUS_TLS_CERT": state_dir.parent / "cert.pem",
        "HORUS_TLS_KEY": state_dir.parent / "key.pem",
    }
    issued.private_key_and_cert_chain_pem.write_to_path(str(files["HORUS_TLS_CERT"]))
    issued.private_key_pem.write_to_path(str(files["HORUS_TLS_KEY"]))
    return up(env={name: str(path) for name, path in files.items()})


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
