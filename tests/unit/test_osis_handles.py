"""What a script holds does what stands in its table, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workers.osis.database import Db
from workers.osis.errors import FieldError, NameUnknown
from workers.osis.objects import Objects
from workers.osis.scripting import ModelHandle, ObjectHandle, Osis

HANDLES = (Db, Osis, ObjectHandle, ModelHandle)
EVERYTHING = [(kind, each) for kind in HANDLES for each in kind.operations.values()]


class Database:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer=None):
        self.answer = answer
        self.asked = []

    def __call__(self, *words):
        self.asked.append(words)
        return self.answer


def asked(name, *args, answer=None):
    """Return the words that a function of `db` gives, and what it returns."""
    database = Database(answer)
    result = Db(database).rhai_call(name, list(args))
    return database.asked[0], result


@pytest.mark.parametrize(
    ("call", "words", "answer", "result"),
    [
        (("set", "k", "v"), ("SET", "k", "v"), b"OK", None),
        (("set", "k", 5, 60), ("SET", "k", 5, "EX", 60), b"OK", None),
        (("set", "k", 1.5), ("SET", "k", "1.5"), b"OK", None),
        (("set", "k", True), ("SET", "k", "true"), b"OK", None),
        (("set", "k", b"\xff"), ("SET", "k", b"\xff"), b"OK", None),
        (("get", "k"), ("GET", "k"), "ä".encode(), "ä"),
        (("get", "k"), ("GET", "k"), b"\xff", b"\xff"),
        (("get", "k"), ("GET", "k"), None, None),
        (("del", "k"), ("DEL", "k"), 1, 1),
        (("del", ["k", "l"]), ("DEL", "k", "l"), 2, 2),
        (("exists", "k"), ("EXISTS", "k"), 1, True),
        (("exists", "k"), ("EXISTS", "k"), 0, False),
        (("expire", "k", 60), ("EXPIRE", "k", 60), 1, True),
        (("ttl", "k"), ("TTL", "k"), -2, -2),
        (("incr", "k"), ("INCRBY", "k", 1), 4, 4),
        (("incr", "k", 3), ("INCRBY", "k", 3), 4, 4),
        (("keys",), ("KEYS", "*"), [b"b", b"a"], ["a", "b"]),
        (("keys", "a*"), ("KEYS", "a*"), [], []),
        (("hset", "k", "f", "v"), ("HSET", "k", "f", "v"), 1, 1),
        (("hset", "k", {"f": 1, "g": "x"}), ("HSET", "k", "f", 1, "g", "x"), 2, 2),
        (("hget", "k", "f"), ("HGET", "k", "f"), b"v", "v"),
        (("hgetall", "k"), ("HGETALL", "k"), [b"f", b"v"], {"f": "v"}),
        (("hgetall", "k"), ("HGETALL", "k"), {b"f": b"v"}, {"f": "v"}),
        (("hgetall", "k"), ("HGETALL", "k"), [], {}),
        (("hdel", "k", ["f", "g"]), ("HDEL", "k", "f", "g"), 1, 1),
        (("hkeys", "k"), ("HKEYS", "k"), [b"g", b"f"], ["f", "g"]),
        (("lpush", "k", ["a", 2]), ("LPUSH", "k", "a", 2), 2, 2),
        (("rpush", "k", "a"), ("RPUSH", "k", "a"), 1, 1),
        (("lpop", "k"), ("LPOP", "k"), b"a", "a"),
        (("rpop", "k"), ("RPOP", "k"), None, None),
        (("llen", "k"), ("LLEN", "k"), 2, 2),
        (("lrange", "k", 0, -1), ("LRANGE", "k", 0, -1), [b"b", b"a"], ["b", "a"]),
        (("sadd", "k", "a"), ("SADD", "k", "a"), 1, 1),
        (("srem", "k", "a"), ("SREM", "k", "a"), 1, 1),
        (("smembers", "k"), ("SMEMBERS", "k"), [b"b", b"a"], ["a", "b"]),
        (("zadd", "k", 1.5, "a"), ("ZADD", "k", "1.5", "a"), 1, 1),
        (("zrange", "k", 0, -1), ("ZRANGE", "k", 0, -1), [b"a"], ["a"]),
        (("set_encrypted", "k", "v"), ("SETENC", "k", "v"), b"OK", None),
        (("set_encrypted", "k", "v", "n"), ("SETENC", "k", "v", "n"), b"OK", None),
        (("get_encrypted", "k"), ("GETENC", "k"), b"v", "v"),
        (("age_genenc",), ("AGE", "GENENC"), [b"age1", b"AGE"], ["age1", "AGE"]),
        (("age_verify", "k", "m", "s"), ("AGE", "VERIFY", "k", "m", "s"), 0, False),
        (("age_list",), ("AGE", "LIST"), [b"n"], ["n"]),
    ],
)
def test_a_function_of_db_is_a_command(call, words, answer, result):
    assert asked(*call, answer=answer) == (words, result)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("set", "k", {"a": 1}), "to_json"),
        (("set", "k", [1]), "to_json"),
        (("set", "k", None), "db.set: what is given is neither text"),
        (("set", "k", "\ud800"), "half a character"),
        (("get", ["k"]), "db.get: the key"),
        (("get",), r"db.get\(key\) -> string, blob or \(\) was given 0 values"),
        (("get", "k", "l"), "was given 2 values"),
        (("lpush", "k", []), "an empty array"),
        (("lpush", "k", [["a"]]), "to_json"),
        (("hset", "k", "f"), "a key and a map"),
        (("hset", "k", {}), "a key and a map"),
    ],
)
def test_what_is_no_value_is_refused_and_nothing_is_sent(call, said):
    database = Database()
    name, *args = call
    with pytest.raises(FieldError, match=said):
        Db(database).rhai_call(name, args)
    assert database.asked == []


@pytest.mark.parametrize("name", ["eval", "call", "__init__", "operations", "OSIS", ""])
def test_what_stands_in_no_table_is_not_there(name):
    database = Database()
    osis = Osis(Objects(database))
    for handle in (Db(database), osis):
        with pytest.raises(LookupError):
            handle.rhai_call(name, [])
        with pytest.raises(NameUnknown):
            handle.rhai_get(name)
        with pytest.raises(NameUnknown):
            handle.rhai_set(name, 1)
    assert database.asked == []


@pytest.mark.parametrize(
    ("kind", "each"),
    EVERYTHING,
    ids=[f"{kind.__name__}.{each.name}" for kind, each in EVERYTHING],
)
def test_every_function_says_what_it_does(kind, each):
    assert each.doc.endswith(".")
    assert each.signature.startswith(f"{each.name}(")
    assert each.takes(each.required)
    assert not each.takes(len(each.parameters) + 1)


def test_nothing_but_the_standard_library_is_loaded():
    program = (
        "import sys; before = set(sys.modules);"
        "import workers.osis.database, workers.osis.scripting;"
        "names = {each.partition('.')[0] for each in set(sys.modules) - before};"
        "print(*(names - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert loaded.stdout.split() == ["workers"]


def test_the_page_shows_every_function_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "osis.md").read_text()
    shown = re.findall(r"^\| `(\w+\([^`]*)` \| (.*) \|$", page, flags=re.MULTILINE)
    known = [(each.signature, each.doc.partition("\n")[0]) for _, each in EVERYTHING]
    assert sorted(shown) == sorted(known)
