"""A script is read as its actions, by the vectors of the format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.heroscript.errors import HeroScriptError, ParseError
from workers.heroscript.model import ActionType
from workers.heroscript.reading import parse, parse_parameters


def told(params):
    """Return keys and values, arguments, and comments by what they are about."""
    named = {one.key: one.value for one in params}
    words = [one.word for one in params.arguments]
    comments = {one.key: one.comment for one in params if one.comment}
    comments |= {one.word: one.comment for one in params.arguments if one.comment}
    return named, words, comments


def said(text):
    """Return each action as its name, keys and values, arguments, and comments."""
    return [
        (action.full_name, *told(action.params)[:2], action.comments)
        for action in parse(text)
    ]


# --- actions -----------------------------------------------------------------------

ACTIONS = [
    ("!!web.start port:80", [("web.start", {"port": "80"}, [], "")]),
    ("!!start", [("core.start", {}, [], "")]),
    (
        "!x.y a:1\n!!!m.n\n!!!!w.z",
        [("x.y", {"a": "1"}, [], ""), ("m.n", {}, [], ""), ("w.z", {}, [], "")],
    ),
    ("![img](a.png)", []),
    (
        "intro\n!!web.start\n  port:80\n\n  host:'h'\nloose\n!!web.stop",
        [
            ("web.start", {"port": "80", "host": "h"}, [], ""),
            ("web.stop", {}, [], ""),
        ],
    ),
    ("// c1\n// c2\n!!web.start", [("web.start", {}, [], "c1\nc2")]),
    ("// c1\ntext\n!!web.start", [("web.start", {}, [], "")]),
    ("!!web.start\n port:80", [("web.start", {}, [], "")]),
    ("!!web.start\n// note\n  port:80", [("web.start", {}, [], "")]),
    ("!!web.start\n  // note\n  port:80", [("web.start", {"port": "80"}, [], "")]),
    (
        "!!web.start x:1\n  !!web.stop",
        [("web.start", {"x": "1"}, [], ""), ("web.stop", {}, [], "")],
    ),
    ("!!Web-App.Start-Now x:1", [("web_app.start_now", {"x": "1"}, [], "")]),
    ("!!web.start id:9 x:1", [("web.start", {"x": "1"}, [], "")]),
    ("!! web.start", [("core.", {}, ["web.start"], "")]),
    ("  // c\n  !!a.b\n    x:1\n  y", [("a.b", {"x": "1"}, [], "c")]),
    ("!!a.b\n\tx:1\r\n\ty:2\r!!c.d", [("a.b", {"x": "1", "y": "2"}, [], ""),
                                     ("c.d", {}, [], "")]),
    ("", []),
    (" \n\t\n", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACTIONS)
def test_a_text_says_these_actions(text, expected):
    assert said(text) == expected


def test_the_marks_say_what_kind_of_action_it_is():
    kinds = [action.actiontype for action in parse("!a.b\n!!a.b\n!!!a.b\n!!!!a.b")]
    assert kinds == [
        ActionType.DAL,
        ActionType.SAL,
        ActionType.MACRO,
        ActionType.WAL,
    ]


def test_actions_are_numbered_and_know_their_lines():
    actions = parse("intro\n!!a.b id:7\n  x:1\n\n  y:2\n!!c.d\n")
    assert [(one.id, one.line) for one in actions] == [(1, 2), (2, 6)]
    assert [one.line for one in actions[0].params] == [3, 5]
    assert all(one.priority == 10 and not one.done for one in actions)


def test_a_comment_within_an_action_is_about_the_next_parameter():
    (action,) = parse("!!web.start\n  // note\n  port:80")
    assert told(action.params)[2] == {"port": "note"}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("!!a.b.c x:1", 1, 1),
        ("!!x.y\n  !!!!!x.y", 2, 3),
        ("!!x.y\n  my-key:1", 2, 5),
        ("!!x.y my-key:1", 1, 9),
        ("!!x.y\n  a:1\n  body:'\n  open\n!!x.z", 3, 3),
        ("!!x.y\n  a:'1\n  b:2\n!!x.z", 2, 3),
        ("!!x.y a:'1\nb'", 1, 7),
        ("!!x.y\n  <!-- open\n  b:2", 3, None),
    ],
)
def test_what_is_no_action_is_refused_where_it_stands(text, line, column):
    with pytest.raises(ParseError) as refused:
        parse(text)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert f"line {line}" in str(refused.value)


def test_an_exclamation_mark_within_a_value_of_several_lines_stays_there():
    text = "!!a.b\n  body:'\n    first\n    !!c.d\n    '\n  x:1\n"
    assert said(text) == [("a.b", {"body": "first\n!!c.d", "x": "1"}, [], "")]


def test_blank_lines_within_a_value_are_lost():
    assert said("!!a.b\n  t:'\n    1\n\n    2\n    '") == [
        ("a.b", {"t": "1\n2"}, [], "")
    ]


# --- parameters --------------------------------------------------------------------

PARAMETERS = [
    (
        "fast size:10 title:'two words' dry",
        ({"size": "10", "title": "two words"}, ["fast", "dry"], {}),
    ),
    ("a:1 a:2 A:3", ({"a": "3"}, [], {})),
    (r"k:'it\'s'", ({"k": "it's"}, [], {})),
    ("k:    v next:1", ({"k": "v", "next": "1"}, [], {})),
    ("k: other:1", ({"k": "other:1"}, [], {})),
    ("k:''", ({"k": ""}, [], {})),
    ("x:1 y:", ({"x": "1"}, [], {})),
    ("k: a , b", ({"k": "a,b"}, [], {})),
    ("k: a, 'b c'", ({"k": 'a,"b c"'}, [], {})),
    ("k: a, b c", ({"k": "a,b"}, ["c"], {})),
    ("k: 'a, b'", ({"k": "a, b"}, [], {})),
    ("k:a:b", ({"k": "a:b"}, [], {})),
    ("k:[1,2,3]", ({"k": "[1,2,3]"}, [], {})),
    (
        "u:'https://h.example/p' // why",
        ({"u": "https://h.example/p"}, [], {"u": "why"}),
    ),
    ("u:https://h.example/p", ({"u": "https:"}, [], {"u": "h.example/p"})),
    ("n:1 // don't", ({"n": "1"}, [], {})),
    ("// one\n// two\nn:1", ({"n": "1"}, [], {"n": "one\ntwo"})),
    ("v //c\nj:2", ({"j": "2"}, ["v"], {"v": "c"})),
    (
        "body:'\n  one\n    'two' \"x\"\n'\nn:1",
        ({"body": 'one\n  "two" "x"', "n": "1"}, [], {}),
    ),
    ("k:a<BR>b", ({"k": "a\nb"}, [], {})),
    ("k:a<<BR>>b", ({"k": "a\nb"}, [], {})),
    ("k:'a\nb'", ({"k": "a b"}, [], {})),
    ("k:'open", ({"k": "open"}, [], {})),
    ("a b a", ({}, ["a", "b"], {})),
    ("a A", ({}, ["a"], {})),
    ("A a", ({}, ["A", "a"], {})),
    # What the code that the vectors are of does otherwise.
    ("k: a, 'b c' z:'p q'", ({"k": 'a,"b c"', "z": "p q"}, [], {})),
    ("k: 'a b', c", ({"k": '"a b",c'}, [], {})),
    ("<!-- one\n  two -->\nn:1", ({"n": "1"}, [], {"n": "one\ntwo"})),
    ("n:1 // a // b", ({"n": "1"}, [], {"n": "a // b"})),
    ("k:'a\nb', c", ({"k": '"a b",c'}, [], {})),
    ("w//c", ({}, ["w"], {"w": "c"})),
    ("// it's kept\nn:1", ({"n": "1"}, [], {"n": "it's kept"})),
    # What follows from the rules.
    ('k:"two words"', ({"k": "two words"}, [], {})),
    ("<!-- note -->\nn:1 m:2", ({"n": "1", "m": "2"}, [], {"n": "note"})),
    ("n:1 m:2 // note", ({"n": "1", "m": "2"}, [], {"n": "note"})),
    ("k: a, // first\n  'b c'\nn:1", ({"k": 'a,"b c"', "n": "1"}, [], {"k": "first"})),
    ("k:'a // b\n<!-- c -->'", ({"k": "a // b <!-- c -->"}, [], {})),
    ("k:'''\n'\nn:1", ({"k": "", "n": "1"}, [], {})),
    ('k: """ // note\n  it\'s\n"""', ({"k": 'it"s'}, [], {"k": "note"})),
    ("k: ' a '", ({"k": "a"}, [], {})),
    ("/etc/a,b x/y:1", ({"x/y": "1"}, ["/etc/a,b"], {})),
    ("ports:80:80,443:443", ({"ports": "80:80,443:443"}, [], {})),
    ("", ({}, [], {})),
    ("// nothing else", ({}, [], {})),
]


