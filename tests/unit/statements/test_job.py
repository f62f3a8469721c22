import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from horus_celery.errors import MalformedError
from horus_celery.statements import canonical
from horus_celery.statements.job import InputRef, Job, Limits, WorkflowRef, make_job

VECTORS = Path(__file__).parents[2] / "vectors"
WIRE = json.loads((VECTORS / "job_golden.json").read_text("utf-8"))["job"]
NOW = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)
HEX = "0" * 64
MS_PER_DAY = 86_400_000
LIMITS = WIRE["limits"]

DEFAULTS: dict[str, Any] = {
    "aud": "hero",
    "caller_id": "alice",
    "context_id": "billing",
    "executor": "python",
    "payload": "print(1)",
    "now": NOW,
}


def job(**changes):
    return make_job(**DEFAULTS | changes)


def reason_of(value):
    with pytest.raises(MalformedError) as refusal:
        Job.from_wire(value)
    return refusal.value.reason


NAME_FIELDS = ["aud", "caller_id", "context_id", "executor", "runner"]
NO_NAMES = [
    "",
    " ",
    "a b",
    "a/b",
    "../x",
    ".a",
    "-a",
    "a\n",
    "a\0",
    "é",
    "a\u2028",
    "a" * 129,
    "*",
    7,
    True,
    [],
    {},
]


@pytest.mark.parametrize("field", NAME_FIELDS)
@pytest.mark.parametrize("value", NO_NAMES, ids=ascii)
def test_what_is_no_name_is_refused(field, value):
    assert reason_of(WIRE | {field: value}) == f"schema.{field}"


@pytest.mark.parametrize("field", NAME_FIELDS)
@pytest.mark.parametrize("value", ["a", "0", "a" * 128, "A.b_c@d:e-f"])
def test_what_is_a_name_is_read(field, value):
    assert Job.from_wire(WIRE | {field: value}).to_wire()[field] == value


@pytest.mark.parametrize("field", set(WIRE) - {"runner", "workflow"})
def test_only_runner_and_workflow_may_be_null(field):
    assert reason_of(WIRE | {field: None}) == f"schema.{field}"


@pytest.mark.parametrize("field", WIRE)
def test_no_field_may_be_missing(field):
    rest = {name: value for name, value in WIRE.items() if name != field}
    assert reason_of(rest) == "schema.fields"


def test_no_field_may_be_added():
    assert reason_of(WIRE | {"nice": 1}) == "schema.fields"


def test_a_missing_field_is_named_before_a_wrong_one():
    rest = {name: value for name, value in WIRE.items() if name != "workflow"}
    assert reason_of(rest | {"v": 2, "timeout": 0}) == "schema.fields"


@pytest.mark.parametrize("value", [None, 1, "text", [], [WIRE]])
def test_what_is_no_object_is_no_job(value):
    assert reason_of(value) == "schema.fields"


