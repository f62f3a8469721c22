import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from horus_celery.errors import MalformedError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import (
    MAX_BODY,
    MAX_TITLE,
    Manifest,
    make_manifest,
    make_step,
)

NOW_MS = 1_760_000_000_000
NOW = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)
MS_PER_DAY = 86_400_000


def step(name="a", **changes):
    return {
        "name": name,
        "depends_on": [],
        "when": "all_success",
        "supervisor": None,
        "on_failure": "fail",
    } | changes


WIRE: dict[str, Any] = {
    "v": 1,
    "id": "0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77",
    "aud": "hero",
    "caller_id": "alice",
    "context_id": "billing",
    "name": "Nightly étl",
    "steps": [
        step("extract"),
        step("clean", depends_on=["extract"], on_failure="continue"),
        step("load", depends_on=["clean", "extract"], when="all_done"),
        step("alarm", depends_on=["load"], when="one_failed", supervisor="far"),
    ],
    "max_parallel": 4,
    "created_at": NOW_MS,
    "expires_at": NOW_MS + MS_PER_DAY,
}
#: Of that manifest, signed by the key whose seed is 32 bytes of 1; kept from the first
#: time, and made without any code of ours.
GOLDEN_DIGEST = "e963f9f6377ce3ee009a06816009c750784209d3dcb92100bbff19369db9ac4c"
GOLDEN_SIG = (
    "432384e43bfc314c4183dd71d227013d8ba7f482d9719e96941270bed9cec4ac"
    "9ce8127fd54db655805bca28b9005ed0d297bbafa5e2662fe3b7ac8b4739fa04"
)


def read(**changes):
    return Manifest.from_wire(WIRE | changes)


def reason_of(value):
    with pytest.raises(MalformedError) as refusal:
        Manifest.from_wire(value)
    return refusal.value.reason


