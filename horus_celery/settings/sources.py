"""Where settings are looked for, and what is found there, with its place."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, get_args

from horus_celery.errors import ConfigurationError
from horus_celery.settings.kinds import absolute
from horus_celery.settings.lines import Place, lines_of
from horus_celery.settings.values import DEFAULT_STATE_DIR, OWN_EXECUTORS, Settings
from horus_celery.settings.words import nearest

PREFIX: Final = "HORUS_"
FILE_NAME: Final = "horus.toml"
#: Variables of our own that are no settings: where the file lies, what clients use,
#: what a script finds in its environment, so that a script may run `horus`, and what a
#: runner's program that is not ours is told.
OTHER_VARIABLES: Final = frozenset(
    {
        "HORUS_CONFIG",
        "HORUS_URL",
        "HORUS_CA",
        "HORUS_SECRET",
        "HORUS_JOB_ID",
        "HORUS_CONTEXT_ID",
        "HORUS_INPUTS",
        "HORUS_SECRETS",
        "HORUS_RESULT",
        "HORUS_RUNNER_NAME",
        "HORUS_RUNNER_EXECUTOR",
        "HORUS_DB_PATH",
        "HORUS_NET",
        "HORUS_SAL",
        "HORUS_HERO_REDIS",
    }
)
#: A configuration file has no reason to be larger.
MAX_FILE_BYTES: Final = 256 * 1024

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_LONG_NUMBER: Final = re.compile(r"[0-9_]{4300}")
_SWITCHES: Final = {"true": True, "1": True, "false": False, "0": False}


class Source(StrEnum):
    """What kind of place a setting was chosen in, from the weakest to the strongest."""

    DEFAULT = "default"
    FILE = "file"
    VARIABLE = "variable"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a setting was chosen."""

    source: Source = Source.DEFAULT
    #: The path of the file, the variable or the option.
    name: str | None = None
    #: Of a file: the line on which it begins.
    line: int | None = None

    def __str__(self) -> str:
        """Name the place as a person finds it."""
        if self.line is not None:
            return f"{self.name} line {self.line}"
        return self.name or self.source.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What one place gives: values by setting, and where each of them stands there."""

    source: Source
    values: Mapping[str, object] = field(default_factory=dict)
    #: The file, if it is one.
    path: Path | None = None
    lines: Mapping[Place, int] = field(default_factory=dict)

    def origin(self, place: Place) -> Origin:
        """Return where the value at a place stands."""
        setting = str(place[0])
        match self.source:
            case Source.FILE:
                return Origin(
                    source=self.source, name=str(self.path), line=self._line(place)
                )
            case Source.VARIABLE:
                return Origin(source=self.source, name=f"{PREFIX}{setting.upper()}")
            case _:
                option = "--" + setting.replace("_", "-")
                return Origin(source=self.source, name=option)

    def _line(self, place: Place) -> int | None:
        """Return the line of a place, or of what holds it."""
        ways = (place[:length] for length in range(len(place), 0, -1))
        return next((self.lines[way] for way in ways if way in self.lines), None)


def find_file(*, env: Mapping[str, str], state_dir: object = None) -> Path | None:
    """Return the configuration file that counts, or None."""
    if chosen := env.get("HORUS_CONFIG"):
        return Path(chosen)
    where = state_dir or env.get(f"{PREFIX}STATE_DIR") or DEFAULT_STATE_DIR
    for folder in (Path(), Path(str(where))):
        path = folder / FILE_NAME
        try:
            # None that can be found is for the state directory's own check to tell.
            path = absolute(path)
            is_file = path.is_file()
        except ValueError:
            continue
        except OSError as error:
            raise ConfigurationError(
                f"cannot look for {path}: {error.strerror}"
            ) from None
        if is_file:
            return path
    return None


def from_environment(env: Mapping[str, str]) -> Given:
    """Return what the variables say.

    Raises:
        ConfigurationError: naming one that is no setting.
    """
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    ours = {key for key in env if key.startswith(PREFIX)} - OTHER_VARIABLES
    for key in sorted(ours - known.keys()):
        hint = nearest(key, [*known, *OTHER_VARIABLES])
        raise ConfigurationError(
            f"the environment variable {key} is no setting{hint}; unset it"
        )
    # An empty variable is how a shell says that there is none.
    values = {known[key]: _value(known[key], env[key]) for key in ours if env[key]}
    return Given(values=values, source=Source.VARIABLE)


def from_file(path: Path) -> Given:
    """Return what a configuration file says.

    Raises:
        ConfigurationError: if it cannot be read, or naming what is no setting.
    """
    text = _read(path)
    try:
        values = tomllib.loads(text)
        lines = lines_of(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {_where(error, text)}") from None
    given = _with_own_executors(
        Given(values=values, source=Source.FILE, path=path, lines=lines)
    )
    for key in given.values:
        if key not in Settings.model_fields:
            hint = nearest(key, Settings.model_fields)
            raise ConfigurationError(
                f"{given.origin((key,))}: {key!r} is no setting{hint}"
            )
    return given


def _with_own_executors(given: Given) -> Given:
    """Return the same with the tables of `[[executors]]` apart from names of others."""
    if isinstance(given.values.get("executors"), dict):
        raise ConfigurationError(
            f"{given.origin(('executors',))}: executors must be tables under"
            " [[executors]], or a list of names"
        )
    match given.values:
        case {"executors": [*some]} if any(isinstance(one, dict) for one in some):
            own = [one for one in some if isinstance(one, dict)]
            names = [one for one in some if not isinstance(one, dict)]
            values = {**given.values, OWN_EXECUTORS: own, "executors": names}
            if not names:
                del values["executors"]
            lines = dict(_lines_apart(some, given.lines))
            return replace(given, values=values, lines=lines)
    return given


def _lines_apart(
    some: Sequence[object], lines: Mapping[Place, int]
) -> Iterator[tuple[Place, int]]:
    """Return where all stands once tables and names are two lists, counted anew."""
    counts: Counter[str] = Counter()
    moved: list[Place] = []
    for one in some:
        setting = OWN_EXECUTORS if isinstance(one, dict) else "executors"
        moved.append((setting, counts[setting]))
        counts[setting] += 1
    for place, line in lines.items():
        match place:
            case ("executors",):
                yield place, line
                yield (OWN_EXECUTORS,), line
            case ("executors", int(index), *rest):
                yield (*moved[index], *rest), line
            case _:
                yield place, line


def from_flags(flags: Mapping[str, object]) -> Given:
    """Return what a command line says: a flag that is None is absent."""
    values = {name: value for name, value in flags.items() if value is not None}
    return Given(values=values, source=Source.FLAG)


def _value(name: str, text: str) -> object:
    """Read what a variable can only say as text; what cannot be read stays text."""
    annotation = Settings.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    kinds |= {inner for kind in kinds for inner in get_args(kind)}
    if bool in kinds:
        return _SWITCHES.get(text.strip().lower(), text)
    if int in kinds and _INTEGER.fullmatch(text.strip()):
        return int(text)
    return text


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(
            f"cannot read the configuration file {path}: {why}"
        ) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        # Some editors begin a file with a mark that nobody sees.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no TOML: it is not UTF-8") from None


def _where(error: Exception, text: str) -> str:
    """Say where a file breaks off, without a word of what stands there."""
    if isinstance(error, tomllib.TOMLDecodeError):
        said, found, place = str(error).rpartition("(at ")
        # As of executors = […] before [[executors]].
        twice = "a name stands there twice, " if said.startswith("Cannot ") else ""
        return f"{twice}at {place.rstrip(')')}" if found else "it breaks off"
    if isinstance(error, RecursionError):
        return "too deep"
    # Python reads no longer one, and does not say where it stands.
    long = _LONG_NUMBER.search(text)
    line = text.count("\n", 0, long.start()) + 1 if long else 1
    return f"a number is too long, at line {line}"
