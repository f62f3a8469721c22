"""What the lines of one action give it: parameters, arguments, and comments on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from workers.heroscript.errors import ParseError
from workers.heroscript.names import SPACES, lower
from workers.heroscript.parameters import Argument, Parameter, Parameters

#: A key or an argument; two slashes begin a comment.
WORD: Final = re.compile(r"(?:[A-Za-z0-9_,.]|/(?!/))+")
#: A whole parameter with a value of one word, as most are.
_PLAIN: Final = re.compile(r"([A-Za-z0-9_]+): *([A-Za-z0-9_.@-]+)(?: +(?![ ,])|$)")
_BARE_END: Final = re.compile(r"[ ,]")
_SPACE: Final = re.compile(r" *")
_OPENS_BLOCK: Final = re.compile(r"([A-Za-z0-9_,./]+) *: *('|''')")
_CLOSES_BLOCK: Final = frozenset({"'", "'''"})
_MARKUP_OPENS: Final = "<!--"
_MARKUP_CLOSES: Final = "-->"
#: What may stand in place of a line break, in any value.
_BREAKS: Final = ("<<BR>>", "<BR>")


def normal(value: str) -> str:
    r"""Return a value as it is meant: `\'` is a quote, `<BR>` a line break."""
    if "\\" in value:
        value = value.replace("\\'", "'")
    if "<" in value:
        for written in _BREAKS:
            value = value.replace(written, "\n")
    return value.strip(SPACES)


@dataclass(slots=True)
class _Begun:
    """A parameter or an argument as far as it was read."""

    word: str
    line: int
    column: int
    comments: list[str]
    #: Whether it has no value at all.
    is_argument: bool
    #: The items of its value, as far as they were read.
    items: list[str] = field(default_factory=list)
    #: Whether another item has to follow.
    is_item_wanted: bool = False
    #: Of an item whose quote is not closed yet, what stands in each line.
    quoted: list[str] | None = None
    #: Of a value of several lines, those.
    block: list[str] | None = None

    def close_quote(self) -> None:
        self.items.append(" ".join(self.quoted or ()))
        self.quoted = None


class GivenReader:
    """Reads the lines of one action, which come one after the other."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._named: dict[str, Parameter] = {}
        self._arguments: dict[str, Argument] = {}
        #: Comments on lines of their own, which wait for what follows.
        self._waiting: list[str] = []
        self._markup: list[str] | None = None
        self._open: _Begun | None = None
        #: What began first in the line that is read.
        self._first: _Begun | None = None
        self._begun: list[_Begun] = []
        #: The line that is read, each `"` of which is a `'`.
        self._text = ""
        self._number = line

    @property
    def is_in_block(self) -> bool:
        """Whether the next line belongs to a value of several lines."""
        return self._open is not None and self._open.block is not None

    def feed(self, number: int, line: str, start: int) -> None:
        """Read a line that is not blank, from `start` on.

        Raises:
            ParseError: if it says nothing.
        """
        self._number = number
        if self._open is not None and self._open.block is not None:
            self._continue_block(self._open, self._open.block, line)
            return
        stripped = line[start:].strip(SPACES)
        if self._markup is not None:
            self._read_markup(self._markup, stripped)
        elif stripped.startswith(_MARKUP_OPENS) and not self._is_quoted():
            self._read_markup([], stripped.removeprefix(_MARKUP_OPENS))
        elif stripped.startswith("//") and not self._is_quoted():
            self._waiting.append(stripped.lstrip("/").strip(SPACES))
        else:
            self._text = line.rstrip(SPACES).replace('"', "'")
            self._read_line(start)

    def close(self, *, dropped: str | None = None, is_end: bool = True) -> Parameters:
        """Return what was read, but for the parameter of one key.

        Args:
            dropped: That key.
            is_end: Whether the text ends here, where the last quote may be missing.

        Raises:
            ParseError: if the last value is not complete.
        """
        if self._markup is not None:
            raise ParseError("a comment `<!--` is not closed by `-->`", self._number)
        if self._open is not None:
            self._close_last(self._open, is_end=is_end)
        for one in self._begun:
            self._keep(one)
        if dropped is not None:
            self._named.pop(dropped, None)
        return Parameters(
            named=tuple(self._named.values()),
            arguments=tuple(self._arguments.values()),
            line=self._line,
        )

    # --- lines -----------------------------------------------------------------

    def _is_quoted(self) -> bool:
        return self._open is not None and self._open.quoted is not None

    def _read_markup(self, lines: list[str], stripped: str) -> None:
        lines.append(stripped.removesuffix(_MARKUP_CLOSES).strip(SPACES))
        is_over = stripped.endswith(_MARKUP_CLOSES)
        if is_over:
            self._waiting.append("\n".join(lines).strip(SPACES))
        self._markup = None if is_over else lines

    def _continue_block(self, begun: _Begun, block: list[str], line: str) -> None:
        if line.strip(SPACES).replace('"', "'") not in _CLOSES_BLOCK:
            block.append(line)
            return
        begun.items = [_dedented(block)]
        begun.block = None
        self._open = None

    def _read_line(self, start: int) -> None:
        text = self._text
        slashes = text.rfind("//", start)
        has_comment = slashes >= 0 and "'" not in text[slashes:]
        end = slashes if has_comment else len(text)
        self._first = self._open
        if self._open is not None or not self._begin_block(start, end):
            end = self._read_words(start, end)
        if has_comment and end == slashes:
            self._comment_on_line(text[slashes + 2 :].strip(SPACES))

    def _comment_on_line(self, comment: str) -> None:
        if self._first is not None:
            self._first.comments.append(comment)

    def _begin_block(self, start: int, end: int) -> bool:
        found = _OPENS_BLOCK.fullmatch(self._text[start:end].strip(SPACES))
        if found is None:
            return False
        begun = self._begin(found[1], start)
        begun.block = []
        self._open = begun
        return True

    def _read_words(self, start: int, end: int) -> int:
        """Read a line's words; return where what is no comment ends."""
        text = self._text
        place = start
        if self._open is not None:
            if not self._open.items and self._open.quoted is None:
                raise self._no_value(self._open)
            place, end = self._continue_value(self._open, start, end)
        while (place := _skip(text, place, end)) < end:
            if plain := _PLAIN.match(text, place, end):
                self._begin(plain[1], place).items.append(plain[2])
                place = plain.end()
                continue
            found = WORD.match(text, place, end)
            if found is None:
                if text.startswith("//", place):
                    self._comment_within(text[place + 2 :])
                    return len(text)
                raise self._illegal(place)
            after = found.end()
            if after < end and text[after] == ":":
                begun = self._begin(found[0], place)
                place, end = self._read_value(begun, after + 1, end)
            elif after == end or text[after] == " " or text.startswith("//", after):
                self._begin(found[0], place, is_argument=True)
                place = after
            else:
                raise self._illegal(after)
        return end

    def _comment_within(self, tail: str) -> None:
        if "'" not in tail:
            self._comment_on_line(tail.strip(SPACES))

    def _begin(self, word: str, place: int, *, is_argument: bool = False) -> _Begun:
        begun = _Begun(
            word=word,
            line=self._number,
            column=place + 1,
            comments=self._waiting,
            is_argument=is_argument,
        )
        self._waiting = []
        self._first = self._first or begun
        self._begun.append(begun)
        return begun

    # --- values ----------------------------------------------------------------

    def _continue_value(self, begun: _Begun, place: int, end: int) -> tuple[int, int]:
        self._open = None
        if begun.quoted is None:
            return self._read_value(begun, place, end)
        place = _skip(self._text, place, end)
        closing = _closing(self._text, place)
        if closing < 0:
            return self._leave_quote_open(begun, place)
        begun.quoted.append(self._text[place:closing])
        begun.close_quote()
        after = self._after_item(begun, closing + 1, end, is_quoted=True)
        if after < end and self._text[after] == ",":
            return self._read_value(begun, after + 1, end)
        return after, end

    def _read_value(self, begun: _Begun, place: int, end: int) -> tuple[int, int]:
        """Read the items of a value; return where it ends, and where the words do."""
        text = self._text
        while True:
            start = place
            place = _skip(text, place, end)
            begun.is_item_wanted = place == end
            if place == end:
                self._open = begun
                return place, end
            is_quoted = text[place] == "'"
            if is_quoted:
                closing = _closing(text, place + 1)
                if closing < 0:
                    if place + 1 == len(text):
                        raise self._not_alone(begun)
                    return self._leave_quote_open(begun, place + 1)
                begun.items.append(text[place + 1 : closing])
                place = closing + 1
            else:
                if begun.items and (place > start or begun.line != self._number):
                    self._require_item(place, end)
                after = _bare_end(text, place, end)
                begun.items.append(text[place:after])
                place = after
            place = self._after_item(begun, place, end, is_quoted=is_quoted)
            if place == end or text[place] != ",":
                return place, end
            place += 1

    def _after_item(
        self, begun: _Begun, place: int, end: int, *, is_quoted: bool
    ) -> int:
        """Return where something follows an item."""
        after = _skip(self._text, place, end)
        is_apart = after > place or after == end or self._text[after] == ","
        if is_quoted and not is_apart and not self._text.startswith("//", after):
            said = (
                f"the value of {begun.word} goes on behind its closing quote: put a"
                " space there, or write a quote inside of it as \\'"
            )
            raise ParseError(said, self._number, after + 1)
        return after

    def _leave_quote_open(self, begun: _Begun, place: int) -> tuple[int, int]:
        if begun.quoted is None:
            begun.quoted = []
        begun.quoted.append(self._text[place:])
        self._open = begun
        # Slashes inside of quotes begin no comment.
        return len(self._text), len(self._text)

    def _close_last(self, begun: _Begun, *, is_end: bool) -> None:
        """Judge the value that the last line left open."""
        if begun.block is not None:
            said = (
                f"the value of {begun.word} is not closed: its lines, and the one that"
                " holds only a quote, are indented by two spaces or more"
            )
            raise ParseError(said, begun.line, begun.column)
        if begun.quoted is not None and (len(begun.quoted) > 1 or not is_end):
            said = f"the quote in the value of {begun.word} is not closed"
            raise ParseError(said, begun.line, begun.column)
        if begun.is_item_wanted and begun.items:
            said = f"the list of {begun.word} ends with a comma: take that away"
            raise ParseError(said, begun.line, begun.column)
        if begun.quoted is not None:
            begun.close_quote()

    def _require_item(self, place: int, end: int) -> None:
        """Refuse what may be the next parameter, or an item with a colon."""
        found = WORD.match(self._text, place, end)
        if found is not None and self._text[found.end() : found.end() + 1] == ":":
            said = (
                f"{found[0]}: stands behind a comma, so it may be an item of the list"
                " or the next parameter: quote it, or take the comma away"
            )
            raise ParseError(said, self._number, place + 1)

    # --- the end of each -------------------------------------------------------

    def _keep(self, begun: _Begun) -> None:
        comments = begun.comments
        comment = "\n".join(comments).strip(SPACES) if comments else ""
        if begun.is_argument:
            word = begun.word
            if lower(word) not in self._arguments and word not in self._arguments:
                self._arguments[word] = Argument(
                    word=word, comment=comment, line=begun.line
                )
        elif begun.items:
            key = lower(begun.word)
            # The last of equal keys wins, and stands where it was written.
            self._named.pop(key, None)
            self._named[key] = Parameter(
                key=key,
                value=_joined(begun.items),
                comment=comment,
                line=begun.line,
            )

    # --- what is said of a wrong one -------------------------------------------

    def _illegal(self, place: int) -> ParseError:
        letter = self._text[place]
        said = (
            f"{letter!r} stands where a key or an argument is expected, which are of"
            " A-Z a-z 0-9 _ , . / only"
        )
        return ParseError(said, self._number, place + 1)

    def _no_value(self, begun: _Begun) -> ParseError:
        said = f"{begun.word} has no value: write {begun.word}:'' for an empty one"
        return ParseError(said, begun.line, begun.column)

    def _not_alone(self, begun: _Begun) -> ParseError:
        said = (
            f"a value of several lines begins on a line that holds only {begun.word}:'"
        )
        return ParseError(said, self._number, begun.column)


def _skip(text: str, place: int, end: int) -> int:
    found = _SPACE.match(text, place, end)
    return place if found is None else found.end()


def _bare_end(text: str, place: int, end: int) -> int:
    found = _BARE_END.search(text, place, end)
    return end if found is None else found.start()


def _closing(text: str, place: int) -> int:
    """Return where the quote closes that is open there; below 0 if it does not."""
    found = text.find("'", place)
    while found > place and text[found - 1] == "\\":
        found = text.find("'", found + 1)
    return found


def _joined(items: list[str]) -> str:
    if len(items) == 1:
        return normal(items[0])
    return normal(",".join(f'"{item}"' if " " in item else item for item in items))


def _dedented(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines), default=0)
    return "\n".join(line[margin:] for line in lines).replace("'", '"')