def test_a_manifest_has_the_bytes_that_it_always_had():
    body = Manifest.from_wire(WIRE).body()
    plain = json.dumps(
        WIRE, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    assert body == plain
    kind = "application/vnd.horus.workflow.v1+json"
    frame = f"DSSEv1 {len(kind)} {kind} {len(plain)} ".encode()
    assert hashlib.sha256(frame + plain).hexdigest() == GOLDEN_DIGEST
    envelope = dsse.sign(dsse.WORKFLOW, body, [KeyPair.from_seed(b"\1" * 32)])
    assert envelope.digest == GOLDEN_DIGEST
    assert envelope.signatures[0].sig.hex() == GOLDEN_SIG


def test_a_manifest_is_no_job():
    envelope = dsse.sign(dsse.WORKFLOW, b"{}", [KeyPair.from_seed(b"\1" * 32)])
    with pytest.raises(MalformedError) as refusal:
        dsse.from_wire(dsse.to_wire(envelope), dsse.JOB)
    assert refusal.value.reason == "env.type"


def test_a_manifest_is_written_as_it_was_read():
    assert read().to_wire() == WIRE


@pytest.mark.parametrize("field", WIRE)
def test_no_field_may_be_missing(field):
    rest = {name: value for name, value in WIRE.items() if name != field}
    assert reason_of(rest) == "schema.fields"


def test_no_field_may_be_added():
    assert reason_of(WIRE | {"nice": 1}) == "schema.fields"


@pytest.mark.parametrize("field", sorted(step()))
def test_no_field_of_a_step_may_be_missing(field):
    rest = {name: value for name, value in step().items() if name != field}
    assert reason_of(WIRE | {"steps": [rest]}) == "schema.steps"


def test_no_field_of_a_step_may_be_added():
    assert reason_of(WIRE | {"steps": [step(job="x")]}) == "schema.steps"


@pytest.mark.parametrize("value", [None, 1, "text", [], [WIRE]])
def test_what_is_no_object_is_no_manifest(value):
    assert reason_of(value) == "schema.fields"


@pytest.mark.parametrize("field", sorted(WIRE.keys() - {"max_parallel"}))
def test_only_max_parallel_may_be_null(field):
    assert reason_of(WIRE | {field: None}) == f"schema.{field}"


@pytest.mark.parametrize("field", sorted(step().keys() - {"supervisor"}))
def test_only_the_supervisor_of_a_step_may_be_null(field):
    assert reason_of(WIRE | {"steps": [step(**{field: None})]}) == "schema.steps"


NO_NAMES = ["", "a b", "a/b", ".a", "a\n", "a\0", "é", "a" * 129, "*", 7, True, [], {}]


@pytest.mark.parametrize("field", ["aud", "caller_id", "context_id"])
@pytest.mark.parametrize("value", NO_NAMES, ids=ascii)
def test_what_is_no_name_is_refused(field, value):
    assert reason_of(WIRE | {field: value}) == f"schema.{field}"


@pytest.mark.parametrize("field", ["name", "supervisor"])
@pytest.mark.parametrize("value", NO_NAMES, ids=ascii)
def test_what_is_no_name_is_no_name_in_a_step(field, value):
    assert reason_of(WIRE | {"steps": [step(**{field: value})]}) == "schema.steps"


WRONG = [
    ("v", 2),
    ("v", True),
    ("v", "1"),
    ("id", WIRE["id"].upper()),
    ("id", WIRE["id"].replace("-", "")),
    ("id", WIRE["id"] + "\n"),
    ("name", 1),
    ("name", "a\0"),
    ("name", "a" * (MAX_TITLE + 1)),
    ("steps", []),
    ("steps", {}),
    ("steps", "abc"),
    ("steps", ["a"]),
    ("max_parallel", 0),
    ("max_parallel", -1),
    ("max_parallel", True),
    ("max_parallel", "1"),
    ("max_parallel", 2**53),
    ("created_at", -1),
    ("created_at", True),
    ("created_at", 253_402_300_800_000),
    ("created_at", "2025-10-09T08:53:20Z"),
    ("expires_at", -1),
    ("expires_at", NOW_MS + 7 * MS_PER_DAY + 1),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda one: ascii(one)[:40])
def test_a_field_that_is_not_as_it_must_be_is_named(field, value):
    assert reason_of(WIRE | {field: value}) == f"schema.{field}"


WRONG_IN_A_STEP = [
    ("depends_on", "a"),
    ("depends_on", {}),
    ("depends_on", ["a b"]),
    ("depends_on", [1]),
    ("depends_on", ["x", "y", "x"]),
    ("when", "ALL_SUCCESS"),
    ("when", "always"),
    ("when", True),
    ("on_failure", "stop"),
    ("on_failure", ""),
]


@pytest.mark.parametrize(("field", "value"), WRONG_IN_A_STEP)
def test_a_field_of_a_step_that_is_not_as_it_must_be_is_named(field, value):
    with pytest.raises(MalformedError, match=rf"steps\.1\.{field}") as refusal:
        Manifest.from_wire(WIRE | {"steps": [step("x"), step(**{field: value})]})
    assert refusal.value.reason == "schema.steps"


RIGHT = [
    ("name", ""),
    ("name", "a" * MAX_TITLE),
    ("max_parallel", None),
    ("max_parallel", 1),
    ("max_parallel", 2**53 - 1),
    ("expires_at", 0),
    ("expires_at", NOW_MS + 7 * MS_PER_DAY),
    ("steps", [step("a" * 128, supervisor="A.b_c@d:e-f")]),
    # Whether they hang together is for the graph to say.
    ("steps", [step("a", depends_on=["a", "nobody"]), step("a")]),
    *[
        ("steps", [step(when=when, on_failure=on_failure)])
        for when in ("all_success", "all_done", "one_failed", "none_failed")
        for on_failure in ("fail", "continue")
    ],
]


@pytest.mark.parametrize(("field", "value"), RIGHT, ids=lambda one: ascii(one)[:40])
def test_a_field_at_the_edge_of_what_is_allowed_is_kept(field, value):
    assert read(**{field: value}).to_wire() == WIRE | {field: value}


def test_a_refusal_names_the_first_wrong_step_however_many_there_are():
    with pytest.raises(MalformedError) as refusal:
        Manifest.from_wire(WIRE | {"steps": [step("x"), *[step(when=1)] * 100_000]})
    assert refusal.value.reason == "schema.steps"
    assert refusal.value.detail.startswith("steps.1.when: ")


def test_a_manifest_never_changes():
    one = read()
    with pytest.raises(ValidationError):
        one.max_parallel = 7
    with pytest.raises(ValidationError):
        one.steps[0].when = "all_done"


def test_a_made_manifest_has_the_defaults_of_a_client():
    one = make_manifest(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        name="x",
        steps=[make_step("a")],
        now=NOW,
    )
    assert [each.to_wire() for each in one.steps] == [step("a")]
    assert (one.max_parallel, one.created_at) == (None, NOW)
    assert one.expires_at == NOW + timedelta(days=1)
    assert uuid.UUID(one.id).version == 4


def test_everything_about_a_made_manifest_can_be_chosen():
    one = make_manifest(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        name="Nightly étl",
        steps=[make_step(**each) for each in WIRE["steps"]],
        now=NOW,
        workflow_id=WIRE["id"],
        max_parallel=4,
        expires_at=NOW + timedelta(days=1),
    )
    assert one.to_wire() == WIRE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"when": "never"}, "when"),
        ({"depends_on": ["b", "b"]}, "depends_on"),
        ({"supervisor": ""}, "supervisor"),
        ({"on_failure": "x"}, "on_failure"),
    ],
)
def test_a_step_that_nobody_would_accept_cannot_be_made(changes, field):
    with pytest.raises(MalformedError) as refusal:
        make_step(**{"name": "a"} | changes)
    assert refusal.value.reason == f"schema.{field}"


def test_the_largest_workflow_fits_into_a_body():
    # 100,000 steps with five parents each, and names of 20 characters.
    name = "n" * 20
    one = len(canonical.encode(step(name, depends_on=[name] * 5))) + 1
    assert 100_000 * one < MAX_BODY


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,20}", fullmatch=True)
STEPS = st.builds(
    make_step,
    NAMES,
    depends_on=st.lists(NAMES, unique=True, max_size=5),
    when=st.sampled_from(["all_success", "all_done", "one_failed", "none_failed"]),
    supervisor=st.none() | NAMES,
    on_failure=st.sampled_from(["fail", "continue"]),
)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.lists(STEPS, min_size=1, max_size=8),
    st.none() | st.integers(1, 2**53 - 1),
)
@settings(deadline=None)
def test_what_was_made_is_read_again(name, steps, max_parallel):
    one = make_manifest(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        name=name,
        steps=steps,
        now=NOW,
        max_parallel=max_parallel,
    )
    assert Manifest.from_wire(canonical.parse(one.body())) == one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(WIRE)), JSON)
@settings(deadline=None)
def test_whatever_a_field_holds_it_is_read_or_named(field, value):
    try:
        one = read(**{field: value})
    except MalformedError as refusal:
        # An expiry is measured from the creation.
        later = "expires_at" if field == "created_at" else field
        assert refusal.reason in {f"schema.{field}", f"schema.{later}"}  # noqa: PT017
    else:
        assert one.to_wire() == WIRE | {field: value}
