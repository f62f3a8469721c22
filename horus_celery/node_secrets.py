"""The secrets of this node: which there are, and what their files hold now.

A value is read anew whenever it is needed, so a file that was replaced counts from the
next job on.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from pydantic import SecretBytes

from horus_celery.errors import ConfigurationError, NotCoveredError

#: Bytes of the shortest value, white space around it left out.
SHORTEST: Final = 8
#: Bytes of the largest file.
LARGEST: Final = 64 * 1024

#: A pipe under this name does not hold us up.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSecrets:
    """The secrets that scripts may be given on this node, if their job is granted them.

    Values are handed out in a type that does not show them.
    """

    #: Where each of them lies, by its name.
    files: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def names(self) -> frozenset[str]:
        """The names of those that there are."""
        return frozenset(self.files)

    def read(self, names: Iterable[str]) -> Mapping[str, SecretBytes]:
        """Return the values of these, which must be among those that there are.

        Raises:
            NotCoveredError: `auth.secrets`, naming one that cannot be used now, and
                what mends it.
        """
        values: dict[str, SecretBytes] = {}
        for name in names:
            try:
                values[name] = read_value(self.files[name])
            except ConfigurationError as error:
                raise NotCoveredError(
                    "auth.secrets", f"the secret {name} lies in {error.detail}"
                ) from None
        return MappingProxyType(values)


def read_value(path: Path) -> SecretBytes:
    """Return the value in a file, exactly as it stands there.

    Raises:
        ConfigurationError: if it cannot be used; the text begins with the path.
    """
    with _opened(path) as file:
        value = file.read(LARGEST + 1)
    if fault := _fault_of_size(len(value)) or _fault_of_size(len(value.strip())):
        raise ConfigurationError(f"{path}, which {fault}")
    return SecretBytes(value)


def require_usable(path: Path) -> None:
    """See that a file may hold a value, without reading it.

    Raises:
        ConfigurationError: if it cannot be used; the text begins with the path.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open(os.open(path, _FLAGS), "rb") as file:  # noqa: PTH123 - a descriptor
            if fault := _fault_of_file(path, os.fstat(file.fileno())):
                raise ConfigurationError(f"{path}, which {fault}")
            yield file
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"{path}, which cannot be read: {why}") from None


def _fault_of_file(path: Path, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if found.st_mode & 0o077:
        return f"others may use: chmod 600 {shlex.quote(str(path))}"
    return _fault_of_size(found.st_size)


def _fault_of_size(size: int) -> str:
    if size > LARGEST:
        return f"is larger than {LARGEST} bytes"
    if size < SHORTEST:
        return (
            f"holds a value of less than {SHORTEST} bytes: so short a text stands in"
            " ordinary output as well, which would be masked with it"
        )
    return ""
