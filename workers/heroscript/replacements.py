"""What is put in place of names in a text, and of variables in a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from workers.heroscript.names import name_fix

#: Keys that begin with one of these stand in the text as they are.
_LITERAL: Final = ("@", "$", "[", "{")
_VARIABLE: Final = re.compile(r"\{([^{}]{1,200})\}")


def replace_all(text: str, replacements: Mapping[str, str]) -> str:
    """Return the text with each key replaced.

    A key stands there as `@key`, `${key}` or `{key}`; one that begins with `@ $ [ {`
    as it is. What is put in is not looked at again, and of keys that begin alike the
    longest counts.
    """
    forms = {form: value for key, value in replacements.items() for form in _forms(key)}
    if not forms:
        return text
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return pattern.sub(lambda found: forms[found[0]], text)


def fill_in(value: str, variables: Mapping[str, str]) -> str:
    """Return a value with each `{NAME}` replaced whose variable is set."""
    if "{" not in value:
        return value

    def told(found: re.Match[str]) -> str:
        return variables.get(name_fix(found[1]), found[0])

    return _VARIABLE.sub(told, value)


def variables_in(value: str) -> frozenset[str]:
    """Return the names of the variables that may stand in a value."""
    return frozenset(name_fix(name) for name in _VARIABLE.findall(value))


def _forms(key: str) -> Iterator[str]:
    if key.startswith(_LITERAL):
        yield key
    elif key:
        yield from (f"@{key}", f"${{{key}}}", f"{{{key}}}")
