import json

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.errors import MalformedError
from horus_celery.statements import canonical

MAX = 2**53 - 1

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
keys = st.text(st.characters(max_codepoint=127, exclude_characters="\0"))
restricted = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX, MAX) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=30,
)


#: What orjson reads and writes, whether we take it or not.
loose = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=30,
)


def is_strict(value):
    match value:
        case dict():
            return all(map(is_strict, value.values()))
        case list():
            return all(map(is_strict, value))
        case float():
            return False
        case int():
            return -MAX <= value <= MAX
        case _:
            return True


def reason_of(body):
    with pytest.raises(MalformedError) as refusal:
        canonical.parse(body)
    return refusal.value.reason


def reason_of_writing(value):
    with pytest.raises(MalformedError) as refusal:
        canonical.encode(value)
    return refusal.value.reason


@given(restricted)
@settings(deadline=None)
def test_on_the_restricted_form_it_equals_rfc8785(value):
    assert canonical.encode(value) == rfc8785.dumps(value)


@given(restricted)
@settings(deadline=None)
def test_what_was_written_is_read_again(value):
    assert canonical.parse(canonical.encode(value)) == value


@given(restricted)
@settings(deadline=None)
def test_only_one_form_of_a_value_is_read(value):
    body = canonical.encode(value)
    for other in (
        json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode(),
        json.dumps(value, ensure_ascii=False).encode(),
        body + b"\n",
        b" " + body,
    ):
        if other != body:
            assert reason_of(other) == "json.not_canonical"


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
@settings(deadline=None)
def test_any_bytes_are_the_form_of_their_value_or_refused(body):
    try:
        value = canonical.parse(body)
    except MalformedError:
        return
    assert canonical.encode(value) == body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json.syntax"),
        (b"{", "json.syntax"),
        (b"{}{}", "json.syntax"),
        (b"'a'", "json.syntax"),
        (b"01", "json.syntax"),
        (b"+1", "json.syntax"),
        (b'"a\nb"', "json.syntax"),
        (b'"\0"', "json.syntax"),
        (b"\xef\xbb\xbf{}", "json.syntax"),
        (b'"\xff"', "json.utf8"),
        (b'"\xc0\x80"', "json.utf8"),
        (b'"\xed\xa0\x80"', "json.utf8"),
        ('"a"'.encode("utf-16"), "json.utf8"),
        (b'{"a":1,"a":1}', "json.duplicate_key"),
        (b'[{"b":{"a":1,"a":2}}]', "json.duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "json.duplicate_key"),
        (b"1.0", "json.float"),
        (b"-0.0", "json.float"),
        (b"1e2", "json.float"),
        (b"1e999", "json.float"),
        (b"NaN", "json.const"),
        (b"[Infinity]", "json.const"),
        (b"-Infinity", "json.const"),
        (b"-0", "json.not_canonical"),
        (b"9007199254740992", "json.not_canonical"),
        (b"-9007199254740992", "json.not_canonical"),
        (b"1" * 5000, "json.not_canonical"),
        (b'"\\ud800"', "json.not_canonical"),
        (b'{"\\ud800":1}', "json.not_canonical"),
        (b'"\\u20ac"', "json.not_canonical"),
        (b'"\\/"', "json.not_canonical"),
        (b'"\\u001F"', "json.not_canonical"),
        (b'{"b":1,"a":2}', "json.not_canonical"),
        (b'{"a": 1}', "json.not_canonical"),
        ('{"é":1}'.encode(), "json.not_canonical"),
        ('[{"a":{"é":1}}]'.encode(), "json.not_canonical"),
        (b"[" * 33 + b"]" * 33, "json.syntax"),
        (b"[" * 100_000, "json.syntax"),
        (b'{"a":' * 100_000, "json.syntax"),
        (b"[" * 100_000 + b"]" * 100_000, "json.syntax"),
    ],
)
def test_what_is_not_strict_and_canonical_is_refused(body, reason):
    assert reason_of(body) == reason


@pytest.mark.parametrize(
    "body",
    [
        b"9007199254740991",
        b"-9007199254740991",
        b"[" * 32 + b"]" * 32,
        b'{"a":' * 31 + b"{}" + b"}" * 31,
        b'"' + b"[{" * 100 + b'"',
        b"[" + b"[]," * 100 + b"[]]",
        '"é €😀\x7f\\u001f\\n"'.encode(),
    ],
)
def test_what_is_strict_and_canonical_is_read(body):
    assert canonical.encode(canonical.parse(body)) == body


def test_a_null_character_is_left_to_the_schema():
    assert canonical.parse(b'"a\\u0000b"') == "a\0b"


@given(loose)
@settings(deadline=None)
def test_what_orjson_would_write_is_read_if_it_is_strict_and_else_refused(value):
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    for read in (canonical.parse, canonical.load):
        if is_strict(value):
            assert read(text) == value
        else:
            with pytest.raises(MalformedError) as refusal:
                read(text)
            assert refusal.value.reason in {"json.float", "json.not_canonical"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"1.5", "json.float"),
        (b'{"a":[{"b":0.1}]}', "json.float"),
        (b"[1e+100]", "json.float"),
        (b"[9007199254740992]", "json.not_canonical"),
        (b"18446744073709551615", "json.not_canonical"),
        (b"[" * 33 + b"]" * 33, "json.syntax"),
        (b'{"a":' * 32 + b"[]" + b"}" * 32, "json.syntax"),
    ],
)
def test_what_orjson_would_write_the_same_is_refused_all_the_same(text, reason):
    assert orjson.dumps(orjson.loads(text)) == text
    for read in (canonical.parse, canonical.load):
        with pytest.raises(MalformedError) as refusal:
            read(text)
        assert refusal.value.reason == reason


def test_a_refusal_does_not_quote_what_it_refuses():
    for body in (b'{"secret":1.5}', b'{"secret":1,"secret":2}', b'["secret" x]'):
        with pytest.raises(MalformedError) as refusal:
            canonical.parse(body)
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, "json.float"),
        (float("nan"), "json.float"),
        (MAX + 1, "json.not_canonical"),
        (-MAX - 1, "json.not_canonical"),
        ("a\0b", "json.not_canonical"),
        ("\ud800", "json.not_canonical"),
        ({"\0": 1}, "json.not_canonical"),
        ({"é": 1}, "json.not_canonical"),
        ({1: 1}, "json.not_canonical"),
        ({"a": {None: 1}}, "json.not_canonical"),
        (b"a", "json.not_canonical"),
        ([{1, 2}], "json.not_canonical"),
    ],
)
def test_what_lies_outside_the_restricted_form_is_not_written(value, reason):
    assert reason_of_writing(value) == reason


def test_what_is_nested_too_deep_is_not_written():
    value: list[object] = []
    for _ in range(31):
        value = [value]
    assert canonical.parse(canonical.encode(value)) == value
    assert reason_of_writing([value]) == "json.syntax"


def test_a_tuple_is_written_as_a_list():
    assert canonical.encode({"b": (1, 2), "a": None}) == b'{"a":null,"b":[1,2]}'


def test_text_that_is_strict_may_be_loaded_in_any_form():
    assert canonical.load(' { "b": 1, "a": [true] } ') == {"a": [True], "b": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1,"a":2}', "json.duplicate_key"),
        ("1.5", "json.float"),
        ("NaN", "json.const"),
        ("[" * 33 + "]" * 33, "json.syntax"),
    ],
)
def test_text_that_is_not_strict_is_not_loaded(text, reason):
    with pytest.raises(MalformedError) as refusal:
        canonical.load(text)
    assert refusal.value.reason == reason
