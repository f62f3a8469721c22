"""The keys of encryption of this node: a file for each, of which none ever leaves.

`FOLDER/CONTEXT/KIND.NAME` holds the generations of a key, the newest last. A name has
no slash in it and does not begin with a dot, so it can be that of a file.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pyrage
from nacl.signing import SigningKey

from horus_celery import locks
from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    TooManyError,
)
from horus_celery.herodb.values import KEY_BYTES
from horus_celery.statedir.files import is_named, read, require_private, words, write

#: The key by which values are encrypted that name no other; made when it is needed.
DEFAULT: Final = "default"
#: Keys of one context: scripts make them, too.
MAX_KEYS: Final = 1000
#: Generations of one key.
MAX_GENERATIONS: Final = 100
_MAX_FILE: Final = 256 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


class Kind(StrEnum):
    """What a key is for."""

    #: Values, by XChaCha20-Poly1305.
    SECRET = "secret"  # noqa: S105 - a word, and none that opens anything
    #: Messages to whoever has the other half: age, X25519.
    AGE = "age"
    #: Signatures, by Ed25519; never a caller's or a runner's.
    SIGN = "sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One form of a key, which a rotation replaces."""

    #: By which it is found: NAME:RANDOM.
    id: str
    private: str = field(repr=False)
    #: What others may have of it; empty for a secret, of which they may have nothing.
    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a context, with all forms that it had."""

    kind: Kind
    name: str
    #: The newest last; there is one at least.
    generations: tuple[Generation, ...]

    @property
    def newest(self) -> Generation:
        """What is used from now on."""
        return self.generations[-1]


class Keyring:
    """The keys of this node, by context, kind and name."""

    def __init__(self, folder: Path, *, max_keys: int = MAX_KEYS) -> None:
        """Take where they lie; nothing is made there before there is a key.

        Args:
            folder: The folder of all contexts.
            max_keys: How many one context may have.
        """
        self._folder = folder
        self._max_keys = max_keys

    def get(self, context: str, kind: Kind, name: str) -> Key:
        """Return a key.

        Raises:
            NotFoundError: if there is none.
        """
        key = self._find(context, kind, name)
        if key is None:
            raise NotFoundError(
                f"context {context} has no {kind} key {name} on this node"
            )
        return key

    def get_or_make(self, context: str, kind: Kind, name: str) -> Key:
        """Return a key, which is made if there is none."""
        key = self._find(context, kind, name)
        if key is not None:
            return key
        with self._changing(context):
            key = self._find(context, kind, name)
            return key or self._make(context, kind, name)

    def create(self, context: str, kind: Kind, name: str) -> Key:
        """Make a key.

        Raises:
            ConflictError: if there is one already.
        """
        with self._changing(context):
            if self._find(context, kind, name) is not None:
                raise ConflictError(
                    f"context {context} has a {kind} key {name} already: rotate it, or"
                    " choose another name",
                    reason="key_taken",
                )
            return self._make(context, kind, name)

    def rotate(self, context: str, kind: Kind, name: str) -> Key:
        """Give a key a new form; what was done by the old ones can still be read.

        Raises:
            NotFoundError: if there is none.
            ConflictError: if it has had too many.
        """
        with self._changing(context):
            key = self.get(context, kind, name)
            if len(key.generations) >= MAX_GENERATIONS:
                raise ConflictError(
                    f"the key {name} was rotated {MAX_GENERATIONS} times: make another",
                    reason="key_worn",
                )
            generations = (*key.generations, _generation(kind, name))
            return self._write(context, kind, name, generations)

    def delete(self, context: str, kind: Kind, name: str) -> None:
        """Forget a key: nobody reads again what was encrypted by it.

        Raises:
            NotFoundError: if there is none.
        """
        with self._changing(context):
            self.get(context, kind, name)
            self._path(context, kind, name).unlink()

    def list(self, context: str) -> Sequence[Key]:
        """Return the keys of a context, by kind and name."""
        return [
            self.get(context, kind, name) for kind, name in sorted(self._names(context))
        ]

    def secret_of(self, context: str, key_id: str) -> bytes:
        """Return the key of encryption that a value names.

        Raises:
            NotFoundError: if it is not here.
        """
        name = key_id.rpartition(":")[0]
        key = self._find(context, Kind.SECRET, name) if _NAME.fullmatch(name) else None
        for generation in () if key is None else key.generations:
            if generation.id == key_id:
                return bytes.fromhex(generation.private)
        raise NotFoundError(
            "the value was encrypted by a key that is not on this node, or was deleted"
        )

    def _find(self, context: str, kind: Kind, name: str) -> Key | None:
        path = self._path(context, kind, name)
        if not is_named(path):
            return None
        require_private(path)
        remedy = "restore it from a backup, or remove it with what it encrypts"
        text = read(path, limit=_MAX_FILE, remedy=remedy)
        try:
            said = json.loads(text)
            generations = tuple(Generation(**one) for one in said["generations"])
            return Key(kind=kind, name=name, generations=_at_least_one(generations))
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(f"{path} holds no key: {remedy}") from None

    def _make(self, context: str, kind: Kind, name: str) -> Key:
        if sum(1 for _ in self._names(context)) >= self._max_keys:
            raise TooManyError(
                f"context {context} has {self._max_keys} keys: delete some of them"
            )
        return self._write(context, kind, name, (_generation(kind, name),))

    def _write(
        self, context: str, kind: Kind, name: str, generations: tuple[Generation, ...]
    ) -> Key:
        wire: list[dict[str, Any]] = [
            {"id": one.id, "private": one.private, "public": one.public}
            for one in generations
        ]
        text = json.dumps({"v": 1, "generations": wire})
        write(self._path(context, kind, name), f"{text}\n", replace=True)
        return Key(kind=kind, name=name, generations=generations)

    def _names(self, context: str) -> Iterator[tuple[Kind, str]]:
        for kind in Kind:
            for path in self._of(context).glob(f"{kind}.*"):
                yield kind, path.name.partition(".")[2]

    def _path(self, context: str, kind: Kind, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConflictError(
                "a key's name has letters, digits and . _ @ : - in it, 128 at most",
                reason="key_name",
            )
        return self._of(context) / f"{kind}.{name}"

    def _of(self, context: str) -> Path:
        if not _NAME.fullmatch(context):
            raise ConflictError("there is no such context", reason="context_name")
        return self._folder / context

    @contextmanager
    def _changing(self, context: str) -> Iterator[None]:
        """Be the only one who changes keys of a context.

        Raises:
            ConfigurationError: if nothing can be changed there, or somebody else does
                it and does not end.
        """
        folder = self._of(context)
        path = folder / ".lock"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise ConfigurationError(
                f"keys cannot be kept in {folder}: {words(error)}; mend its owner and"
                " mode"
            ) from None
        with file:
            locks.take(file, path, what=f"changing keys of the context {context}")
            yield


def _generation(kind: Kind, name: str) -> Generation:
    key_id = f"{name}:{secrets.token_hex(8)}"
    private, public = make_pair(kind)
    return Generation(id=key_id, private=private, public=public)


def make_pair(kind: Kind) -> tuple[str, str]:
    """Return a new key as it is written: its private and its public half."""
    match kind:
        case Kind.SECRET:
            return secrets.token_hex(KEY_BYTES), ""
        case Kind.AGE:
            identity = pyrage.x25519.Identity.generate()
            return str(identity), str(identity.to_public())
        case Kind.SIGN:
            key = SigningKey.generate()
            return key.encode().hex(), key.verify_key.encode().hex()


def _at_least_one(generations: tuple[Generation, ...]) -> tuple[Generation, ...]:
    if not generations:
        raise ValueError
    return generations
