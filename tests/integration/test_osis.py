"""Objects on a real server: saved, found and deleted, by many at once."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tests.herodb_double import Front
from workers.osis.database import Db
from workers.osis.errors import (
    FieldError,
    ModelError,
    ModelUnknown,
    NameUnknown,
    ObjectChanged,
    ObjectNotFound,
    OsisError,
    ValueTaken,
)
from workers.osis.model import Model, parse_model
from workers.osis.objects import (
    BATCH,
    LARGEST_PAGE,
    USUAL_PAGE,
    Beginning,
    Between,
    Equal,
    Objects,
    Page,
    Stored,
)
from workers.osis.scripting import Osis

pytestmark = pytest.mark.integration

NOTE: dict[str, Any] = {
    "fields": {
        "title": "string",
        "tags": "list",
        "rank": "int",
        "weight": "float",
        "due": "time",
        "about": "map",
        "is_done": "bool",
    },
    "indexes": ["title", "tags", "rank", "weight", "due", "is_done"],
}
#: What means something to keys, patterns, and the bounds of an index.
HOSTILE = ("", "\0", "a\0b", "\x00\xff", "é☃", "*", "[", "(", "-", "+", "a" * 100_000)


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def front(client, namespace):
    return Front(client, f"{namespace}:")


@pytest.fixture
def objects(front):
    objects = Objects(front)
    objects.declare(parse_model("note", NOTE))
    return objects


@pytest.fixture
def osis(objects):
    return Osis(objects)


def dice(seed):
    """Draw the same in every run."""
    return random.Random(seed)  # noqa: S311 - nobody has to guess it


def ids(found):
    return [each.id for each in found]


def call(handle, name, *args):
    return handle.rhai_call(name, list(args))


def assert_indexed(front, objects, name):
    """Hold the indexes of a model against what follows from its objects."""
    model = objects.model(name)
    prefix = front.context
    stored: dict[int, Stored] = {}
    after: Stored | None = None
    while page := objects.listed(name, Page(limit=LARGEST_PAGE, after=after)):
        stored |= {each.id: each for each in page}
        after = page[-1]
    expected: dict[str, set[bytes]] = {each: set() for each in model.indexes}
    for each in stored.values():
        for by, key, _is_unique in model.keys(each.values):
            expected[by].add(key + b"\0" + b"%010d" % each.id)
    for by, members in expected.items():
        found = front.client.zrange(f"{prefix}i:{name}:{by}", 0, -1)
        assert set(found) == members, by
    held = front.client.hkeys(f"{prefix}o:{name}")
    assert sorted(map(int, held)) == sorted(stored)
    standing = {int(each[-10:]) for members in expected.values() for each in members}
    listed = front.client.hkeys(f"{prefix}o:{name}:entries")
    assert set(map(int, listed)) == standing
    assert objects.count(name) == len(stored)
    return stored


# --- scripts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said", "place"),
    [
        ("db.set(1)", r"db\.set\(.* was given 1 value", (2, 4)),
        ('osis.new("x").save()', "there is no model x", (2, 6)),
        (
            'osis.new("note")\n  .title("a")\n  .save(1)',
            r"save\(\) -> object was given 1",
            (4, 4),
        ),
        ('osis.new("note")\n  .titel("a")', "note has no titel, only title", (3, 4)),
        ('osis.new("note").rank("a")', "note.rank", (2, 18)),
        ('let n = osis.new("note");\n n.rank = "a"', "note.rank", (3, 3)),
        ('osis.model("m")\n  .field("a", "nope")', "nope", (3, 4)),
        ('osis.find("note", "about", 1)', "about", (2, 6)),
        ('osis.get("note", 9)', "there is no note 9", (2, 6)),
    ],
)
def test_a_script_is_told_where_it_was_refused(osis, front, script, said, place):
    rhai = pytest.importorskip("horus_rhai", reason="the Rhai engine is not installed")
    engine = rhai.Engine({}, names={"db": Db(front), "osis": osis})
    with pytest.raises(OsisError, match=said) as caught:
        engine.run(engine.compile(f"let a = 1;\n{script}"))
    known = vars(caught.value)
    assert (known["rhai_line"], known["rhai_column"]) == place


# --- one object -----------------------------------------------------------------------


def test_an_object_is_stored_and_comes_back(objects):
    values = {"title": "a", "tags": ["x"], "weight": 1, "about": {"a": [None, 2**62]}}
    saved = objects.add("note", values)
    assert (saved.id, saved.revision) == (1, 1)
    assert objects.get("note", 1) == saved
    assert saved.values["weight"] == 1.0
    assert saved.values["rank"] is None


def test_ids_are_never_given_twice(objects):
    assert [objects.add("note", {}).id for _ in range(3)] == [1, 2, 3]
    assert objects.delete("note", 3)
    assert not objects.delete("note", 3)
    assert objects.add("note", {}).id == 4


def test_what_is_not_there_is_said(objects):
    with pytest.raises(ObjectNotFound, match="there is no note 9"):
        objects.get("note", 9)
    with pytest.raises(ObjectNotFound):
        objects.replace("note", 9, {})
    with pytest.raises(ModelUnknown, match="there is no model nota"):
        objects.get("nota", 9)
    with pytest.raises(ModelUnknown):
        objects.add("nota", {})
    assert not objects.exists("note", 9)


@pytest.mark.parametrize(
    "name", ["note:ids", "note\0", "../m", "m:note", "", "*", 3, None]
)
def test_a_name_of_a_model_never_becomes_another_key(front, osis, name):
    before = front.calls
    for function in ("get", "delete", "exists", "list", "count", "new", "model"):
        with pytest.raises(OsisError):
            call(
                osis,
                function,
                name,
                *([1] if function in {"get", "delete", "exists"} else []),
            )
    assert front.calls == before


@pytest.mark.parametrize("number", [0, -1, "1", "1 2", 1.0, True, 2**32, None])
def test_what_is_no_id_is_refused(osis, number):
    for function in ("get", "delete", "exists"):
        with pytest.raises(FieldError, match="the id"):
            call(osis, function, "note", number)


def test_an_object_that_somebody_else_saved_is_not_written_over(objects):
    first = objects.add("note", {"title": "a"})
    objects.replace("note", first.id, {"title": "b"}, revision=first.revision)
    with pytest.raises(ObjectChanged):
        objects.replace("note", first.id, {"title": "c"}, revision=first.revision)
    assert objects.get("note", first.id).values["title"] == "b"
    assert objects.replace("note", first.id, {"title": "d"}).revision == 3


def test_an_id_beyond_the_last_one_is_not_given(front, objects):
    front.client.set(f"{front.context}o:note:last", 2**32 - 2)
    assert objects.add("note", {}).id == 2**32 - 1
    assert ids(objects.listed("note")) == [2**32 - 1]
    with pytest.raises(OsisError, match="no ids left"):
        objects.add("note", {})


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:12])
def test_any_text_is_stored_and_found(front, objects, text):
    objects.add("note", {"title": text + "!", "tags": [text + "!"]})
    one = objects.add("note", {"title": text, "tags": [text], "about": {text: text}})
    objects.add("note", {"title": "!" + text, "tags": ["!" + text]})
    assert objects.get("note", one.id).values == one.values
    assert objects.find("note", "title", Equal(value=text)) == [one]
    assert objects.find("note", "tags", Equal(value=text)) == [one]
    if len(text) < 100:
        found = objects.find("note", "title", Beginning(prefix=text))
        assert one in found
        assert all(str(each.values["title"]).startswith(text) for each in found)
    assert_indexed(front, objects, "note")


# --- what is found --------------------------------------------------------------------


def test_what_is_saved_otherwise_is_found_otherwise(front, objects):
    one = objects.add("note", {"title": "a", "tags": ["x", "y"]})
    objects.replace("note", one.id, {"title": "b", "tags": ["y", "z"]})
    assert objects.find("note", "title", Equal(value="a")) == []
    assert objects.find("note", "tags", Equal(value="x")) == []
    assert ids(objects.find("note", "tags", Equal(value="z"))) == [one.id]
    objects.delete("note", one.id)
    assert objects.find("note", "title", Equal(value="b")) == []
    assert not front.client.exists(f"{front.context}i:note:title")


def test_numbers_and_times_are_found_between(objects):
    for rank in (5, -3, 2**62, 2**62 + 1, 0, -(2**63)):
        objects.add("note", {"rank": rank, "weight": rank, "due": abs(rank) % 1000})

    def ranks(low=None, high=None):
        found = objects.find("note", "rank", Between(low=low, high=high))
        return [each.values["rank"] for each in found]

    assert ranks(-3, 5) == [-3, 0, 5]
    assert ranks(low=1) == [5, 2**62, 2**62 + 1]
    assert ranks(2**62 + 1) == [2**62 + 1]
    assert ranks(high=-4) == [-(2**63)]
    assert ranks(5, -3) == []
    between = Between(low=-3.5, high=0)
    assert ids(objects.find("note", "weight", between)) == [2, 5]
    assert objects.count("note", "due", Between(low=3, high=5)) == 2
    assert objects.count("note", "is_done", Equal(value=False)) == 0


def test_what_cannot_be_sought_is_said(objects):
    for by, sought, said in (
        ("about", Equal(value={}), "not indexed"),
        ("colour", Equal(value=1), "no field colour"),
        ("title", Equal(value=1), "a string is needed"),
        ("title", Between(low="a"), "only numbers and times"),
        ("tags", Beginning(prefix="a"), "only strings begin"),
        ("title", Beginning(prefix=3), "only strings begin"),
        ("rank", Equal(value=None), "a whole number is needed"),
    ):
        with pytest.raises(FieldError, match=said):
            objects.find("note", by, sought)
    for limit in (0, -1, LARGEST_PAGE + 1):
        with pytest.raises(FieldError, match="a page"):
            Page(limit=limit)


def test_a_page_does_not_begin_before_what_is_sought(objects):
    for rank in (1, 2, 3):
        objects.add("note", {"rank": rank})
    page = Page(after=1)
    assert ids(objects.find("note", "rank", Between(low=3), page)) == [3]
    assert ids(objects.find("note", "rank", Between(low=2, high=2), page)) == [2]


@pytest.mark.parametrize(
    ("by", "sought"),
    [
        ("title", Equal(value="a")),
        ("title", Beginning(prefix="a")),
        ("rank", Between(low=-100)),
        ("tags", Equal(value="t")),
        (None, None),
    ],
)
def test_pages_miss_and_repeat_nothing_while_objects_come_and_go(objects, by, sought):
    chance = dice(1)

    def add():
        title = chance.choice(["a", "a", "ab", "aa\0"])
        title = "a" if sought == Equal(value="a") else title
        return objects.add(
            "note", {"title": title, "tags": ["t"], "rank": chance.randrange(-50, 50)}
        )

    stay = {add().id for _ in range(40)}
    passing = [add().id for _ in range(40)]
    seen, after = [], None
    while True:
        page = Page(limit=7, after=after)
        found = (
            objects.listed("note", page)
            if sought is None
            else objects.find("note", by, sought, page)
        )
        if not found:
            break
        seen += ids(found)
        after = found[-1]
        for _ in range(3):
            if passing:
                objects.delete("note", passing.pop())
        if len(seen) < 60:
            add()
        # The one that the next page is after may be gone by then.
        if after.id not in stay:
            objects.delete("note", after.id)
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


def test_a_page_after_an_id_is_that_after_its_object(objects):
    made = [objects.add("note", {"rank": rank}) for rank in (3, 1, 2, 1)]
    whole = objects.find("note", "rank", Between())
    assert ids(whole) == [2, 4, 3, 1]
    for at, each in enumerate(whole):
        page = Page(after=each.id)
        assert objects.find("note", "rank", Between(), page) == whole[at + 1 :]
    assert ids(objects.find("note", "rank", Equal(value=1), Page(after=2))) == [4]
    assert ids(objects.listed("note", Page(after=2, limit=1))) == [3]
    objects.delete("note", made[2].id)
    with pytest.raises(ObjectNotFound):
        objects.find("note", "rank", Between(), Page(after=3))
    # Where all have one value, an id says where it stood.
    assert ids(objects.find("note", "rank", Equal(value=1), Page(after=3))) == [4]


def test_a_page_of_large_objects_ends_early_and_not_without_one(objects):
    for _ in range(20):
        objects.add("note", {"title": "a", "about": {"text": "x" * 1_000_000}})
    found = objects.find("note", "title", Equal(value="a"))
    assert 1 <= len(found) < 20
    rest = objects.find("note", "title", Equal(value="a"), Page(after=found[-1]))
    assert ids(found + rest)[: len(found) + 1] == list(range(1, len(found) + 2))


# --- unique values --------------------------------------------------------------------


@pytest.fixture
def users(front):
    users = Objects(front)
    users.declare(
        parse_model(
            "user",
            {
                "fields": {"login": "string", "mails": "list"},
                "indexes": [
                    {"field": "login", "unique": True},
                    {"field": "mails", "unique": True},
                ],
            },
        )
    )
    return users


def test_a_unique_value_has_one_holder(front, users):
    users.add("user", {"login": "ann", "mails": ["a@x", "ann@x"]})
    with pytest.raises(ValueTaken, match="user 1 has this login already") as caught:
        users.add("user", {"login": "ann"})
    assert caught.value.holder == 1
    with pytest.raises(ValueTaken, match="mails"):
        users.add("user", {"login": "bob", "mails": ["b@x", "ann@x"]})
    bob = users.add("user", {"login": "bob", "mails": ["b@x"]})
    with pytest.raises(ValueTaken):
        users.replace("user", bob.id, {"login": "ann"})
    # An object is not in its own way, and what has no value is in nobody's.
    users.replace("user", bob.id, {"login": "bob", "mails": ["b@x", "c@x"]})
    users.add("user", {})
    users.add("user", {})
    users.delete("user", 1)
    users.replace("user", bob.id, {"login": "ann"})
    assert_indexed(front, users, "user")


def test_of_many_who_want_a_unique_value_one_gets_it(redis_server, front, users):
    won, lost = [], []

    def claim():
        with redis_server.client() as own:
            theirs = Objects(Front(own, front.context))
            for number in range(20):
                try:
                    won.append(theirs.add("user", {"login": f"u{number}"}).id)
                except ValueTaken:
                    lost.append(number)

    in_parallel([claim] * 4)
    assert (len(won), len(lost)) == (20, 60)
    assert_indexed(front, users, "user")


# --- many at once ---------------------------------------------------------------------


def in_parallel(works):
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def some_values(chance):
    return {
        "title": chance.choice(["", "a", "ab", "a\0", "b" * 600, None]),
        "tags": chance.choices(["x", "y", "z", "\0"], k=chance.randrange(4)),
        "rank": chance.randrange(-3, 3),
        "weight": chance.choice([0.0, -0.0, 1.5, -1e300, None]),
        "is_done": chance.choice([True, False, None]),
    }


@pytest.mark.parametrize("seed", range(3))
def test_indexes_are_those_of_the_objects_after_many_writers(
    redis_server, front, objects, seed
):
    def writer(number):
        def work():
            chance = dice(100 * seed + number)
            with redis_server.client() as own:
                theirs = Objects(Front(own, front.context))
                for _ in range(150):
                    values, at = some_values(chance), chance.randrange(1, 40)
                    revision = chance.choice([None, 1, 2])
                    step = chance.choice(["add", "replace", "replace", "delete"])
                    if step == "add":
                        theirs.add("note", values)
                    elif step == "delete":
                        theirs.delete("note", at)
                    else:
                        try:
                            theirs.replace("note", at, values, revision=revision)
                        except (ObjectNotFound, ObjectChanged):
                            continue

        return work

    in_parallel([writer(number) for number in range(4)])
    assert assert_indexed(front, objects, "note")


def test_of_two_who_change_what_they_read_nobody_loses_a_change(
    redis_server, front, objects
):
    objects.add("note", {"rank": 0})

    def count():
        with redis_server.client() as own:
            theirs = Objects(Front(own, front.context))
            done = 0
            while done < 25:
                seen = theirs.get("note", 1)
                values: dict[str, Any] = dict(seen.values)
                values["rank"] += 1
                try:
                    theirs.replace("note", 1, values, revision=seen.revision)
                except ObjectChanged:
                    continue
                done += 1

    in_parallel([count] * 4)
    assert objects.get("note", 1).values["rank"] == 100


# --- models that change ---------------------------------------------------------------


def with_slug():
    return {"type": "string", "initial": "none"}


def with_size():
    return {"type": "int", "initial": 7}


def with_more(**more):
    fields = {**NOTE["fields"], "slug": with_slug()}
    return parse_model(
        "note", {"fields": fields, "indexes": [*NOTE["indexes"], "slug"], **more}
    )


def test_a_new_field_and_its_index_are_there_for_what_exists(front, objects):
    for _ in range(2 * BATCH + 1):
        objects.add("note", {"title": "a"})
    other = Objects(front)
    assert other.declare(with_more()).version == 2
    assert other.count("note", "slug", Equal(value="none")) == 2 * BATCH + 1
    # Who still knows the older model is told of the newer one in the same step.
    assert objects.get("note", 1).values["slug"] == "none"
    objects.add("note", {"slug": "new"})
    assert ids(objects.find("note", "slug", Equal(value="new"))) == [2 * BATCH + 2]
    assert other.declare(with_more()).version == 2
    assert_indexed(front, objects, "note")
    assert not front.client.exists(f"{front.context}i:note")


def test_an_index_that_is_gone_is_gone(front, objects):
    objects.add("note", {"title": "a", "rank": 1})
    bare = parse_model("note", {"fields": NOTE["fields"], "indexes": ["title"]})
    Objects(front).declare(bare)
    assert not front.client.exists(f"{front.context}i:note:rank")
    with pytest.raises(FieldError, match="not indexed"):
        objects.find("note", "rank", Equal(value=1))
    objects.replace("note", 1, {"title": "a", "rank": 2})
    again = parse_model(
        "note", {"fields": NOTE["fields"], "indexes": ["title", "rank"]}
    )
    Objects(front).declare(again)
    assert ids(objects.find("note", "rank", Equal(value=2))) == [1]
    assert_indexed(front, objects, "note")


class Dying:
    """A front whose script is killed once it has given some commands of a kind."""

    def __init__(self, front, script, at):
        self._front, self._script, self._left = front, script, at

    def __call__(self, *words):
        if words[:2] == ("OSIS", self._script):
            self._left -= 1
            if self._left < 0:
                raise Killed
        return self._front(*words)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", range(6))
def test_who_finds_goes_on_where_the_one_who_declared_died(front, objects, at):
    for _ in range(2 * BATCH + 1):
        objects.add("note", {"title": "a", "tags": ["x", "y"], "rank": 1})
    with pytest.raises(Killed):
        Objects(Dying(front, "reindex", at)).declare(with_more())
    # What is not being built is found as ever.
    assert ids(objects.find("note", "title", Equal(value="a"), Page(limit=1))) == [1]
    assert front.client.exists(f"{front.context}i:note")
    if at % 2:
        assert len(objects.find("note", "slug", Equal(value="none"))) == USUAL_PAGE
    assert objects.count("note", "slug", Equal(value="none")) == 2 * BATCH + 1
    assert_indexed(front, objects, "note")


def test_what_was_not_built_to_its_end_is_built_with_what_comes_then(front, objects):
    objects.add("note", {"title": "a"})
    with pytest.raises(Killed):
        Objects(Dying(front, "reindex", 0)).declare(with_more())
    fields = {**NOTE["fields"], "slug": with_slug(), "size": with_size()}
    indexes = [*NOTE["indexes"], "slug", "size"]
    more = parse_model("note", {"fields": fields, "indexes": indexes})
    with pytest.raises(Killed):
        Objects(Dying(front, "reindex", 0)).declare(more)
    mine = Objects(front)
    assert ids(mine.find("note", "slug", Equal(value="none"))) == [1]
    assert ids(mine.find("note", "size", Equal(value=7))) == [1]
    assert_indexed(front, objects, "note")


def test_what_is_dropped_is_not_built(front, objects):
    objects.add("note", {"title": "a"})
    with pytest.raises(Killed):
        Objects(Dying(front, "reindex", 0)).declare(with_more())
    Objects(Dying(front, "reindex", 0)).declare(parse_model("note", NOTE))
    assert not front.client.exists(f"{front.context}i:note")
    assert_indexed(front, objects, "note")


def test_who_builds_after_the_end_leaves_nothing_behind(front, objects):
    objects.add("note", {"title": "a"})

    def finish():
        Objects(front).count("note", "slug", Equal(value="none"))

    dying = Dying(front, "reindex", 1)
    with pytest.raises(Killed):
        Objects(Meanwhile(dying, "reindex", finish)).declare(with_more())
    assert not front.client.exists(f"{front.context}i:note")


def test_what_cannot_be_built_is_left_as_it_is(front, objects):
    objects.add("note", {"title": "a", "rank": 1})
    rank = f"{front.context}i:note:rank"
    title = f"{front.context}i:note:title"
    front.client.delete(rank)
    front.client.set(rank, "x")
    before = front.client.zrange(title, 0, -1)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        objects.declare(with_more())
    assert front.client.zrange(title, 0, -1) == before
    front.client.delete(rank)
    assert ids(objects.find("note", "slug", Equal(value="none"))) == [1]
    assert_indexed(front, objects, "note")


class Meanwhile:
    """A front where something else happens before a command of a kind, once."""

    def __init__(self, front, script, happens):
        self._front, self._script, self._happens = front, script, [happens]

    def __call__(self, *words):
        if words[:2] == ("OSIS", self._script) and self._happens:
            self._happens.pop()()
        return self._front(*words)


@pytest.mark.parametrize("script", ["reindex", "built", "find"])
def test_what_is_saved_while_indexes_are_built_stands_there_as_saved(
    front, objects, script
):
    for _ in range(3):
        objects.add("note", {"title": "a"})
    others = Objects(front)

    def change():
        others.replace("note", 1, {"title": "b", "slug": "new"})
        others.delete("note", 2)
        others.add("note", {"slug": "new"})

    Objects(Meanwhile(front, script, change)).declare(with_more())
    assert ids(objects.find("note", "slug", Equal(value="new"))) == [1, 4]
    assert ids(objects.find("note", "slug", Equal(value="none"))) == [3]
    assert_indexed(front, objects, "note")


@pytest.mark.parametrize("script", ["save", "find", "get", "count", "delete"])
def test_a_step_that_meets_a_newer_model_is_taken_by_that(front, objects, script):
    objects.add("note", {"title": "a"})

    def change():
        Objects(front).declare(with_more())

    mine = Objects(Meanwhile(front, script, change))
    assert mine.model("note").version == 1
    mine.add("note", {"title": "b"})
    assert ids(mine.find("note", "title", Beginning(prefix=""))) == [1, 2]
    assert mine.get("note", 1).values["title"] == "a"
    assert mine.count("note") == 2
    assert mine.delete("note", 1)
    assert mine.find("note", "slug", Equal(value="none"))[0].id == 2
    assert_indexed(front, objects, "note")


def test_a_change_is_made_of_what_the_model_is_by_then(front, objects):
    objects.add("note", {"title": "a"})

    def change():
        Objects(front).declare(with_more())

    bare = parse_model("note", {"fields": NOTE["fields"], "indexes": ["title"]})
    assert Objects(Meanwhile(front, "declare", change)).declare(bare).version == 3
    assert not front.client.exists(f"{front.context}i:note:slug")
    assert_indexed(front, objects, "note")


def test_models_change_while_others_write(redis_server, front, objects):
    for _ in range(BATCH + 10):
        objects.add("note", {"title": "a", "rank": 1})
    bare = parse_model("note", {"fields": NOTE["fields"], "indexes": ["title"]})

    def change():
        with redis_server.client() as own:
            theirs = Objects(Front(own, front.context))
            for _ in range(4):
                theirs.declare(with_more(indexes=["title", "rank", "slug"]))
                theirs.declare(bare)
            theirs.declare(with_more(indexes=["title", "rank", "slug"]))

    def write(seed):
        def work():
            chance = dice(seed)
            with redis_server.client() as own:
                theirs = Objects(Front(own, front.context))
                for _ in range(100):
                    at = chance.randrange(1, BATCH)
                    theirs.replace("note", at, some_values(chance))
                    theirs.find("note", "title", Equal(value="a"), Page(limit=3))

        return work

    in_parallel([change, write(1), write(2)])
    objects.count("note", "slug", Equal(value="none"))
    objects.count("note", "rank", Equal(value=1))
    assert_indexed(front, objects, "note")


def test_two_who_declare_different_things_both_get_an_answer(
    redis_server, front, objects
):
    objects.add("note", {"title": "a"})

    def declare(model):
        def work():
            with redis_server.client() as own:
                for _ in range(10):
                    Objects(Front(own, front.context)).declare(model)

        return work

    bare = parse_model("note", NOTE)
    in_parallel([declare(with_more()), declare(bare)])
    objects.declare(with_more())
    assert ids(objects.find("note", "slug", Equal(value="none"))) == [1]
    assert_indexed(front, objects, "note")


def test_a_change_that_objects_do_not_allow_is_refused_with_the_reason(front, objects):
    unique = parse_model(
        "note",
        {**NOTE, "indexes": [{"field": "title", "unique": True}, *NOTE["indexes"][1:]]},
    )
    objects.add("note", {"title": "a"})
    with pytest.raises(ModelError, match="title is unique from now on"):
        objects.declare(unique)
    objects.delete("note", 1)
    assert objects.declare(unique).version == 2
    assert ids([objects.add("note", {"title": "a"})]) == [2]
    assert isinstance(Objects(front).model("note"), Model)


# --- what breaks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("i:note:title", "i:note:rank", "i:note:tags"),
        *("o:note", "o:note:ids", "o:note:entries"),
    ],
)
def test_a_key_that_holds_something_else_changes_nothing(front, objects, key):
    one = objects.add("note", {"title": "a", "tags": ["x"], "rank": 1})
    damaged = f"{front.context}{key}"
    front.client.delete(damaged)
    front.client.set(damaged, "x")

    def everything():
        keys = sorted(front.client.keys(f"{front.context}*"))
        return {key: front.client.dump(key) for key in keys}

    before = everything()
    for break_it in (
        lambda: objects.replace("note", one.id, {"title": "b", "rank": 2}),
        lambda: objects.add("note", {"title": "b", "rank": 2, "tags": ["y"]}),
        lambda: objects.delete("note", one.id),
    ):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            break_it()
    assert everything() == before


#: All that scripts give, those that only read first.
_READS = ("hget", "hmget", "hexists", "hlen", "get", "smembers")
_READING = (*_READS, "scard", "zcard", "zlexcount", "zrangebylex")
_WRITING = ("hset", "hdel", "set", "sadd", "zadd", "zrem", "unlink")


@pytest.fixture
def user_with(client, redis_server, front, namespace):
    """Give a user some commands, and what belongs to the context; become that user."""
    connections = []

    def make(*commands):
        client.acl_setuser(
            namespace,
            enabled=True,
            nopass=True,
            reset=True,
            keys=[f"{front.context}*"],
            commands=[f"+{name}" for name in commands],
        )
        connections.append(redis_server.client(username=namespace, password=namespace))
        return Objects(Front(connections[-1], front.context))

    yield make
    for each in connections:
        each.close()
    client.acl_deluser(namespace)


def test_a_user_needs_few_commands_for_all_of_it(front, objects, user_with):
    theirs = user_with("evalsha", "eval", "evalsha_ro", "eval_ro", *_READING, *_WRITING)
    theirs.add("note", {"title": "a", "rank": 1})
    theirs.replace("note", 1, {"title": "b", "rank": 1})
    assert theirs.declare(with_more()).version == 2
    assert ids(theirs.find("note", "slug", Equal(value="none"))) == [1]
    assert theirs.models() == ["note"]
    assert theirs.exists("note", 1)
    assert theirs.delete("note", 1)
    assert_indexed(front, objects, "note")


def test_who_may_only_read_finds_what_there_is(objects, user_with):
    objects.add("note", {"title": "a"})
    theirs = user_with("evalsha_ro", "eval_ro", *_READING)
    assert ids(theirs.find("note", "title", Equal(value="a"))) == [1]
    assert theirs.get("note", 1).values["title"] == "a"
    with pytest.raises(NoPermissionError):
        theirs.add("note", {})
    with pytest.raises(NoPermissionError):
        theirs.delete("note", 1)
    assert theirs.count("note") == 1


def test_contexts_know_nothing_of_each_other(client, front, objects):
    objects.add("note", {"title": "a"})
    elsewhere = Objects(Front(client, f"{front.context}other:"))
    with pytest.raises(ModelUnknown):
        elsewhere.get("note", 1)
    assert elsewhere.models() == []
    assert objects.models() == ["note"]


# --- as scripts write it --------------------------------------------------------------


def test_a_script_makes_finds_and_changes_objects(osis):
    model = call(osis, "model", "page")
    for step in (
        ("field", "title", "string", {"required": True}),
        ("field", "size", "int"),
    ):
        assert call(model, *step) is model
    call(call(call(model, "index", "size"), "unique", "title"), "save")
    assert (model.rhai_get("name"), model.rhai_get("version")) == ("page", 1)

    page = call(osis, "new", "page")
    assert page.rhai_get("id") is None
    assert call(call(call(page, "title", "x"), "size", 3), "save") is page
    assert page.rhai_get("id") == 1
    page.rhai_set("size", 4)
    call(page, "save")
    assert page.rhai_get("revision") == 2

    call(call(osis, "create", "page", {"title": "y", "size": 4}), "save")
    found = call(osis, "find", "page", "size", 4, {"limit": 1})
    assert [each.rhai_get("title") for each in found] == ["x"]
    found = call(osis, "find", "page", "size", 4, {"after": found[0]})
    assert [call(each, "to_map") for each in found] == [
        {"id": 2, "title": "y", "size": 4}
    ]
    assert call(osis, "find_one", "page", "title", "z") is None
    assert str(call(osis, "find_one", "page", "title", "y")).startswith('page {"id": 2')
    assert call(osis, "count", "page") == 2
    assert call(osis, "count", "page", "size", {"from": 5}) == 0
    assert call(osis, "count", "page", "size", range(4, 5)) == 2
    assert call(osis, "count", "page", "size", range(2, 4)) == 0
    assert len(call(osis, "find", "page", "title", {"prefix": ""})) == 2
    assert call(osis, "list", "page", {"limit": 1})[0].rhai_get("id") == 1
    assert call(osis, "exists", "page", 1)
    assert call(page, "delete")
    assert not call(page, "delete")
    assert not call(osis, "exists", "page", 1)
    with pytest.raises(ObjectNotFound):
        call(page, "save")
    assert call(osis, "delete", "page", 2)
    assert call(osis, "models") == ["note", "page"]


def test_a_script_declares_a_model_in_one_step(osis):
    spec = {"fields": {"title": "string"}, "indexes": ["title"]}
    assert call(osis, "model", "page", spec).rhai_get("version") == 1
    assert call(osis, "model", "page", spec).rhai_get("version") == 1
    spec = {"fields": {"title": "string", "size": "int"}}
    assert call(osis, "model", "page", spec).rhai_get("version") == 2


def test_a_script_saves_only_what_nobody_changed(osis):
    call(call(osis, "new", "note"), "save")
    mine, theirs = (call(osis, "get", "note", 1) for _ in range(2))
    call(theirs, "save")
    with pytest.raises(ObjectChanged):
        call(mine, "save_if_unchanged")
    call(theirs, "save_if_unchanged")


def test_what_an_object_does_not_have_is_unknown(osis):
    note = call(osis, "new", "note")
    for name, args in (("colour", ["red"]), ("title", []), ("title", ["a", "b"])):
        with pytest.raises(NameUnknown):
            call(note, name, *args)
    with pytest.raises(NameUnknown):
        note.rhai_get("colour")
    for name in ("colour", "id", "revision"):
        with pytest.raises(NameUnknown):
            note.rhai_set(name, 1)
    with pytest.raises(FieldError, match="rank: a whole number is needed"):
        call(note, "rank", "high")


def test_what_a_script_reads_of_an_object_is_a_copy(osis):
    note = call(call(osis, "new", "note"), "tags", ["a"])
    note.rhai_get("tags").append("b")
    call(note, "to_map")["tags"].append("c")
    assert note.rhai_get("tags") == ["a"]


def test_a_reference_takes_the_object_that_it_is_to(osis):
    fields = {"note": {"type": "reference", "to": "note"}, "other": "reference"}
    call(osis, "model", "link", {"fields": fields, "indexes": ["note"]})
    link = call(osis, "new", "link")
    note = call(osis, "new", "note")
    with pytest.raises(FieldError, match="save that note first"):
        call(link, "note", note)
    call(note, "save")
    call(call(call(link, "note", note), "other", note), "save")
    assert link.rhai_get("note") == note.rhai_get("id")
    assert len(call(osis, "find", "link", "note", note)) == 1
    with pytest.raises(FieldError, match="refers to a note, not a link"):
        call(link, "note", link)
    with pytest.raises(FieldError, match="not a reference"):
        call(note, "rank", note)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({"limit": "3"}, "a whole number"),
        ({"limit": True}, "a whole number"),
        ({"limit": 1001}, "between 1 and"),
        ({"after": "3"}, "an object or an id"),
        ({"skip": 3}, "not by skip"),
        (3, "as a map"),
    ],
)
def test_what_is_no_page_is_refused(osis, page, said):
    with pytest.raises(FieldError, match=said):
        call(osis, "list", "note", page)
    with pytest.raises(FieldError, match="of from and to"):
        call(osis, "find", "note", "rank", {"low": 3})
