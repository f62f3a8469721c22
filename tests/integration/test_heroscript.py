"""HeroScript keeps objects of its context on a real server."""

from __future__ import annotations

import json

import pytest
from redis.exceptions import ResponseError

from tests.herodb_double import Front
from workers.actors.ensemble import Surroundings, gather
from workers.actors.stage import check, perform
from workers.heroscript.errors import ActionError
from workers.heroscript.reading import parse

pytestmark = pytest.mark.integration

MODEL = """
!!osis.model model:person fields:'name:string' unique:name
!!osis.model model:note
    fields: 'title:string', 'rank:int', 'tags:list', 'done:bool', 'due:time',
        'more:map', 'of:reference:person'
    required:title
    index:'rank, tags, title'
"""


class Database:
    """A connection as scripts have it, to the front's small double."""

    def __init__(self, front):
        self.call = front


@pytest.fixture
def play(redis_server, namespace):
    """Run a script in a context that has two models."""
    with redis_server.client() as client:
        around = Surroundings(
            environment={"HERODB_URL": "unix:///db"},
            say=print,
            open_database=lambda _: Database(Front(client, f"{namespace}:")),
            database_failures=(ResponseError,),
        )

        def run(text):
            cast = gather(around)
            actions = parse(text)
            check(actions, cast)
            return perform(actions, cast, around.variables)

        run(MODEL)
        yield run


def test_a_model_is_declared_once(play):
    assert play("!!osis.models") == '["note", "person"]'
    assert play("!!osis.model model:person fields:'name:string' unique:name") == "1"
    assert play("!!osis.model model:person fields:'name:string, x:int'") == "2"


def test_an_object_is_stored_by_texts_of_its_fields_kinds(play):
    made = play(
        "!!osis.create model:person name:Ada result:ada\n"
        "!!osis.create model:note result:made\n"
        "    title:'two words' rank:7 tags:a,b done:yes more:'x=1, y=2' of:1\n"
        "    due:'2026-01-31T12:00:00Z'\n"
        "!!osis.get model:note oid:1\n"
    )
    assert json.loads(made) == {
        "id": 1,
        "title": "two words",
        "rank": 7,
        "tags": ["a", "b"],
        "done": True,
        "due": 1769860800,
        "more": {"x": "1", "y": "2"},
        "of": 1,
    }


def test_an_object_is_changed_and_deleted(play):
    play("!!osis.create model:note title:a rank:1")
    changed = json.loads(play("!!osis.update model:note oid:1 rank:2 due:60"))
    assert (changed["title"], changed["rank"], changed["due"]) == ("a", 2, 60)
    assert play("!!osis.exists model:note oid:1") == "true"
    assert play("!!osis.delete model:note oid:1") == "true"
    assert play("!!osis.delete model:note oid:1") == "false"


SOUGHT = [
    ("find", "field:title value:b", [2]),
    ("find", "field:title prefix:b", [2, 3]),
    ("find", "field:rank from:2", [2, 3]),
    ("find", "field:rank to:2", [1, 2]),
    ("find", "field:rank from:2 to:2", [2]),
    ("find", "field:tags value:x", [1, 2]),
    ("find", "field:rank from:1 limit:1 after:1", [2]),
    ("list", "", [1, 2, 3]),
    ("list", "limit:1 after:1", [2]),
]


@pytest.mark.parametrize(("action", "given", "ids"), SOUGHT)
def test_objects_are_found(play, action, given, ids):
    play(
        "!!osis.create model:note title:a rank:1 tags:x\n"
        "!!osis.create model:note title:b rank:2 tags:'x,y'\n"
        "!!osis.create model:note title:bc rank:3\n"
    )
    found = json.loads(play(f"!!osis.{action} model:note {given}"))
    assert [one["id"] for one in found] == ids
    if action == "find" and "limit" not in given:
        assert play(f"!!osis.count model:note {given}") == str(len(ids))
    assert play("!!osis.count model:note") == "3"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("!!osis.create model:note rank:1", "title"),
        ("!!osis.create model:note title:a rank:many", "rank of note must be a whole"),
        ("!!osis.create model:note title:a rnak:1", "note has no field rnak"),
        ("!!osis.create model:none title:a", "there is no model none"),
        ("!!osis.get model:note oid:9", "there is no note 9"),
        ("!!osis.find model:note field:rank", "is a value, or a prefix, or from and"),
        ("!!osis.find model:note field:rank value:1 to:2", "a value, or a prefix"),
        ("!!osis.find model:note field:due value:1", "not indexed"),
        ("!!osis.list model:note limit:0", "between 1 and"),
        ("!!osis.model model:x fields:'a:strnig'", "strnig"),
        ("!!osis.model model:x fields:'a:int' required:b", "no field b that could be"),
        (
            "!!osis.create model:person name:a\n!!osis.create model:person name:a",
            "has this name already",
        ),
    ],
)
def test_what_cannot_be_done_is_told_with_the_line(play, action, said):
    with pytest.raises(ActionError, match=r"\(line \d\)$") as refused:
        play(action)
    assert said in str(refused.value)
