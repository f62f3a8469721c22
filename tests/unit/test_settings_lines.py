"""The line of each value in a TOML text: of every value, and where it stands."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.settings.lines import lines_of

SCALARS = st.sampled_from(
    [
        *("1", "-0.5e3", "true", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00"),
        *('"a # b"', '"a \\" ] } b"', "'c:\\'", '""', "''", "'[x]'", '"a = 1"'),
        *('"""\n[a]\nb = 1 "" \\""""', '"""a"""""', "'''\n'a' # '''", "''''a'''"),
        *('"""\\\n   a\\\\"""', '""""""', "''''''"),
    ]
)
GAPS = st.sampled_from(["", " ", "\n", " # , ] } \n", "\n\n\t"])
BLANKS = st.sampled_from(["", " ", "\t "])


@st.composite
def lists(draw, values):
    items = draw(st.lists(values, max_size=3))
    texts = [f"{draw(GAPS)}{item}{draw(GAPS)}" for item in items]
    last = "," + draw(GAPS) if items and draw(st.booleans()) else ""
    return f"[{','.join(texts)}{last}]" if items else f"[{draw(GAPS)}]"


@st.composite
def inline_tables(draw, values):
    items = draw(st.lists(values, max_size=3))
    pairs = [
        f"{draw(BLANKS)}{key}{draw(BLANKS)}={draw(BLANKS)}{item}{draw(BLANKS)}"
        for key, item in zip(("a.b", '"c d"', "'.'"), items, strict=False)
    ]
    return "{" + ",".join(pairs) + "}"


VALUES = st.recursive(
    SCALARS, lambda inner: lists(inner) | inline_tables(inner), max_leaves=6
)
HEADERS = [
    "",
    "[t]",
    "[t.u]",
    "[[l]]",
    "[l.s]",
    "[[l]]",
    "[[l.m]]",
    "[[ l . m ]]",
    '["x.y"]',
]


@st.composite
def texts(draw):
    """A document whose keys are on lines of their own."""
    lines = []
    for header in HEADERS:
        lines += [header, *["# comment = [ "] * draw(st.integers(0, 1))]
        for index in range(draw(st.integers(0, 2))):
            key = draw(st.sampled_from([f"k{index}", f'"q#{index}"', f"d.e{index}"]))
            lines.append(f"{key}{draw(BLANKS)}= {draw(VALUES)} # ]")
    return "\n".join(lines)


def places(value, place=()):
    """Return the way to every value, and to what holds it."""
    if place:
        yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*place, index))


@given(texts())
def test_every_value_has_a_line_and_nothing_else_has(text):
    assert lines_of(text).keys() == set(places(tomllib.loads(text)))


@given(texts())
def test_the_line_of_a_value_is_where_its_key_or_header_stands(text):
    lines = text.split("\n")
    for place, line in lines_of(text).items():
        *_, last = place
        if isinstance(last, str) and last.startswith(("k", "q#", "e")):
            assert last in lines[line - 1]
        if len(place) <= 2 and place[0] == "l" and isinstance(last, int):
            assert lines[line - 1] == "[[l]]"


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("a = 1\n\nb = 2", ("b",), 3),
        ("a = [\n 1,\n\n 2,\n]", ("a", 1), 4),
        (
            "a = [ {x = 1},\n {x = 2,\n  y = 3} ]".replace("\n  y", " y"),
            ("a", 1, "y"),
            2,
        ),
        ("[[a]]\nx = 1\n[[a]]\n\nx = 2", ("a", 1, "x"), 5),
        ("[[a]]\nx = 1\n[[a]]\n\nx = 2", ("a", 1), 3),
        ("[[a]]\n[a.b]\nx = 1", ("a", 0, "b", "x"), 3),
        ('s = """\n\n"""\nb = 1', ("b",), 4),
        ("a.b.c = 1", ("a", "b"), 1),
        ("", ("a",), None),
    ],
)
def test_the_line_is_the_one_that_a_person_sees(text, place, line):
    assert lines_of(text).get(place) == line
