"""Which trust bundle this node believes: the one on its disk, if root-signed."""

from __future__ import annotations

import os
import shlex
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    NotCoveredError,
    RefusedError,
)
from horus_celery.journal import Journal
from horus_celery.statements import dsse
from horus_celery.statements.keys import read_public_key_file
from horus_celery.statements.trust import Trust, read_trust

#: Bytes that are read of a bundle's envelope; a body has at most `dsse.MAX_BODY`.
_MAX_TEXT: Final = 2 * dsse.MAX_BODY

#: Changes whenever the file was written or replaced.
_Mark: TypeAlias = tuple[int, int, int]


class Folder(Protocol):
    """Where the file lies, as far as it is to be changed."""

    def locked(self) -> AbstractContextManager[None]:
        """Be the only one who changes keys and trust."""
        ...

    def put_trust(self, text: str) -> None:
        """Put a bundle in place of the present one, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class _Bundle:
    mark: _Mark
    envelope: str
    trust: Trust


class TrustFile:
    """The bundle in a file, read again whenever the file changes.

    It must be signed by the pinned root key, and be no older than the newest one that
    the node's journal remembers. An expired bundle is returned all the same: whoever
    uses it refuses with a reason.
    """

    def __init__(
        self,
        trust_path: Path,
        root_path: Path,
        journal: Journal,
        folder: Folder | None = None,
    ) -> None:
        """Say where it lies.

        Args:
            trust_path: The bundle.
            root_path: The pinned root key.
            journal: Remembers the newest version.
            folder: Needed where new bundles are installed.
        """
        self._folder = folder
        self._trust_path = trust_path
        self._root_path = root_path
        self._journal = journal
        self._bundle: _Bundle | None = None

    def current(self) -> Trust:
        """Return the bundle as the file has it now.

        Raises:
            ConfigurationError: if the file cannot be read, is not a bundle that the
                root signed, or is older than a bundle that was believed before.
        """
        return self._current().trust

    def envelope(self) -> str:
        """Return the bundle's envelope as JSON text.

        Raises:
            ConfigurationError: as `current`.
        """
        return self._current().envelope

    def install(self, text: str | bytes, *, aud: str) -> Trust:
        """Put a newer bundle in place of the present one, and believe it from now on.

        Args:
            text: The envelope as JSON text.
            aud: The deployment that it must be for.

        Raises:
            RefusedError: if it is no bundle, the root did not sign it (`sig.none`), or
                it is for another deployment (`bind.aud`).
            ConflictError: if it is not newer than every one that was believed here.
            ConfigurationError: if it cannot be written.
        """
        trust = read_trust(text, read_public_key_file(self._root_path))
        if trust.aud != aud:
            raise NotCoveredError(
                "bind.aud",
                f"the trust bundle is for the deployment {trust.aud}, not for {aud}",
            )
        if self._folder is None:
            raise ConfigurationError(f"{self._trust_path} is only read here")
        with self._folder.locked():
            self._require_newer(trust)
            self._folder.put_trust(dsse.to_json(dsse.read(text, dsse.TRUST)))
            return self.current()

    def _require_newer(self, trust: Trust) -> None:
        # What lies there and cannot be believed counts for nothing: the journal knows
        # what did. One that nobody has looked at yet is remembered by this.
        with suppress(ConfigurationError):
            self.current()
        highest = self._journal.highest_trust_version()
        if trust.version <= highest:
            raise ConflictError(
                f"the trust bundle has version {trust.version}, but this node has"
                f" already believed version {highest}: install a newer one",
                reason="trust_version",
            )

    def _current(self) -> _Bundle:
        # Threads may read it at the same time; each then gets a bundle that is right.
        bundle = self._bundle
        if bundle is None or bundle.mark != self._mark():
            bundle = self._read()
            self._bundle = bundle
        return bundle

    def _mark(self) -> _Mark:
        try:
            return _mark_of(self._trust_path.stat())
        except OSError as error:
            raise self._unreadable(error) from None

    def _read(self) -> _Bundle:
        root_public = read_public_key_file(self._root_path)
        try:
            with self._trust_path.open("rb") as file:
                mark = _mark_of(os.fstat(file.fileno()))
                text = file.read(_MAX_TEXT + 1)
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            trust = read_trust(text, root_public)
        except RefusedError as refusal:
            raise ConfigurationError(
                f"the trust bundle {self._trust_path} cannot be believed"
                f" ({refusal.reason}): {refusal}"
            ) from None
        self._require_not_older(trust)
        envelope = dsse.to_json(dsse.read(text, dsse.TRUST))
        return _Bundle(mark, envelope, trust)

    def _require_not_older(self, trust: Trust) -> None:
        highest = self._journal.highest_trust_version()
        if trust.version < highest:
            raise ConfigurationError(
                f"the trust bundle {self._trust_path} has version {trust.version}, but"
                f" this node has already believed version {highest}: install that one"
                " or a newer one"
            )
        if trust.version > highest:
            self._journal.remember_trust_version(trust.version)

    def _unreadable(self, error: OSError) -> ConfigurationError:
        folder = shlex.quote(str(self._trust_path.parent))
        return ConfigurationError(
            f"the trust bundle {self._trust_path} cannot be read: {error.strerror};"
            f" `horus init --state-dir {folder}` makes one"
        )


def _mark_of(status: os.stat_result) -> _Mark:
    return status.st_mtime_ns, status.st_size, status.st_ino