WRONG = [
    ("v", 0),
    ("v", 2),
    ("v", True),
    ("v", "1"),
    ("id", "0198F3A0-7C1E-7D55-9F6B-0D4C8A3B1E77"),
    ("id", "0198f3a07c1e7d559f6b0d4c8a3b1e77"),
    ("id", "{0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77}"),
    ("id", "0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77\n"),
    ("payload", "a\0b"),
    ("payload", 1),
    ("payload", ["a"]),
    ("args", "abc"),
    ("args", {"a": "b"}),
    ("args", [1]),
    ("args", ["a\0"]),
    ("args", ["a"] * 257),
    ("env_vars", []),
    ("env_vars", {"A": 1}),
    ("env_vars", {"A": "a\0"}),
    ("env_vars", {"A=B": "x"}),
    ("env_vars", {"": "x"}),
    ("env_vars", {"1A": "x"}),
    ("env_vars", {"A\n": "x"}),
    ("env_vars", {"A" * 129: "x"}),
    ("env_vars", {f"A{number}": "" for number in range(257)}),
    ("secrets", ["a/b"]),
    ("secrets", [""]),
    ("secrets", "abc"),
    ("inputs", []),
    ("inputs", {"x": {"from": "00", "max_bytes": 1}}),
    ("inputs", {"x": {"from": HEX.replace("0", "A"), "max_bytes": 1}}),
    ("inputs", {"x": {"from": HEX, "max_bytes": -1}}),
    ("inputs", {"x": {"from": HEX, "max_bytes": True}}),
    ("inputs", {"x": {"from": HEX}}),
    ("inputs", {"x": {"from": HEX, "max_bytes": 1, "more": 1}}),
    ("inputs", {"x": {"source": HEX, "max_bytes": 1}}),
    ("inputs", {"a/b": {"from": HEX, "max_bytes": 1}}),
    ("inputs", {f"x{number}": {"from": HEX, "max_bytes": 1} for number in range(65)}),
    ("needs", [HEX + "0"]),
    ("needs", [HEX + "\n"]),
    ("needs", [HEX] * 1025),
    ("timeout", 0),
    ("timeout", 86_401),
    ("timeout", -1),
    ("timeout", True),
    ("timeout", "60"),
    ("limits", {}),
    ("limits", LIMITS | {"cpu_s": 0}),
    ("limits", LIMITS | {"cpu_s": 86_401}),
    ("limits", LIMITS | {"memory_mb": 15}),
    ("limits", LIMITS | {"memory_mb": 1_048_577}),
    ("limits", LIMITS | {"procs": 0}),
    ("limits", LIMITS | {"procs": 4097}),
    ("limits", LIMITS | {"output_kb": 0}),
    ("limits", LIMITS | {"output_kb": 1_048_577}),
    ("limits", LIMITS | {"procs": True}),
    ("limits", LIMITS | {"more": 1}),
    ("net", "all"),
    ("net", "NONE"),
    ("net", ""),
    ("attempts", 0),
    ("attempts", 11),
    ("attempts", True),
    ("created_at", -1),
    ("created_at", 253_402_300_800_000),
    ("created_at", 2**53 - 1),
    ("created_at", "2025-10-09T08:53:20Z"),
    ("expires_at", -1),
    ("expires_at", 2**53 - 1),
    ("expires_at", WIRE["created_at"] + 7 * MS_PER_DAY + 1),
    ("workflow", {}),
    ("workflow", {"id": WIRE["id"], "step": "s", "manifest": HEX, "more": 1}),
    ("workflow", {"id": WIRE["id"].upper(), "step": "s", "manifest": HEX}),
    ("workflow", {"id": WIRE["id"], "step": "a b", "manifest": HEX}),
    ("workflow", {"id": WIRE["id"], "step": "s", "manifest": "00"}),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_field_that_is_not_as_it_must_be_is_named(field, value):
    assert reason_of(WIRE | {field: value}) == f"schema.{field}"


RESERVED = [
    "LD_PRELOAD",
    "LD_",
    "DYLD_INSERT_LIBRARIES",
    "HORUS_RESULT",
    "PATH",
    "HOME",
    "SHELL",
    "IFS",
    "BASH_ENV",
    "ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_variable_is_refused_by_name(name):
    with pytest.raises(MalformedError, match=f"{name} is reserved") as refusal:
        Job.from_wire(WIRE | {"env_vars": {"A": "", name: "x"}})
    assert refusal.value.reason == "schema.env_vars"


@pytest.mark.parametrize("name", ["path", "PATHS", "LD", "MY_LD_PATH", "TMPDIR", "_"])
def test_a_variable_that_only_looks_reserved_is_free(name):
    assert Job.from_wire(WIRE | {"env_vars": {name: "x"}}).env_vars == {name: "x"}


RIGHT = [
    ("args", ["", "--flag", "é\n"] + ["x"] * 253),
    ("env_vars", {f"A{number}": "é\n" for number in range(256)}),
    ("secrets", ["token", "a.b"]),
    ("inputs", {f"x{n}": {"from": HEX, "max_bytes": 0} for n in range(64)}),
    ("needs", [HEX] * 1024),
    ("timeout", 1),
    ("timeout", 86_400),
    ("limits", {"memory_mb": 16, "cpu_s": 1, "procs": 1, "output_kb": 1}),
    ("net", "herodb"),
    ("net", "host"),
    ("attempts", 10),
    ("expires_at", WIRE["created_at"] + 7 * MS_PER_DAY),
    ("expires_at", 0),
    ("workflow", {"id": WIRE["id"], "step": "s", "manifest": HEX}),
    ("payload", ""),
    ("payload", "\x01\x7f\u2028é😀"),
]


@pytest.mark.parametrize(("field", "value"), RIGHT)
def test_a_field_at_the_edge_of_what_is_allowed_is_kept(field, value):
    read = Job.from_wire(WIRE | {field: value})
    assert read.to_wire() == WIRE | {field: value}


def test_a_refusal_shows_no_value():
    hostile = "s3cret"
    wrong = [("payload", hostile + "\0"), ("args", [hostile + "\0"]), ("id", hostile)]
    for field, value in wrong:
        with pytest.raises(MalformedError) as refusal:
            Job.from_wire(WIRE | {field: value})
        assert hostile not in str(refusal.value)


def test_a_refusal_shows_a_hostile_name_in_short_ascii():
    with pytest.raises(MalformedError) as refusal:
        Job.from_wire(WIRE | {"\x1b[31mé\n" + "x" * 1000: 1})
    assert str(refusal.value).isascii()
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


def test_a_job_never_changes():
    one = job(env_vars={"A": "1"}, args=["a"])
    with pytest.raises(ValidationError):
        one.timeout = timedelta(seconds=1)
    with pytest.raises(TypeError):
        one.env_vars["A"] = "2"
    assert one.args == ("a",)


def test_what_was_read_does_not_change_with_what_it_was_read_from():
    source = {"A": "1"}
    one = Job.from_wire(WIRE | {"env_vars": source})
    source["A"] = "2"
    assert one.env_vars == {"A": "1"}


def test_a_made_job_has_the_defaults_of_a_client():
    one = job()
    assert one.timeout == timedelta(seconds=60)
    assert one.limits == Limits(memory_mb=512, cpu_s=60, procs=64, output_kb=1024)
    assert (one.net, one.attempts, one.runner, one.workflow) == ("none", 1, None, None)
    assert one.created_at == NOW
    assert one.expires_at == NOW + timedelta(hours=1, seconds=60)
    assert uuid.UUID(one.id).version == 4
    assert one.id != job().id


def test_a_longer_timeout_means_more_cpu_time_and_a_later_expiry():
    one = job(timeout=timedelta(hours=24))
    assert one.limits.cpu_s == 86_400
    assert one.expires_at == NOW + timedelta(hours=25)
    assert job(timeout=timedelta(seconds=1)).limits.cpu_s == 60


def test_a_part_of_a_second_is_rounded_up():
    assert job(timeout=timedelta(seconds=1.2)).timeout == timedelta(seconds=2)


def test_everything_about_a_made_job_can_be_chosen():
    chosen = {
        "job_id": WIRE["id"],
        "runner": "python_runner_1",
        "args": ("a",),
        "env_vars": {"A": "1"},
        "secrets": ("token",),
        "inputs": {"x": InputRef.from_wire({"from": HEX, "max_bytes": 5})},
        "needs": (HEX,),
        "timeout": timedelta(seconds=5),
        "limits": Limits(memory_mb=16, cpu_s=1, procs=1, output_kb=1),
        "net": "host",
        "attempts": 3,
        "expires_at": NOW + timedelta(days=7),
        "workflow": WorkflowRef(id=WIRE["id"], step="s", manifest=HEX),
    }
    one = job(**chosen)
    assert {name: getattr(one, name.removeprefix("job_")) for name in chosen} == chosen
    assert Job.from_wire(canonical.parse(one.body())) == one


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timeout": timedelta(days=2)}, "timeout"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 30}, "timeout"),
        ({"args": "--all"}, "args"),
        ({"secrets": "token"}, "secrets"),
        ({"needs": HEX}, "needs"),
        ({"context_id": "a b"}, "context_id"),
        ({"env_vars": {"PATH": "/"}}, "env_vars"),
        ({"expires_at": NOW + timedelta(days=8)}, "expires_at"),
        ({"payload": "\0"}, "payload"),
        ({"job_id": "1"}, "id"),
    ],
)
def test_a_job_that_nobody_would_accept_cannot_be_made(changes, field):
    with pytest.raises(MalformedError) as refusal:
        job(**changes)
    assert refusal.value.reason == f"schema.{field}"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))),
    st.integers(1, 86_400),
)
@settings(deadline=None)
def test_what_was_made_is_read_again(payload, args, seconds):
    one = job(payload=payload, args=args, timeout=timedelta(seconds=seconds))
    assert Job.from_wire(canonical.parse(one.body())) == one
