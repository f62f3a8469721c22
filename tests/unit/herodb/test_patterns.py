"""A pattern fits a name as Redis has it, and to find that out never takes long."""

from __future__ import annotations

import fnmatch
import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as some

from horus_celery.herodb.commands import BadRequest, escaped
from horus_celery.herodb.patterns import MOST_NAME, MOST_PATTERN, matcher


@pytest.mark.parametrize(
    ("pattern", "fit", "others"),
    [
        (b"*", [b"", b"a", b"\n\xff"], []),
        (b"", [b""], [b"a"]),
        (b"a*c", [b"ac", b"abc", b"ac\nc"], [b"a", b"c", b"acb"]),
        (b"a?c", [b"abc", b"a\nc"], [b"ac", b"abbc"]),
        (b"**a**", [b"a", b"bab"], [b"", b"b"]),
        (b"*a*b*", [b"ab", b"xaxbx"], [b"ba"]),
        (b"[abc]", [b"a", b"c"], [b"d", b"", b"ab"]),
        (b"[^a-c]", [b"d", b"-"], [b"b", b""]),
        (b"[c-a]", [b"b"], [b"d"]),
        (b"[a\\]]x", [b"]x", b"ax"], [b"\\x"]),
        (b"[]", [], [b"", b"]", b"[]"]),
        (b"[ab", [b"a"], [b"[ab"]),
        (b"\\*", [b"*"], [b"a", b"\\*"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"a.b", [b"a.b"], [b"axb"]),
    ],
)
def test_a_pattern_fits_what_it_says(pattern, fit, others):
    is_fit = matcher(pattern)
    assert [name for name in [*fit, *others] if is_fit(name)] == fit


@given(some.text("ab*?", max_size=8), some.text("ab", max_size=10))
def test_stars_and_question_marks_are_those_of_shells(pattern, name):
    expected = fnmatch.fnmatchcase(name, pattern)
    assert matcher(pattern.encode())(name.encode()) is expected


@given(some.binary(max_size=60))
def test_whatever_a_pattern_is_it_fits_or_does_not(pattern):
    assert matcher(pattern)(b"name") in {True, False}


@given(some.binary(max_size=60))
def test_an_escaped_text_fits_itself(text):
    assert matcher(escaped(text))(text)


def test_what_is_too_long_is_not_compared():
    assert not matcher(b"*" + b"a" * (MOST_PATTERN - 2) + b"b")(b"a" * MOST_NAME)
    with pytest.raises(BadRequest, match="at most 256 bytes"):
        matcher(b"a" * (MOST_PATTERN + 1))
    with pytest.raises(BadRequest, match="ask without a pattern"):
        matcher(b"a*")(b"a" * (MOST_NAME + 1))
    assert matcher(b"*")(b"a" * (MOST_NAME + 1))


def test_many_stars_are_tried_once():
    pairs = itertools.cycle(string.ascii_lowercase)
    stars = b"".join(b"*%b" % next(pairs).encode() for _ in range(MOST_PATTERN // 2))
    assert not matcher(stars)(string.ascii_lowercase.encode() * 2000 + b"!")
