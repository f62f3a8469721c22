"""What an action is given: parameters by their keys, and arguments without a key.

Every getter takes the name of a key and, where it is absent, returns `default`; without
one it refuses, with the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from workers.heroscript import kinds
from workers.heroscript.errors import ParameterError
from workers.heroscript.names import lower, name_fix

_T = TypeVar("_T")


class Required(Enum):
    """What stands for a default where there is none."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One `key:value`."""

    #: In lower case.
    key: str
    value: str
    comment: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One word without a key; its case is kept."""

    word: str
    comment: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """All that an action is given, in the order of the text."""

    named: tuple[Parameter, ...] = ()
    arguments: tuple[Argument, ...] = ()
    #: Where the action stands that has them.
    line: int = field(default=1, compare=False)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.named)

    def find(self, key: str) -> Parameter | None:
        """Return the parameter whose key is that name in lower case."""
        wanted = lower(key)
        return next((one for one in self.named if one.key == wanted), None)

    def exists(self, key: str) -> bool:
        """Whether there is such a key; it is not fixed, only put in lower case."""
        return self.find(key) is not None

    def get_arg(self, number: int, *, default: str | Required = REQUIRED) -> str:
        """Return the argument of that number, from 0."""
        if 0 <= number < len(self.arguments):
            return self.arguments[number].word
        if isinstance(default, Required):
            raise ParameterError(f"there is no argument {number}", self.line)
        return default

    def exists_arg(self, word: str) -> bool:
        """Whether this word is an argument; as it stands, or in lower case."""
        wanted = {word, lower(word)}
        return any(one.word in wanted for one in self.arguments)

    # --- one value -------------------------------------------------------------

    def get(self, key: str, *, default: str | Required = REQUIRED) -> str:
        """Return a value as it stands."""
        return self._read(key, str, default)

    def get_int(self, key: str, *, default: int | Required = REQUIRED) -> int:
        """Return a number of 32 bits."""
        return self._read(key, kinds.read_int, default)

    def get_u8(self, key: str, *, default: int | Required = REQUIRED) -> int:
        """Return a number of 8 bits that is not negative."""
        return self._read(key, kinds.read_u8, default)

    def get_u32(self, key: str, *, default: int | Required = REQUIRED) -> int:
        """Return a number of 32 bits that is not negative."""
        return self._read(key, kinds.read_u32, default)

    def get_u64(self, key: str, *, default: int | Required = REQUIRED) -> int:
        """Return a number of 64 bits that is not negative."""
        return self._read(key, kinds.read_u64, default)

    def get_float(self, key: str, *, default: float | Required = REQUIRED) -> float:
        """Return a number; what has `%` behind it is divided by 100."""
        return self._read(key, kinds.read_float, default)

    def get_percentage(
        self, key: str, *, default: float | Required = REQUIRED
    ) -> float:
        """Return 0 to 1, written as 0 to 100 with or without `%`."""
        return self._read(key, kinds.read_percentage, default)

    def get_default_true(self, key: str) -> bool:
        """Return True if it is absent or says so; everything else is False."""
        return self._read(key, kinds.read_if_true, True)  # noqa: FBT003 - the default

    def get_default_false(self, key: str) -> bool:
        """Return False if it is absent or says so; everything else is True."""
        return self._read(key, kinds.read_unless_false, False)  # noqa: FBT003 - as above

    def get_time(
        self, key: str, *, now: datetime, default: datetime | Required = REQUIRED
    ) -> datetime:
        """Return a point in time: relative to now, or a date (UTC); empty is now."""
        return self._read(key, lambda text: kinds.read_time(text, now=now), default)

    def get_timestamp(
        self, key: str, *, default: timedelta | Required = REQUIRED
    ) -> timedelta:
        """Return a time of day, as the time since midnight."""
        return self._read(key, kinds.read_timestamp, default)

    def get_storagecapacity_in_bytes(
        self, key: str, *, default: int | Required = REQUIRED
    ) -> int:
        """Return an amount of storage."""
        return self._read(key, kinds.read_storage, default)

    def get_storagecapacity_in_gigabytes(
        self, key: str, *, default: int | Required = REQUIRED
    ) -> int:
        """Return an amount of storage, rounded up."""
        return self._read(key, kinds.read_gigabytes, default)

    # --- lists -----------------------------------------------------------------

    def get_list(
        self, key: str, *, default: tuple[str, ...] | Required = REQUIRED
    ) -> tuple[str, ...]:
        """Return items that stand between commas."""
        return self._read(key, kinds.read_list, default)

    def get_list_namefix(
        self, key: str, *, default: tuple[str, ...] | Required = REQUIRED
    ) -> tuple[str, ...]:
        """Return names that stand between commas."""
        items = self._read(key, kinds.read_list, default)
        return tuple(map(name_fix, items)) if self._has(key) else items

    def get_list_int(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 32 bits."""
        return self._numbers(key, kinds.read_int, **options)

    def get_list_u8(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 8 bits that are not negative."""
        return self._numbers(key, kinds.read_u8, **options)

    def get_list_u16(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 16 bits that are not negative."""
        return self._numbers(key, kinds.read_u16, **options)

    def get_list_u32(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 32 bits that are not negative."""
        return self._numbers(key, kinds.read_u32, **options)

    def get_list_u64(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 64 bits that are not negative."""
        return self._numbers(key, kinds.read_u64, **options)

    def get_list_i8(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 8 bits."""
        return self._numbers(key, kinds.read_i8, **options)

    def get_list_i16(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 16 bits."""
        return self._numbers(key, kinds.read_i16, **options)

    def get_list_i64(self, key: str, **options: tuple[int, ...]) -> tuple[int, ...]:
        """Return numbers of 64 bits."""
        return self._numbers(key, kinds.read_i64, **options)

    def get_list_f32(self, key: str, **options: tuple[float, ...]) -> tuple[float, ...]:
        """Return numbers; Python has one size of them."""
        return self._numbers(key, kinds.read_float, **options)

    def get_list_f64(self, key: str, **options: tuple[float, ...]) -> tuple[float, ...]:
        """Return numbers."""
        return self._numbers(key, kinds.read_float, **options)

    # --- paths -----------------------------------------------------------------

    def get_path(self, key: str, *, default: Path | Required = REQUIRED) -> Path:
        """Return the path of something that exists."""
        return self._read(key, _existing, default)

    def get_path_create(self, key: str, *, default: Path | Required = REQUIRED) -> Path:
        """Return the path of a directory, which is made if it is not there."""
        return self._read(key, _made, default)

    # ---------------------------------------------------------------------------

    def _has(self, key: str) -> bool:
        return self.exists(name_fix(key))

    def _read(self, key: str, read: Callable[[str], _T], default: _T | Required) -> _T:
        found = self.find(name_fix(key))
        if found is None:
            if isinstance(default, Required):
                raise ParameterError(f"the parameter {key} is missing", self.line)
            return default
        try:
            return read(found.value)
        except ValueError as error:
            shown = f"{found.value[:40]}…" if len(found.value) > 40 else found.value  # noqa: PLR2004 - enough to know it by
            said = f"{found.key} must be {error}, not {shown!r}"
            raise ParameterError(said, found.line) from None

    def _numbers(
        self,
        key: str,
        read: Callable[[str], _T],
        default: tuple[_T, ...] | Required = REQUIRED,
    ) -> tuple[_T, ...]:
        def read_all(text: str) -> tuple[_T, ...]:
            try:
                return tuple(read(item.strip()) for item in text.split(","))
            except ValueError as error:
                raise ValueError(f"a list of which each is {error}") from None

        return self._read(key, read_all, default)


#: What an action is given that is given nothing.
NOTHING: Final = Parameters()


def _existing(text: str) -> Path:
    path = _path(text)
    if not path.exists():
        raise ValueError("the path of something that exists")
    return path


def _made(text: str) -> Path:
    path = _path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"a directory that can be made ({error.strerror})") from None
    return path


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path in a home directory that exists") from None
