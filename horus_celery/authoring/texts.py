"""Which values a TOML or YAML file holds, and on which line each of them stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from horus_celery.errors import ConfigurationError
from horus_celery.settings.lines import Place, lines_of

#: A workflow of 100,000 steps, written by a program, fits.
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
#: Values of one YAML file; aliases can make a short text stand for any number of them.
MAX_VALUES: Final = 2_000_000
#: How many lists and mappings may stand inside each other.
MAX_DEPTH: Final = 32
_KIND: Final = "tag:yaml.org,2002:"
_INTEGER: Final = f"{_KIND}int"
#: Kinds of which a value can always be made, once its number is decimal; and `<<`.
_PLAIN: Final = frozenset({_INTEGER, f"{_KIND}str", f"{_KIND}null", f"{_KIND}merge"})
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
#: What making a value of another kind ends in: `2020-99-99`, `!!bool nope`.
_UNREADABLE: Final = (ValueError, ArithmeticError, LookupError, AttributeError)
_FORMATS: Final = "the name of a workflow's file ends in .toml, .yaml or .yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a file says."""

    path: Path
    values: object
    lines: Mapping[Place, int] = field(repr=False)

    def where(self, place: Place) -> str:
        """Name a place as a person finds it: the file and the line."""
        ways = (place[:length] for length in range(len(place), 0, -1))
        line = next((self.lines[way] for way in ways if way in self.lines), None)
        return str(self.path) if line is None else f"{self.path} line {line}"


def read_values(
    path: Path, *, max_bytes: int = MAX_FILE_BYTES, max_values: int = MAX_VALUES
) -> Written:
    """Read a file.

    Args:
        path: The file.
        max_bytes: How large it may be.
        max_values: How many values it may stand for, with all its aliases.

    Raises:
        ConfigurationError: if it cannot be read, or is neither TOML nor YAML.
    """
    text = _read(path, max_bytes)
    if path.suffix == ".toml":
        return _toml(path, text)
    if path.suffix in {".yaml", ".yml"}:
        return _yaml(path, text, max_values)
    raise ConfigurationError(f"{path} is of no known format: {_FORMATS}")


def _read(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"cannot read the workflow {path}: {why}") from None
    if len(raw) > max_bytes:
        raise ConfigurationError(f"{path} is larger than {max_bytes} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text") from None


def _toml(path: Path, text: str) -> Written:
    try:
        values = tomllib.loads(text)
        lines = lines_of(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = "too deep" if isinstance(error, RecursionError) else error
        raise ConfigurationError(f"{path} is no TOML: {said}") from None
    return Written(path=path, values=values, lines=lines)


def _yaml(path: Path, text: str, max_values: int) -> Written:
    try:
        # Both of them make plain values and nothing else, whatever tags there are.
        node = yaml.compose(text, yaml.SafeLoader)
        lines = dict(_places(node, max_values)) if node is not None else {}
        values = (
            yaml.constructor.SafeConstructor().construct_document(node)
            if node is not None
            else None
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f" line {mark.line + 1}"
        said = error.problem or error.context
        raise ConfigurationError(f"{path}{line} is no YAML: {said}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = "too deep" if isinstance(error, RecursionError) else "it breaks off"
        raise ConfigurationError(f"{path} is no YAML: {said}") from None
    return Written(path=path, values=values, lines=lines)


def _places(root: yaml.Node, max_values: int) -> Iterator[tuple[Place, int]]:
    """Yield each place with its line, counted from 1.

    Raises:
        yaml.MarkedYAMLError: if a mapping has a key twice, there are too many, a
            number is not decimal, or a value is not of the kind that it claims.
    """
    found: list[tuple[Place, Any]] = [((), root)]
    for place, node in found:  # which grows meanwhile
        if len(found) > max_values or len(place) > MAX_DEPTH:
            raise _problem("it has too many values, or too deep ones", node)
        if isinstance(node, yaml.ScalarNode):
            _require_decimal(node)
            _require_readable(node)
        elif isinstance(node, yaml.SequenceNode):
            for number, one in enumerate(node.value):
                found.append(((*place, number), one))
                yield (*place, number), one.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _problem("a key is no text", key)
                _require_readable(key)
                if key.value in seen:
                    raise _problem(f"the key {key.value!r} stands twice", key)
                seen.add(key.value)
                found.append(((*place, key.value), value))
                yield (*place, key.value), key.start_mark.line + 1


def _require_decimal(node: yaml.ScalarNode) -> None:
    # 010 is 8 to some readers of YAML and 10 to others, and 1:30 is 90 or a text.
    if node.tag == _INTEGER and not _DECIMAL.fullmatch(node.value):
        raise _problem(
            f"the number {node.value!r} is not decimal: write it so, or in quotes if it"
            " is text",
            node,
        )


def _require_readable(node: yaml.ScalarNode) -> None:
    if node.tag in _PLAIN:
        return
    try:
        yaml.constructor.SafeConstructor().construct_object(node)
    except _UNREADABLE:
        kind = node.tag.rpartition(":")[2]
        raise _problem(
            f"the value {node.value!r} cannot be a {kind}: mend it, or write it in"
            " quotes if it is text",
            node,
        ) from None


def _problem(said: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)
