"""Which commands scripts may give, and where their keys stand."""

from __future__ import annotations

import fnmatch

import pytest

from horus_celery.herodb.commands import (
    COMMANDS,
    BadRequest,
    counted,
    escaped,
    find,
    prefixed,
)

PREFIX = b"hero:herodb:{a}:"


def sent(text):
    """Return the words that Redis is given for a command of a script."""
    words = [word.encode() for word in text.split()]
    given = prefixed(find(words), words, PREFIX)
    return b" ".join(given).replace(PREFIX, b"^").decode()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("GET a", "GET ^a"),
        ("get a", "get ^a"),
        ("SET a b EX 5", "SET ^a b EX 5"),
        ("DEL a b c", "DEL ^a ^b ^c"),
        ("MSET a 1 b 2", "MSET ^a 1 ^b 2"),
        ("RENAME a b", "RENAME ^a ^b"),
        ("LMOVE a b LEFT RIGHT", "LMOVE ^a ^b LEFT RIGHT"),
        ("SMOVE a b member", "SMOVE ^a ^b member"),
        ("BITOP AND to a b", "BITOP AND ^to ^a ^b"),
        ("ZUNION 2 a b WITHSCORES", "ZUNION 2 ^a ^b WITHSCORES"),
        ("ZUNIONSTORE to 2 a b WEIGHTS 1 2", "ZUNIONSTORE ^to 2 ^a ^b WEIGHTS 1 2"),
        ("SINTERCARD 1 a LIMIT 3", "SINTERCARD 1 ^a LIMIT 3"),
        ("HSCAN a 0 MATCH x*", "HSCAN ^a 0 MATCH x*"),
        ("PING", "PING"),
        ("MULTI", "MULTI"),
    ],
)
def test_a_prefix_stands_before_every_key_and_nothing_else(asked, given):
    assert sent(asked) == given


@pytest.mark.parametrize(
    "text",
    [
        *("FLUSHDB", "FLUSHALL", "SWAPDB 0 1", "MOVE a 1", "COPY a b DB 1"),
        *("EVAL x 0", "EVALSHA x 0", "FCALL f 0", "FUNCTION LIST", "SCRIPT FLUSH"),
        *("CONFIG GET *", "ACL LIST", "AUTH x", "DEBUG SLEEP 1", "MONITOR"),
        *("SUBSCRIBE a", "PUBLISH a b", "MIGRATE a", "RESTORE a 0 x", "DUMP a"),
        *("SORT a BY b*", "SORT_RO a", "RANDOMKEY", "BLPOP a 0", "LMPOP 1 a LEFT"),
        *("OBJECT FREQ a", "MEMORY USAGE a", "INFO", "RESET", "WAIT 1 1", "GETX a"),
    ],
)
def test_what_is_not_in_the_table_is_refused(text):
    with pytest.raises(BadRequest, match="NOPERM"):
        find([word.encode() for word in text.split()])


@pytest.mark.parametrize(
    "text", ["GET", "DEL", "MSET", "RENAME a", "ZUNION 3 a b", "ZUNION x a", "ZUNION"]
)
def test_a_command_has_as_many_keys_as_it_must(text):
    with pytest.raises(BadRequest, match="ERR"):
        sent(text)


@pytest.mark.parametrize("word", [b"-1", b"1.0", b"9" * 10**6, b"\xd9\xa1", b"", b" 1"])
def test_a_count_of_keys_is_a_small_number(word):
    with pytest.raises(BadRequest):
        counted([b"ZUNION", word, b"a"], 1)


@pytest.mark.parametrize("name", [b"GE\xc5\xa3", b"get\0", b"g" * 100, b"\xff", b""])
def test_a_strange_word_is_no_command(name):
    with pytest.raises(BadRequest, match="NOPERM"):
        find([name])


def test_a_pattern_of_a_text_fits_that_text_alone():
    assert escaped(rb"a*[b]?\c") == rb"a\*\[b\]\?\\c"
    assert fnmatch.fnmatchcase("hero:{a}:", escaped(b"hero:{a}:").decode())


def test_only_commands_that_write_shrink():
    assert {"DEL", "LTRIM"} <= {one.name for one in COMMANDS.values() if one.shrinks}
    for command in COMMANDS.values():
        assert command.writes or not command.shrinks
        assert not (command.is_local and command.writes)
