"""Which TLS certificate is shown, and which is believed."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from shutil import which

import pytest
import trustme

from horus_celery import certificates
from horus_celery.errors import ConfigurationError


@pytest.fixture(scope="module")
def root():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(root):
    # Of the second rank, as those of public authorities are.
    return root.create_child_ca()


@pytest.fixture
def write(tmp_path):
    """Write a certificate with its chain, and its key."""

    def put(leaf, name="server"):
        cert, key = tmp_path / f"{name}.crt", tmp_path / f"{name}.key"
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        cert.write_bytes(b"a comment before it\n" + chain)
        leaf.private_key_pem.write_to_path(str(key))
        return cert, key

    return put


def shake_hands(server, client, name):
    """Let both sides speak until they agree, and return the version."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1].version()


def test_a_server_is_believed_by_its_authority_and_its_name(root, ca, write, tmp_path):
    server = certificates.serving(*write(ca.issue_cert("api.example")))
    root.cert_pem.write_to_path(str(tmp_path / "ca"))
    other = tmp_path / "other"
    trustme.CA().cert_pem.write_to_path(str(other))
    client = certificates.believing(tmp_path / "ca")
    assert shake_hands(server, client, "api.example") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, certificates.believing(other), "api.example")


class TestPinned:
    def test_the_very_certificate_is_believed_under_any_name(self, ca, write):
        cert, key = write(ca.issue_cert("api.example"))
        server = certificates.serving(cert, key)
        assert shake_hands(server, certificates.pinned(cert), "127.0.0.1") == "TLSv1.3"

    @pytest.mark.parametrize(("days", "why"), [(-9, "expired"), (9, "not yet valid")])
    def test_it_is_believed_before_and_after_its_time_and_nowhere_else(
        self, root, write, tmp_path, days, why
    ):
        begins = datetime.now(UTC) + timedelta(days=days)
        leaf = root.issue_cert(
            "api.example", not_before=begins, not_after=begins + timedelta(days=1)
        )
        cert, key = write(leaf)
        server = certificates.serving(cert, key)
        assert shake_hands(server, certificates.pinned(cert), "127.0.0.1") == "TLSv1.3"
        assert why in str(certificates.fault_of(cert, key))
        root.cert_pem.write_to_path(str(tmp_path / "ca"))
        with pytest.raises(ssl.SSLCertVerificationError, match=why):
            shake_hands(server, certificates.believing(tmp_path / "ca"), "api.example")

    def test_one_that_is_good_today_has_no_fault(self, ca, write):
        assert certificates.fault_of(*write(ca.issue_cert("api.example"))) is None

    def test_another_of_the_same_authority_is_not(self, ca, write):
        cert, _ = write(ca.issue_cert("api.example"))
        other = certificates.serving(*write(ca.issue_cert("api.example"), "other"))
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(other, certificates.pinned(cert), "api.example")

    @pytest.mark.skipif(which("openssl") is None, reason="there is no openssl")
    def test_one_that_signed_itself_is_believed(self, tmp_path):
        cert, key = tmp_path / "cert", tmp_path / "key"
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        names = ["-nodes", "-subj", "/CN=me", "-keyout", key, "-out", cert]
        subprocess.run(  # noqa: S603 - our own command line
            [str(which("openssl")), *words, *names], check=True, capture_output=True
        )
        server = certificates.serving(cert, key)
        assert shake_hands(server, certificates.pinned(cert), "127.0.0.1") == "TLSv1.3"


class TestFilesOfNoUse:
    @pytest.fixture
    def files(self, ca, write):
        return write(ca.issue_cert("api.example"))

    @pytest.fixture
    def junk(self, tmp_path):
        path = tmp_path / "junk"
        path.write_text("junk")
        return path

    def complaint(self, read, *paths):
        with pytest.raises(ConfigurationError) as raised:
            read(*paths)
        return str(raised.value)

    def test_each_is_named(self, files, junk, tmp_path):
        cert, key = files
        nothing = tmp_path / "nothing"
        serving = certificates.serving
        for bad in (junk, nothing, tmp_path):
            assert f"tls_cert: {bad}" in self.complaint(serving, bad, key).replace(
                "cannot read ", ""
            )
            assert f"tls_key: {bad}" in self.complaint(serving, cert, bad).replace(
                "cannot read ", ""
            )

    def test_a_key_of_another_certificate_names_both(self, ca, files, write):
        _, other = write(ca.issue_cert("api.example"), "other")
        said = self.complaint(certificates.serving, files[0], other)
        assert f"{other} is not the key" in said
        assert str(files[0]) in said

    @pytest.mark.skipif(which("openssl") is None, reason="there is no openssl")
    def test_a_key_with_a_password_asks_nobody(self, files, tmp_path):
        cert, key = files
        locked = tmp_path / "locked"
        words = ["pkcs8", "-topk8", "-passout", "pass:sesame", "-in", key, "-out"]
        subprocess.run(  # noqa: S603 - our own command line
            [str(which("openssl")), *words, locked], check=True, capture_output=True
        )
        said = self.complaint(certificates.serving, cert, locked)
        assert f"tls_key: {locked}" in said
        assert "password" in said

    @pytest.mark.skipif(which("openssl") is None, reason="there is no openssl")
    def test_a_key_that_is_too_short_is_no_fault_of_its_form(self, tmp_path):
        cert, key = tmp_path / "cert", tmp_path / "key"
        words = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=me"]
        subprocess.run(  # noqa: S603 - our own command line
            [str(which("openssl")), *words, "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        said = self.complaint(certificates.serving, cert, key)
        assert f"tls_cert: {cert} has too short a key" in said

    @pytest.mark.parametrize("read", [certificates.pinned, certificates.believing])
    def test_what_is_no_certificate_is_not_believed(self, read, files, junk, tmp_path):
        for bad in (junk, tmp_path / "nothing", tmp_path, files[1]):
            assert str(bad) in self.complaint(read, bad)
