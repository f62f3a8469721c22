"""What is written says the same again when it is read."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from workers.heroscript.errors import UnwritableError
from workers.heroscript.model import Action, ActionType
from workers.heroscript.names import lower
from workers.heroscript.parameters import Argument, Parameter, Parameters
from workers.heroscript.reading import parse
from workers.heroscript.writing import write

SPECIAL = [" ", ",", ":", "//", "\\", "!", "{", "<!--", "-->", "#", "é", "\n", "=", "-"]


def words(*further, least=0):
    """Draw texts of what the format gives a meaning to, but for some of it."""
    piece = st.one_of(st.sampled_from("aB1_."), st.sampled_from([*SPECIAL, *further]))
    return st.lists(piece, min_size=least, max_size=12).map("".join)


names = st.text("ab_", max_size=6)
comments = words("'", '"').map(
    lambda text: "\n".join(
        line.lstrip("/ ").strip(" ") for line in text.split("\n")
    ).strip()
)
keys = st.text("ab1_,./", min_size=1, max_size=6).filter(lambda key: "//" not in key)


@st.composite
def actions(draw, values):
    """Draw an action that a script may say, with values of these."""
    named = draw(
        st.lists(
            st.builds(Parameter, key=keys, value=values, comment=comments),
            max_size=4,
            unique_by=lambda one: one.key,
        )
    )
    arguments = draw(
        st.lists(
            st.builds(Argument, word=keys, comment=comments),
            max_size=3,
            unique_by=lambda one: lower(one.word),
        )
    )
    return Action(
        id=1,
        actor=draw(names),
        name=draw(names),
        actiontype=draw(st.sampled_from(ActionType)),
        comments=draw(comments),
        params=Parameters(named=tuple(named), arguments=tuple(arguments)),
    )


def numbered(drawn):
    ids = count(1)
    return tuple(
        Action(
            id=next(ids),
            actor=one.actor,
            name=one.name,
            actiontype=one.actiontype,
            comments=one.comments,
            params=one.params,
        )
        for one in drawn
    )


#: Values that each have a form: one kind of quote, and nothing that is replaced.
plain = words("'", "''").map(str.strip).filter(lambda text: not text.endswith("\\"))
lines = words('"', '""').map(str.strip).filter(lambda text: text != '"')
kept = st.one_of(plain, lines.filter(lambda text: '"\n' not in text))


@given(st.lists(actions(kept), max_size=3))
def test_what_is_written_is_read_as_it_was(drawn):
    wanted = numbered(drawn)
    try:
        text = write(wanted)
    except UnwritableError as error:
        # A line that holds only a quote, or a break between `<` and `>`.
        assume("the value of" not in str(error))
        raise
    assert parse(text) == wanted


@given(actions(words('"', "'", "<", ">", "<BR>", "\t", "\r", "\x0b", "\\'")))
@example(
    Action(
        id=1,
        actor="a",
        name="b",
        params=Parameters(named=(Parameter(key="k", value="<\n>"),)),
    )
)
def test_whatever_is_not_read_as_it_was_is_not_written(drawn):
    try:
        text = write([drawn])
    except UnwritableError:
        return
    assert parse(text) == (drawn,)


def value(text):
    params = Parameters(named=(Parameter(key="k", value=text),))
    return Action(id=1, actor="a", name="b", params=params)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", "k:''"),
        ("v", "k:v"),
        ("two words", "k:'two words'"),
        ("it's", r"k:'it\'s'"),
        ("https://h.example", "k:'https://h.example'"),
        ("a\n\n  b", "k:'a<BR><BR>  b'"),
        ('say "x"\n  !so', "k:'\n        say \"x\"\n          !so\n    '"),
        ('"a"\n\nb', "k:'\n        \"a\"<BR><BR>b\n    '"),
        ("a b\\", "k:'\n        a b\\\n    '"),
    ],
)
def test_a_value_is_written_in_the_shortest_form_that_keeps_it(text, written):
    assert write([value(text)]) == f"!!a.b\n    {written}\n"
    assert parse(write([value(text)])) == (value(text),)


@pytest.mark.parametrize(
    "text", ["'\"", "a<BR>b", "a\tb", "a\rb", " a", "a\n", "\"\n'", "a'\\"]
)
def test_a_value_that_no_script_says_is_refused(text):
    with pytest.raises(UnwritableError, match="the value of k"):
        write([value(text)])


@pytest.mark.parametrize(
    "action",
    [
        Action(id=1, actor="A", name="b"),
        Action(id=1, actor="a.b", name="c"),
        Action(id=1, actor="a", name="b c"),
        Action(id=1, actor="a", name="b", comments=" c"),
        Action(id=1, actor="a", name="b", comments="/c"),
        Action(id=1, actor="a", name="b", comments="c\n\n"),
        *(
            Action(id=1, actor="a", name="b", params=params)
            for params in (
                Parameters(arguments=(Argument(word="a b"),)),
                Parameters(arguments=(Argument(word="a"), Argument(word="A"))),
                Parameters(named=(Parameter(key="K", value=""),)),
                Parameters(named=(Parameter(key="", value=""),)),
                Parameters(named=(Parameter(key="id", value="1"),)),
                Parameters(named=(Parameter(key="k", value=""),) * 2),
            )
        ),
    ],
)
def test_a_name_or_a_comment_that_no_script_says_is_refused(action):
    with pytest.raises(UnwritableError):
        write([action])


def test_names_with_two_underscores_are_kept():
    (action,) = parse("!!a--b.c-d")
    assert (action.actor, action.name) == ("a__b", "c_d")
    assert parse(write([action])) == (action,)
