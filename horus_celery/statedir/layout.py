"""What lies where in a state directory, and what stands there."""

from __future__ import annotations

import hmac
import os
import re
import shlex
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from horus_celery.api_secrets.secret import fault_of
from horus_celery.errors import ConfigurationError, RefusedError
from horus_celery.journal import Journal
from horus_celery.settings import DEFAULT_STATE_DIR
from horus_celery.statedir.files import exists, is_named, read, require_private
from horus_celery.statements import dsse
from horus_celery.statements.keys import read_key_file, read_public_key_file
from horus_celery.statements.trust import Trust, read_trust

SCOPES: Final = ("admin", "user", "register")
#: Bytes of the seal, and how it is written.
SEAL_BYTES: Final = 32
_SEAL: Final = re.compile(r"[0-9a-f]{64}")
#: What is lost with a seal that is made anew.
_SEAL_LOSS: Final = "secrets that were added through the API are gone"
_HERODB_LOSS: Final = "who was let into HeroDB has to be let in again"
#: Bytes that are read of a secret, and of a bundle's envelope.
_MAX_SECRET: Final = 4096
_MAX_BUNDLE: Final = 2 * dsse.MAX_BODY


@dataclass(frozen=True, slots=True)
class Layout:
    """A state directory by its path; nothing is read before it is asked for."""

    path: Path

    def command(self, *words: str) -> str:
        """Return a command of ours, to be pasted, that finds this state directory."""
        usual = os.path.expanduser(DEFAULT_STATE_DIR)  # noqa: PTH111 - never fails
        is_usual = str(self.path) == usual
        where = [] if is_usual else ["--state-dir", str(self.path)]
        return f"`{shlex.join(['horus', *words, *where])}`"

    @property
    def root_key(self) -> Path:
        """The root's private key; a node of many may be without it."""
        return self.path / "root.key"

    @property
    def root_pub(self) -> Path:
        """The pinned public key of the root."""
        return self.path / "root.pub"

    @property
    def trust_file(self) -> Path:
        """The trust bundle."""
        return self.path / "trust.json"

    @property
    def journal(self) -> Path:
        """The journal that the runners of this node share."""
        return self.path / "journal.db"

    @property
    def redis(self) -> Path:
        """The folder of our own Redis."""
        return self.path / "redis"

    @property
    def redis_socket(self) -> Path:
        """Where our own Redis listens."""
        return self.path / "run" / "redis.sock"

    @property
    def run(self) -> Path:
        """Locks, sockets and what else means nothing once all has ended."""
        return self.path / "run"

    @property
    def rooms(self) -> Path:
        """Where running jobs have their private directories."""
        return self.path / "run" / "rooms"

    @property
    def temporary(self) -> Path:
        """Where the programs have their temporary files."""
        return self.path / "run" / "tmp"

    @property
    def windows(self) -> Path:
        """Where it is written down what windows of tmux run."""
        return self.path / "run" / "windows"

    @property
    def logs(self) -> Path:
        """One log file per program."""
        return self.path / "logs"

    @property
    def keys(self) -> Path:
        """The callers' keys."""
        return self.path / "keys"

    def key_file(self, name: str) -> Path:
        """Return where the caller's key of that name lies."""
        return self.keys / f"{name}.key"

    def runner_key_file(self, name: str) -> Path:
        """Return where the key of the runner of that name lies."""
        return self.path / "runners" / f"{name}.key"

    def secret_file(self, scope: str) -> Path:
        """Return where the secret of that scope lies."""
        return self.path / "secrets" / scope

    @property
    def seal_file(self) -> Path:
        """The key under which the API's secrets lie in Redis."""
        return self.path / "secrets" / "seal"

    @property
    def herodb_master_file(self) -> Path:
        """What the passwords of HeroDB are made of."""
        return self.path / "secrets" / "herodb"

    @property
    def herodb_keys(self) -> Path:
        """The keys of encryption that contexts have on this node."""
        return self.path / "herodb"

    # --- read ----------------------------------------------------------------

    def seal(self) -> bytes:
        """Return the key under which the API's secrets lie in Redis.

        Raises:
            ConfigurationError: if it cannot be read, or by others, too.
        """
        return self._read_seal(self.seal_file, _SEAL_LOSS)

    def herodb_master(self) -> bytes:
        """Return what the passwords of HeroDB are made of.

        Raises:
            ConfigurationError: if it cannot be read, or by others, too.
        """
        return self._read_seal(self.herodb_master_file, _HERODB_LOSS)

    def password_of(self, program: str) -> str:
        """Return by which a program of this node knows the others.

        Raises:
            ConfigurationError: as `herodb_master`, of which it is made.
        """
        covered = f"horus-own-{program}".encode()
        return hmac.digest(self.herodb_master(), covered, "sha256").hex()

    def secret(self, scope: str) -> str:
        """Return the secret of a scope.

        Raises:
            ConfigurationError: if it cannot be read, or by others, too; or if it can
                be guessed.
        """
        path = self.secret_file(scope)
        self._require(path)
        remedy = f"remove it to have a new one made by {self.command('init')}"
        text = read(path, limit=_MAX_SECRET, remedy=remedy).strip()
        if not (text.isascii() and text.isprintable() and " " not in text and text):
            what = "holds no secret in printable ASCII" if text else "is empty"
            raise ConfigurationError(f"{path} {what}: {remedy}")
        if fault := fault_of(text, otherwise=remedy):
            raise ConfigurationError(f"{path} {fault}")
        return text

    def root_public(self) -> bytes:
        """Return the pinned root key."""
        return read_public_key_file(self.root_pub)

    def trust(self) -> Trust:
        """Return the trust bundle, signed by the pinned root key; it may be expired.

        Raises:
            ConfigurationError: if there is none, or it cannot be believed.
        """
        text = self._trust_text()
        try:
            return read_trust(text, self.root_public())
        except RefusedError as refusal:
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} cannot be believed"
                f" ({refusal.reason}): {refusal}; put the right one there"
            ) from None

    def has_secret(self, scope: str) -> bool:
        """Whether there is a secret of that scope here."""
        return is_named(self.secret_file(scope))

    def has_root(self) -> bool:
        """Whether it is known here which root key to believe."""
        return exists(self.root_pub)

    def has_root_key(self) -> bool:
        """Whether trust can be changed here."""
        return exists(self.root_key)

    def has_key(self, name: str) -> bool:
        """Whether the caller's key of that name is here."""
        return is_named(self.key_file(name))

    def has_runner_key(self, name: str) -> bool:
        """Whether the key of the runner of that name is here."""
        return is_named(self.runner_key_file(name))

    def is_begun(self) -> bool:
        """Whether somebody has put keys here: a client needs no more than those."""
        return exists(self.root_pub) or exists(self.keys)

    def is_there(self) -> bool:
        """Whether there is anything at its path."""
        return exists(self.path)

    def require_pair(self) -> None:
        """See that the root's two keys belong together.

        Raises:
            ConfigurationError: if they do not, or one cannot be read.
        """
        public = read_key_file(self.root_key).public
        try:
            pinned = self.root_public()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error.detail}; remove it to have it made from {self.root_key}"
            ) from None
        if public != pinned:
            raise ConfigurationError(
                f"{self.root_key} does not belong to {self.root_pub}: put the pair back"
            )

    def remembered_version(self) -> int:
        """Return the version of the newest bundle that was believed here."""
        if not exists(self.journal):
            return 0
        with closing(Journal(self.journal)) as journal:
            return journal.highest_trust_version()

    def _trust_text(self) -> str:
        if not is_named(self.trust_file):
            raise ConfigurationError(
                f"there is no trust bundle {self.trust_file}: {self.command('init')}"
                " makes one"
            )
        return read(
            self.trust_file, limit=_MAX_BUNDLE, remedy="restore it from a backup"
        )

    def _read_seal(self, path: Path, loss: str) -> bytes:
        self._require(path)
        remedy = (
            "restore it from a backup, or remove it to have a new one made by"
            f" {self.command('init')}; then {loss}"
        )
        text = read(path, limit=_MAX_SECRET, remedy=remedy).strip()
        if not _SEAL.fullmatch(text):
            raise ConfigurationError(
                f"{path} does not hold {2 * SEAL_BYTES} hexadecimal digits: {remedy}"
            )
        return bytes.fromhex(text)

    def _require(self, path: Path) -> None:
        """See that a secret is there, for this user alone."""
        if not is_named(path):
            made = self.command("init")
            raise ConfigurationError(f"{path} is missing: {made} makes it")
        require_private(path)
