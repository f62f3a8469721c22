"""Actions and parameters are known by the text, and the hashes, of the Hero CLI."""

from __future__ import annotations

import pytest

from workers.heroscript.errors import UnwritableError
from workers.heroscript.hashes import (
    export_line,
    hashkey,
    hashkey_of_all,
    hexhash,
    known_text,
)
from workers.heroscript.model import Action, ActionType
from workers.heroscript.parameters import Argument, Parameters
from workers.heroscript.reading import parse, parse_parameters

SCRIPT = """\
// start it
!!web.start name:demo
    port: 8080 // http
    title: 'two words'
    quiet

!!web.stop force:true
"""
#: How a value of several lines stands there.
BLOCK = f"        k:'\n        {'x' * 20}\n        {'y' * 20}\n        '\n"


def test_the_hashes_of_a_script_are_these():
    start, stop = parse(SCRIPT)
    assert known_text(start) == (
        "!!web.start id:1 quiet name:demo title:'two words'\n        port:8080 //http\n"
    )
    assert known_text(stop) == "!!web.stop id:2 force:true\n"
    assert hashkey(start) == "44cec50eaec851157738fa5fc156371ee02e993a"
    assert hashkey(stop) == "8a56b43dce0ec1ceafaabec3c9647a0beefbad7b"
    assert hashkey_of_all([start, stop]) == "ad8c735320c63c9d9998d258321e6bee157d9d19"


def test_the_hash_of_parameters_is_this_in_any_order():
    params = parse_parameters("quiet port:8080 title:'two words' name:demo")
    other = parse_parameters("title:'two words' port:8080 name:demo quiet")
    assert export_line(params) == "quiet name:demo port:8080 title:'two words'"
    assert export_line(other) == export_line(params)
    assert (
        hexhash(params)
        == "aac692f6cabcb41f764c00f645d926191a1aa296f433d03fe805c5f1e7190624"
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("!!a.b", "!!a.b id:1 "),
        ("!a.b x:1", "!a.b id:1 x:1\n"),
        ("!!a.b z y x:''", "!!a.b id:1 y z x:''\n"),
        # Some keys come first, some last.
        (
            "!!a.b ctime:1 z:1 name:n cid:c b:1 time:2 oid:o",
            "!!a.b id:1 cid:'c' oid:'o' name:n b:1 z:1 ctime:1\n        time:2\n",
        ),
        # A value of more than 25 bytes, and what comes once the line has over 30.
        (f"!!a.b l:{'x' * 26} m:1", f"!!a.b id:1 m:1\n        l:{'x' * 26}\n"),
        (
            f"!!a.b a:{'x' * 25} b:{'y' * 9} c:1",
            f"!!a.b id:1 a:{'x' * 25} b:{'y' * 9}\n        c:1\n",
        ),
        (r"!!a.b k:'a:b' l:'it\'s x'", "!!a.b id:1 k:'a:b' l:'it\\'s x'\n"),
        # A line break becomes two characters, but on lines of its own.
        ("!!a.b k:a<BR>b", "!!a.b id:1 k:'a\\nb'\n"),
        (
            f"!!a.b k:{'x' * 20}<BR>{'y' * 20}",
            f"!!a.b id:1 \n{BLOCK}",
        ),
        # Comments.
        (
            "!!a.b\n  // one\n  // two\n  k:1 m:2",
            "!!a.b id:1 m:2\n        // one\n    // two\n    k:1\n",
        ),
        (
            f"!!a.b\n  k:{'x' * 20}<BR>{'y' * 20} // c",
            f"!!a.b id:1 \n         // c\n{BLOCK.removeprefix('    ')}",
        ),
        ("!!a.b\n  w // c\n  k:1", "!!a.b id:1 // c\n    w k:1\n"),
    ],
)
def test_an_action_is_known_by_this_text(text, known):
    (action,) = parse(text)
    assert known_text(action) == known


def test_of_one_line_what_is_long_or_has_a_comment_comes_last():
    params = parse_parameters(f"w // on w\na:{'x' * 26} b:1\nc:2 // on c\nid:3 z:4")
    assert export_line(params) == (f"//on w-/ w id:3 b:1 z:4 a:{'x' * 26} //on c-/ c:2")


def test_an_action_that_nobody_numbered_has_no_number_in_it():
    action = Action(id=0, actor="a", name="b", actiontype=ActionType.WAL)
    assert known_text(action) == "!!!!a.b "


def test_there_is_no_hash_where_two_arguments_are_one_name():
    words = (Argument(word="A"), Argument(word="a"))
    with pytest.raises(UnwritableError, match="one name"):
        hexhash(Parameters(arguments=words))
