"""SAL's functions that work on text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Final, Self

from workers.heroscript import names
from workers.sal.files import read_text, write_text
from workers.sal.kinds import Word
from workers.sal.session import SalError, Session
from workers.sal.table import SalObject, make_module

_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
#: A group of a pattern, as replacements name it: `$1`, `$name`, `${name}`, `$$`.
_GROUP: Final = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
#: Templates whose values are escaped, as Tera does it.
_ESCAPED: Final = ("html", "htm", "xml")


def dedent(here: Session, text: str) -> str:
    """Take away the indentation that all lines have in common."""
    return textwrap.dedent(text)


def prefix(here: Session, text: str, before: str) -> str:
    """Put something before every line that is not blank."""
    return textwrap.indent(text, before)


def name_fix(here: Session, text: str) -> str:
    """Turn a text into a name: `Hello World.MD` becomes `hello_world.md`."""
    return names.name_fix(text)


def path_fix(here: Session, text: str) -> str:
    """Turn the last part of a path into a name, and leave the rest as it is."""
    folder, slash, name = text.rpartition("/")
    return folder + slash + names.name_fix(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What is replaced by what."""

    pattern: str | None = None
    replacement: str | None = None
    is_regex: bool = False
    ignores_case: bool = False

    def compiled(self) -> re.Pattern[str]:
        if not self.pattern or self.replacement is None:
            raise SalError("each replacement needs .pattern(…) and .replacement(…)")
        source = self.pattern if self.is_regex else re.escape(self.pattern)
        try:
            return re.compile(source, re.IGNORECASE if self.ignores_case else 0)
        except (re.error, RecursionError, OverflowError) as error:
            raise SalError(f"the pattern cannot be read: {error}") from None

    def replacement_for(self, found: re.Match[str]) -> str:
        text = self.replacement or ""
        if not self.is_regex:
            return text
        return _GROUP.sub(lambda group: _group_of(found, group), text)


class TextReplacerBuilder(SalObject):
    """Says what is to be replaced; all but `build` return it."""

    def __init__(self) -> None:
        self._rules = [_Rule()]

    def pattern(self, text: str) -> Self:
        """Say what is looked for."""
        return self._last(changed(self._rules[-1], pattern=text))

    def replacement(self, text: str) -> Self:
        """Say what stands there instead; of a regular expression `$1` is a group."""
        return self._last(changed(self._rules[-1], replacement=text))

    def regex(self, on: bool) -> Self:  # noqa: FBT001 - as SAL has it
        """Read the pattern as a regular expression of Python, or as it stands."""
        return self._last(changed(self._rules[-1], is_regex=on))

    def case_insensitive(self, on: bool) -> Self:  # noqa: FBT001 - as SAL has it
        """Let capital and small letters be the same, or not."""
        return self._last(changed(self._rules[-1], ignores_case=on))

    def and_(self) -> Self:
        """Begin a further replacement, which is made in what the last one left."""
        self._rules.append(_Rule())
        return self

    def build(self) -> TextReplacer:
        """Return what makes the replacements."""
        return TextReplacer([(rule.compiled(), rule) for rule in self._rules])

    def _last(self, rule: _Rule) -> Self:
        self._rules[-1] = rule
        return self

    methods = (pattern, replacement, regex, case_insensitive, and_, build)


class TextReplacer(SalObject):
    """Makes replacements, one after the other."""

    def __init__(self, rules: list[tuple[re.Pattern[str], _Rule]]) -> None:
        self._rules = rules

    def replace(self, text: str) -> str:
        """Return the text with the replacements made."""
        for pattern, rule in self._rules:
            text = pattern.sub(rule.replacement_for, text)
        return text

    def replace_file(self, path: Path) -> str:
        """Return the text of a file with the replacements made."""
        return self.replace(read_text(path))

    def replace_file_in_place(self, path: Path) -> None:
        """Make the replacements in a file."""
        write_text(path, self.replace_file(path))

    def replace_file_to(self, source: Path, destination: Path) -> None:
        """Write the text of a file, with the replacements made, to another one."""
        write_text(destination, self.replace_file(source))

    methods = (replace, replace_file, replace_file_in_place, replace_file_to)


class TemplateBuilder(SalObject):
    """A template and the values for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, object] = {}

    def add_var(self, name: Word, value: object) -> Self:
        """Give a variable its value: text, number, bool, array or map. Returns it."""
        if not _VARIABLE.fullmatch(name):
            raise SalError(f"{name!r} is no name of a variable")
        self._values[name] = _plain(value)
        return self

    def add_vars(self, values: dict[str, object]) -> Self:
        """Give several variables their values. Returns it."""
        for name, value in values.items():
            self.add_var(name, value)
        return self

    def render(self) -> str:
        """Return the text; a variable without a value is an error."""
        import jinja2
        from jinja2.sandbox import SandboxedEnvironment

        environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(self._path.parent),
            undefined=jinja2.StrictUndefined,
            autoescape=jinja2.select_autoescape(_ESCAPED),
            keep_trailing_newline=True,
        )
        try:
            return environment.get_template(self._path.name).render(self._values)
        except jinja2.TemplateSyntaxError as error:
            raise SalError(
                f"{error.name}, line {error.lineno}: {error.message}"
            ) from None
        except jinja2.TemplateNotFound as error:
            raise SalError(f"there is no template {error.name}") from None
        except (jinja2.TemplateError, *_TEMPLATE_FAILURES) as error:
            raise SalError(f"{self._path}: {error}") from None

    def render_to_file(self, path: Path) -> None:
        """Write the text to a file."""
        write_text(path, self.render())

    methods = (add_var, add_vars, render, render_to_file)


def text_replacer_new(here: Session) -> TextReplacerBuilder:
    """Return a builder of replacements."""
    return TextReplacerBuilder()


def text_replacer_builder(here: Session) -> TextReplacerBuilder:
    """Return a builder of replacements, as `text_replacer_new` does."""
    return TextReplacerBuilder()


def template_builder_open(here: Session, path: Path) -> TemplateBuilder:
    """Return a builder for the template in a file."""
    if not path.is_file():
        raise SalError(f"there is no file {path}")
    return TemplateBuilder(path.absolute())


#: What goes wrong inside of a template, whose expressions are its author's.
_TEMPLATE_FAILURES: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError),
    *(ValueError, RuntimeError),
)
#: Levels of arrays and maps inside each other that a template is given.
_DEEPEST: Final = 64


def _plain(value: object, depth: int = 0) -> object:
    """Let only data pass: a template could call what an object has."""
    if depth > _DEEPEST:
        raise SalError(f"values inside each other are over {_DEEPEST} levels deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SalError(f"a template takes no {type(value).__name__}")


def _group_of(found: re.Match[str], group: re.Match[str]) -> str:
    """Return what a `$…` stands for: nothing if there is no such group."""
    name = group[1] or group[2]
    if name is None:
        return "$"
    with suppress(IndexError):
        return found[int(name) if name.isdecimal() else name] or ""
    return ""


MODULE: Final = make_module(
    "text",
    """Text, replacements in it, and templates.

    SAL's templates are Tera's, Horus's are Jinja's: variables, conditions, loops and
    most filters are written alike. They reach no file outside of their directory.
    """,
    *(dedent, prefix, name_fix, path_fix),
    *(text_replacer_new, text_replacer_builder, template_builder_open),
    objects=(TextReplacerBuilder, TextReplacer, TemplateBuilder),
)
