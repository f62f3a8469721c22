"""How a state directory is made, kept valid, and changed."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from horus_celery import locks
from horus_celery.bundle import (
    Body,
    WantedRunner,
    default_grant,
    unmet,
    with_grant,
    with_runners,
    without,
)
from horus_celery.errors import ConfigurationError, RefusedError
from horus_celery.instants import to_ms
from horus_celery.statedir import faults
from horus_celery.statedir.faults import FOLDERS, served
from horus_celery.statedir.files import exists, is_named, words, write
from horus_celery.statedir.layout import SCOPES, SEAL_BYTES, Layout
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import (
    KeyPair,
    key_id,
    read_key_file,
    write_key_file,
    write_public_key_file,
)
from horus_celery.statements.trust import Trust, read_trust

#: How long a trust bundle that we sign is valid.
TRUST_LIFETIME: Final = timedelta(days=90)
#: With less than this left, a bundle is signed again where the root key lies.
TRUST_RENEWAL: Final = timedelta(days=30)
#: By how much two clocks may differ (protocol section 3).
CLOCK_SKEW: Final = timedelta(minutes=5)


class StateDirectory(Layout):
    """A state directory by its path; nothing is made before it is asked for."""

    __slots__ = ()

    # --- check ---------------------------------------------------------------

    def check_place(self) -> None:
        """See that this can be, or become, a state directory; nothing is made.

        Raises:
            ConfigurationError: saying why it cannot, and what to do.
        """
        faults.check_place(self)

    def faults(self, runners: Sequence[WantedRunner]) -> Iterator[str]:
        """Say of every file that is here and cannot be used what is wrong with it.

        What is not here and can be made is no fault. Each names its remedy.
        """
        return faults.faults(self, runners)

    # --- make ----------------------------------------------------------------

    def initialise(
        self, *, namespace: str, runners: Sequence[WantedRunner], now: datetime
    ) -> tuple[str, ...]:
        """Make what is missing, keep what is there, and return what was done.

        Two at once are one after the other. A trust bundle that lacks one of the
        runners, lists it with something else, or soon expires is signed again, where
        the root key lies.

        Raises:
            ConfigurationError: if the directory cannot be made, is somebody else's, or
                holds what cannot be used: it names the file and what to do.
        """
        self.make_folders()
        with self.locked():
            for fault in self.faults(runners):
                raise ConfigurationError(fault)
            notes = self._make_root()
            self._require_fitting_trust(namespace, now)
            notes += self._make_secrets()
            notes += self._make_runner_keys(runners)
            notes += self._make_trust(namespace, runners, now)
        return tuple(notes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who changes keys and trust.

        Raises:
            ConfigurationError: if there is nothing to change, or no right to, or
                somebody else does it and does not end.
        """
        path = self.run / "changes.lock"
        try:
            file = path.open("ab")
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {path}: {words(error)}; {self.command('init')} makes"
                " what is missing"
            ) from None
        with file:
            locks.take(file, path, what="changing keys or trust here")
            yield

    def reissue(self, change: Callable[[Body], Body], *, now: datetime) -> Trust:
        """Change the trust bundle's body and sign it as the next version.

        Raises:
            ConfigurationError: if the root key is not here, or what came of the
                change is no trust bundle.
        """
        with self.locked():
            return self._reissue(change, now=now)

    def revoke(self, name: str, *, now: datetime) -> Trust:
        """Take a key (by its id) or a runner (by its name) out of the trust bundle.

        A runner's key file is put aside, so that the next start does not list it again.

        Raises:
            ConfigurationError: if the bundle knows neither, or the root key is away.
        """
        with self.locked():
            before = self.trust()
            after = self._reissue(lambda body: without(body, name), now=now)
            gone = {one.name: one.key for one in before.runners} | {
                one.name: "" for one in after.runners
            }
            for runner, keyid in gone.items():
                path = self.runner_key_file(runner)
                if keyid and is_named(path):
                    path.replace(path.with_name(f"{runner}.revoked-{keyid}"))
            return after

    def put_trust(self, text: str) -> None:
        """Put a bundle that was signed elsewhere in place of the present one.

        The caller holds the lock, and has seen that it is a good one.

        Raises:
            ConfigurationError: if it cannot be written.
        """
        write(self.trust_file, f"{text}\n", replace=True)

    def trust_body(self) -> Body:
        """Return the body of the trust bundle, as it is on the wire."""
        return self.trust().to_wire()

    def make_folders(self) -> None:
        """Make the directory with its folders; one that is there stays as it is.

        Raises:
            ConfigurationError: if it cannot be made, or is somebody else's.
        """
        self.check_place()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.listdir(self.path):  # noqa: PTH208 - only the names matter
                # Only an empty one has its mode mended: others may use another.
                self.path.chmod(0o700)
            for name in FOLDERS:
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the state directory {self.path}:"
                f" {words(error)}; choose another with --state-dir"
            ) from None
        if not os.access(self.path, os.W_OK) or not os.access(self.run, os.W_OK):
            raise ConfigurationError(
                f"the state directory {self.path} is not writable for this user:"
                " mend its owner, or choose another with --state-dir"
            )

    # --- steps, each idempotent and under the lock ------------------------------

    def _make_root(self) -> list[str]:
        if exists(self.root_pub):
            return []
        notes = []
        if not self.has_root_key():
            write_key_file(self.root_key, KeyPair.generate())
            notes = [f"made the root key {self.root_key}"]
        write_public_key_file(self.root_pub, read_key_file(self.root_key).public)
        return notes

    def _make_secrets(self) -> list[str]:
        notes = []
        for scope in SCOPES:
            path = self.secret_file(scope)
            if not exists(path):
                text = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
                write(path, f"{text.rstrip('=')}\n")
                notes.append(f"made the {scope} secret {path}")
        if not exists(self.seal_file):
            write(self.seal_file, f"{secrets.token_hex(SEAL_BYTES)}\n")
            notes.append(f"made the seal of the API's secrets {self.seal_file}")
        if not exists(self.herodb_master_file):
            write(self.herodb_master_file, f"{secrets.token_hex(SEAL_BYTES)}\n")
            notes.append(f"made the secret of HeroDB {self.herodb_master_file}")
        return notes

    def _make_runner_keys(self, runners: Sequence[WantedRunner]) -> list[str]:
        notes = []
        for runner in runners:
            path = self.runner_key_file(runner.name)
            if exists(path):
                continue
            write_key_file(path, KeyPair.generate())
            notes.append(f"made the runner key {path}")
        return notes

    def _make_trust(
        self, namespace: str, runners: Sequence[WantedRunner], now: datetime
    ) -> list[str]:
        if not exists(self.trust_file):
            return self._make_first_trust(namespace, runners, now)
        body = self.trust_body()
        missing = unmet(body, runners)
        ends = self.trust().expires_at
        if missing:
            keyed = self._keyed(missing)
            self._reissue(lambda body: with_runners(body, keyed), now=now)
            return [
                f"the trust bundle now lists the runner {one.name} for"
                f" {served(one.executors, one.contexts)}"
                for one in missing
            ]
        if ends - now >= TRUST_RENEWAL:
            return []
        if self.has_root_key():
            trust = self._reissue(lambda body: body, now=now)
            renewed = (
                f"signed the trust bundle again (it would have ended on"
                f" {ends:%Y-%m-%d}): version {trust.version}, until"
                f" {trust.expires_at:%Y-%m-%d}"
            )
            return [renewed]
        warning = (
            f"the trust bundle ends on {ends:%Y-%m-%d}: where the root key lies, run"
            " `horus trust renew`, and bring its trust.json here"
        )
        return [warning]

    def _require_fitting_trust(self, namespace: str, now: datetime) -> None:
        """See that the bundle, if there is one, is for this deployment and now."""
        if not exists(self.trust_file):
            return
        trust = self.trust()
        if trust.aud != namespace:
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} is for the namespace {trust.aud},"
                f" the settings say {namespace}: set namespace = {trust.aud!r},"
                " or choose another --state-dir"
            )
        if trust.issued_at > now + CLOCK_SKEW:
            raise ConfigurationError(
                f"the clock is wrong: it says {now:%Y-%m-%d %H:%M} UTC, and the trust"
                f" bundle was signed at {trust.issued_at:%Y-%m-%d %H:%M} UTC: set the"
                f" clock, or {self.command('trust', 'renew')} if the clock is right"
            )
        ends = trust.expires_at
        if ends <= now and not self.has_root_key():
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} expired on {ends:%Y-%m-%d}, so"
                " every job would be refused: where the root key lies, run `horus trust"
                " renew`, and bring its trust.json here"
            )

    def _make_first_trust(
        self, namespace: str, runners: Sequence[WantedRunner], now: datetime
    ) -> list[str]:
        default = self.key_file("default")
        notes = []
        if not exists(default):
            write_key_file(default, KeyPair.generate())
            notes.append(f"made the default caller's key {default}")
        body: Body = {
            "v": 1,
            "aud": namespace,
            # Nodes refuse a version older than one they know: a journal that outlived
            # its bundle remembers which that was.
            "version": self.remembered_version(),
            "keys": {},
            "grants": [],
            "runners": [],
        }
        public = read_key_file(default).public
        body = with_grant(body, default_grant(key_id(public)), keys=[public])
        body = with_runners(body, self._keyed(runners))
        self._sign_trust(body, now=now)
        return [*notes, f"signed the trust bundle {self.trust_file}"]

    def _keyed(self, runners: Sequence[WantedRunner]) -> dict[WantedRunner, bytes]:
        """Return these runners, each with its public key."""
        return {
            runner: read_key_file(self.runner_key_file(runner.name)).public
            for runner in runners
        }

    def _reissue(self, change: Callable[[Body], Body], *, now: datetime) -> Trust:
        return self._sign_trust(change(self.trust_body()), now=now)

    def _sign_trust(self, body: Body, *, now: datetime) -> Trust:
        if not self.has_root_key():
            raise ConfigurationError(
                f"a trust bundle is signed with {self.root_key}, which is not here:"
                " do this where it is kept, and bring the new trust.json here"
            )
        self.require_pair()
        root = read_key_file(self.root_key)
        body = {
            **body,
            "version": body["version"] + 1,
            "issued_at": to_ms(now),
            "expires_at": to_ms(now + TRUST_LIFETIME),
        }
        try:
            envelope = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
            text = dsse.to_json(envelope)
            trust = read_trust(text, root.public)
        except RefusedError as refusal:
            raise ConfigurationError(
                f"this cannot stand in a trust bundle: {refusal}"
            ) from None
        write(self.trust_file, f"{text}\n", replace=True)
        return trust
