"""Which trust bundle this node believes: the one on its disk, if root-signed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from horus_celery.errors import ConfigurationError, RefusedError
from horus_celery.journal import Journal
from horus_celery.statements import dsse
from horus_celery.statements.keys import read_public_key_file
from horus_celery.statements.trust import Trust, read_trust

#: Bytes that are read of a bundle's envelope; a body has at most `dsse.MAX_BODY`.
_MAX_TEXT: Final = 2 * dsse.MAX_BODY

#: Changes whenever the file was written or replaced.
_Mark: TypeAlias = tuple[int, int, int]


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

    def __init__(self, trust_path: Path, root_path: Path, journal: Journal) -> None:
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
        return ConfigurationError(
            f"the trust bundle {self._trust_path} cannot be read: {error.strerror};"
            " horus init makes one"
        )


def _mark_of(status: os.stat_result) -> _Mark:
    return status.st_mtime_ns, status.st_size, status.st_ino