@pytest.mark.parametrize(("text", "expected"), PARAMETERS)
def test_a_text_gives_these_parameters(text, expected):
    assert told(parse_parameters(text)) == expected


def test_the_last_of_equal_keys_stands_where_it_was_written():
    keys = [one.key for one in parse_parameters("a:1 b:2 a:3")]
    assert keys == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("k:['a','b']", (1, 11), "closing quote"),
        ("my-key:1", (1, 3), "A-Z a-z 0-9"),
        ("hello-world", (1, 6), "A-Z a-z 0-9"),
        ("'quoted'", (1, 1), "A-Z a-z 0-9"),
        ("é:1", (1, 1), "A-Z a-z 0-9"),
        (":1", (1, 1), "A-Z a-z 0-9"),
        ("n:1 body:'\n  text\n'", (1, 5), "a line that holds only body:'"),
        ("k:1,", (1, 1), "take that away"),
        ("n:1\nk: a, 'b' ,", (2, 1), "take that away"),
        ("k:1, j:2", (1, 6), "quote it, or take the comma away"),
        ("k:1,\n j:2", (2, 2), "quote it, or take the comma away"),
        ("t:'don't stop'", (1, 8), r"write a quote inside of it as \'"),
        ("name:\nport:80", (1, 1), "write name:''"),
        ("k:'a\nb:1\nc:2", (1, 1), "not closed"),
        ("k:'\n  a\n", (1, 1), "two spaces"),
    ],
)
def test_what_gives_nothing_is_refused_with_a_remedy(text, place, remedy):
    with pytest.raises(ParseError) as refused:
        parse_parameters(text)
    assert (refused.value.line, refused.value.column) == place
    assert remedy in str(refused.value)


#: What the format gives a meaning to, so that texts made of it come to all of it.
pieces = st.sampled_from(
    [
        *("!", "!!a.b", "\n", "\n  ", " ", "k:", "word", "'", '"', "'''", "//", "\\"),
        *(",", "<!--", "-->", "<BR>", ":", "\t", "\r", "é", "\x0b", "{x}", "![", "."),
    ]
)
texts = st.one_of(st.text(), st.lists(pieces, max_size=40).map("".join))


@given(texts)
def test_whatever_a_text_is_it_is_read_or_refused_with_its_line(text):
    lines = text.count("\n") + text.count("\r") + 1
    for read in (parse, parse_parameters):
        assert 1 <= line_of_refusal(read, text, otherwise=1) <= lines


def line_of_refusal(read, text, *, otherwise):
    try:
        read(text)
    except HeroScriptError as error:
        return error.line
    return otherwise


def test_a_long_list_and_a_long_quote_are_read():
    items = ",".join(map(str, range(100_000)))
    lines = "\n  ".join(["k:'a", *["line"] * 50_000, "b'"])
    (action,) = parse(f"!!a.b list:{items}\n  {lines}\n")
    assert action.params.get_list_int("list")[-1] == 99_999
    assert action.params.get("k").count("line") == 50_000
