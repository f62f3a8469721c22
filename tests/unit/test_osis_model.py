"""A model is read strictly, holds its objects to it, and says how it may change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.osis.errors import FieldError, ModelError
from workers.osis.model import MOST_FIELDS, MOST_INDEXES, Model, change_of, parse_model
from workers.osis.values import (
    DEEPEST,
    LAST_ID,
    MOST_KEYS,
    WHOLE_KEY,
    Kind,
    accept,
    beginnings,
    behind,
    first_of,
    key_of,
    keys_of,
    member,
)

NOTE: dict[str, Any] = {
    "fields": {"title": "string", "tags": "list", "rank": "int", "about": "map"},
    "indexes": ["title", "tags", "rank"],
}

texts = st.text(max_size=8) | st.text(alphabet="\0a\x01ÿ", max_size=4)
ids = st.integers(1, LAST_ID)


def note(**changes):
    return parse_model("note", {**NOTE, **changes})


def declared(model):
    change = change_of(None, model)
    assert change is not None
    return change.model


# --- what a model is -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "between 1 and"),
        ({"fields": {f"f{i}": "int" for i in range(MOST_FIELDS + 1)}}, "between 1 and"),
        (
            {
                "fields": {f"f{i}": "int" for i in range(MOST_INDEXES + 1)},
                "indexes": [f"f{i}" for i in range(MOST_INDEXES + 1)],
            },
            "at most",
        ),
        ({"fields": {"a": "text"}}, "one of string, int"),
        ({"fields": {"a": None}}, "a type"),
        ({"fields": {"a": {}}}, "one of string, int"),
        ({"fields": {"a": {"type": ["int"]}}}, "one of string, int"),
        ({"fields": {"A": "int"}}, "lower-case"),
        ({"fields": {"a" * 65: "int"}}, "lower-case"),
        ({"fields": {"a:b": "int"}}, "lower-case"),
        ({"fields": {"a\n": "int"}}, "lower-case"),
        ({"fields": {"a\0": "int"}}, "lower-case"),
        ({"fields": {"": "int"}}, "lower-case"),
        ({"fields": {"é": "int"}}, "lower-case"),
        ({"fields": {"id": "int"}}, "every object has that"),
        ({"fields": {"save": "int"}}, "every object has that"),
        ({"fields": {"while": "int"}}, "a word of Rhai"),
        ({"fields": {"a": {"type": "int", "size": 3}}}, "not by 'size'"),
        ({"fields": {"a": {"type": "int", "required": 1}}}, "true or false"),
        ({"fields": {"a": {"type": "int", "initial": "x"}}}, "whole number"),
        ({"fields": {"a": {"type": "int", "to": "b"}}}, "only a reference"),
        ({"fields": {"a": {"type": "reference", "to": "B"}}}, "lower-case"),
        ({"fields": ["a"]}, "a map of fields"),
        ({"fields": {"a": "int"}, "indexes": "a"}, "a list of indexes"),
        ({"fields": {"a": "int"}, "indexes": ["b"]}, "no field of note"),
        ({"fields": {"a": "map"}, "indexes": ["a"]}, "cannot be indexed"),
        ({"fields": {"a": "int"}, "indexes": ["a", "a"]}, "twice"),
        ({"fields": {"a": "int"}, "indexes": [3]}, "the name of a field"),
        ({"fields": {"a": "int"}, "indexes": [{"field": "a", "by": 1}]}, "not by 'by'"),
        (
            {
                "fields": {"a": {"type": "list", "initial": [1]}},
                "indexes": ["a"],
            },
            "an initial value does not fit",
        ),
        ({"fields": {"a": "int"}, "index": []}, "not by 'index'"),
    ],
)
def test_what_is_no_model_is_refused(spec, said):
    with pytest.raises(ModelError, match=said):
        parse_model("note", spec)


@pytest.mark.parametrize(
    "name", ["", "Note", "a:b", "a b", "a\0", "1a", None, 3, "a" * 65]
)
def test_what_is_no_name_of_a_model_is_refused(name):
    with pytest.raises(ModelError, match="lower-case"):
        parse_model(name, NOTE)


def test_a_model_is_read_as_it_was_written():
    model = declared(
        parse_model(
            "task",
            {
                "fields": {
                    "title": {"type": "string", "required": True, "initial": "ä\0"},
                    "owner": {"type": "reference", "to": "user"},
                    "due": "time",
                },
                "indexes": ["due", {"field": "title", "unique": True}],
            },
        )
    )
    assert Model.from_wire("task", 1, model.to_wire().encode()) == model


# --- its objects ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        (Kind.STRING, "a\0ä", "a\0ä"),
        (Kind.INT, -(2**63), -(2**63)),
        (Kind.FLOAT, 3, 3.0),
        (Kind.BOOL, False, False),
        (Kind.LIST, [1, "a", [None]], [1, "a", [None]]),
        (Kind.MAP, {"a": {"b": 1.5}}, {"a": {"b": 1.5}}),
        (Kind.TIME, "2026-01-05T10:00:00+02:00", 1767600000),
        (Kind.TIME, "1970-01-01T00:00:00Z", 0),
        (Kind.TIME, 1767600000, 1767600000),
        (Kind.REFERENCE, LAST_ID, LAST_ID),
    ],
)
def test_a_field_holds_values_of_its_kind(kind, value, held):
    assert accept(kind, value, what="x") == held


NESTED: list[Any] = []
for _ in range(DEEPEST):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.STRING, 1),
        (Kind.STRING, b"a"),
        (Kind.STRING, "\ud800"),
        (Kind.INT, True),
        (Kind.INT, 1.0),
        (Kind.INT, "1"),
        (Kind.INT, 2**63),
        (Kind.FLOAT, float("nan")),
        (Kind.FLOAT, float("inf")),
        (Kind.FLOAT, True),
        (Kind.FLOAT, 10**400),
        (Kind.BOOL, 1),
        (Kind.LIST, "ab"),
        (Kind.LIST, NESTED),
        (Kind.LIST, [b"a"]),
        (Kind.LIST, [2**63]),
        (Kind.MAP, [1]),
        (Kind.MAP, {"a": object()}),
        (Kind.MAP, {1: 2}),
        (Kind.MAP, {"\ud800": 2}),
        (Kind.TIME, -1),
        (Kind.TIME, "2026-01-05T10:00:00"),
        (Kind.TIME, "yesterday"),
        (Kind.TIME, 1.5),
        (Kind.REFERENCE, 0),
        (Kind.REFERENCE, LAST_ID + 1),
        (Kind.REFERENCE, "1"),
    ],
)
def test_a_field_refuses_what_is_none_of_its_kind(kind, value):
    with pytest.raises(FieldError, match=r"^note\.x: "):
        accept(kind, value, what="note.x")


def test_what_a_field_holds_is_not_what_a_script_goes_on_changing():
    given = [["a"]]
    held = accept(Kind.LIST, given, what="x")
    given[0].append("b")
    assert held == [["a"]]


def test_an_object_gets_the_defaults_and_needs_what_is_required():
    model = note(
        fields={
            "title": {"type": "string", "required": True},
            "rank": {"type": "int", "initial": 3},
        },
        indexes=[],
    )
    assert model.complete({"title": "a"}) == {"title": "a", "rank": 3}
    with pytest.raises(FieldError, match=r"note\.title is required"):
        model.complete({"title": None})
    with pytest.raises(FieldError, match="no field titel, only title, rank"):
        model.complete({"titel": "a"})


def test_an_object_has_an_end():
    with pytest.raises(FieldError, match="too large"):
        note().write({"title": "a" * (1 << 20)})


# --- how values are ordered -----------------------------------------------------------


@given(texts, texts, ids, ids)
def test_texts_stand_in_the_order_of_their_bytes(one, other, first, second):
    def stands(text, object_id):
        return member(key_of(Kind.STRING, text, what="x"), object_id)

    expected = (one.encode(), first) < (other.encode(), second)
    assert (stands(one, first) < stands(other, second)) == expected


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_stand_in_their_order(one, other):
    def stands(number):
        return key_of(Kind.INT, number, what="x")

    assert (stands(one) < stands(other)) == (one < other)


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_numbers_stand_in_their_order(one, other):
    def stands(number):
        return key_of(Kind.FLOAT, number, what="x")

    assert (stands(one) < stands(other)) == (one < other)
    assert (stands(one) == stands(other)) == (one == other)


@given(texts, texts, ids)
def test_one_text_is_found_and_no_other(sought, text, object_id):
    key = key_of(Kind.STRING, sought, what="x")
    stands = member(key_of(Kind.STRING, text, what="x"), object_id)
    assert (first_of(key) <= stands < behind(key)) == (sought == text)


@given(st.text(alphabet="\0aÿ", max_size=3), texts, ids)
def test_a_beginning_is_found_and_no_other(prefix, text, object_id):
    stands = member(key_of(Kind.STRING, text, what="x"), object_id)
    first, end = beginnings(prefix, what="x")
    is_found = first <= stands and (end is None or stands < end)
    assert is_found == text.startswith(prefix)


def test_long_texts_are_told_apart_behind_what_stands_in_the_index():
    long = "a" * (3 * WHOLE_KEY)
    keys = {
        key_of(Kind.STRING, text, what="x") for text in (long, long + "b", long[:-1])
    }
    assert len(keys) == 3
    assert all(len(key) < 2 * WHOLE_KEY for key in keys)
    first, end = beginnings("a" * WHOLE_KEY, what="x")
    assert end is not None
    assert all(first <= member(key, 1) < end for key in keys)
    with pytest.raises(FieldError, match="beginnings of up to"):
        beginnings("a" * (WHOLE_KEY + 1), what="x")


def test_a_list_stands_once_under_each_of_its_items():
    assert keys_of(Kind.LIST, ["b", "a", "b"], what="x") == (b"b", b"a")
    assert keys_of(Kind.LIST, None, what="x") == ()
    with pytest.raises(FieldError, match="an item of x"):
        keys_of(Kind.LIST, [1], what="x")
    with pytest.raises(FieldError, match="more than"):
        keys_of(Kind.LIST, [str(i) for i in range(MOST_KEYS + 1)], what="x")


# --- how a model changes --------------------------------------------------------------


def changed(spec):
    change = change_of(declared(note()), parse_model("note", spec))
    assert change is not None
    return change


def test_the_same_model_is_no_change():
    assert change_of(declared(note()), note()) is None


def test_a_new_index_is_built_and_one_that_is_gone_is_dropped():
    change = changed(
        {"fields": {**NOTE["fields"], "due": "time"}, "indexes": ["title", "due"]}
    )
    assert change.to_build == ("due",)
    assert set(change.to_drop) == {"tags", "rank"}
    assert change.model.version == 2
    assert change.only_empty is None


def test_an_index_is_built_again_where_another_default_stands_in_it():
    fields = {**NOTE["fields"], "rank": {"type": "int", "initial": 1}}
    assert changed({**NOTE, "fields": fields}).to_build == ("rank",)


def test_a_field_does_not_change_its_type():
    with pytest.raises(ModelError, match="needs another name"):
        changed({**NOTE, "fields": {**NOTE["fields"], "rank": "string"}})


@pytest.mark.parametrize(
    "spec",
    [
        {
            **NOTE,
            "fields": {**NOTE["fields"], "due": {"type": "time", "required": True}},
        },
        {
            **NOTE,
            "fields": {**NOTE["fields"], "rank": {"type": "int", "required": True}},
        },
        {**NOTE, "indexes": ["tags", "rank", {"field": "title", "unique": True}]},
        {
            "fields": {**NOTE["fields"], "due": {"type": "time", "initial": 3}},
            "indexes": [{"field": "due", "unique": True}],
        },
    ],
)
def test_what_existing_objects_may_not_keep_begins_without_objects(spec):
    assert changed(spec).only_empty is not None


def test_a_list_that_exists_gets_its_index_without_objects():
    bare = declared(note(indexes=[]))
    change = change_of(bare, note(indexes=["tags"]))
    assert change is not None
    assert change.only_empty is not None


def test_a_new_field_may_be_unique_from_the_start():
    fields = {**NOTE["fields"], "slug": "string", "words": "list"}
    change = changed({"fields": fields, "indexes": [{"field": "slug", "unique": True}]})
    assert change.only_empty is None


def test_a_field_that_comes_again_does_not_find_what_an_earlier_one_left():
    first = declared(note())
    without = change_of(first, note(fields={"title": "string"}, indexes=[]))
    assert without is not None
    again = change_of(
        without.model, note(fields={"title": "string", "rank": "string"}, indexes=[])
    )
    assert again is not None
    stored = json.dumps({"title": "a", "rank": 3}).encode()
    assert again.model.read([(1, stored)]) == [{"title": "a", "rank": None}]
