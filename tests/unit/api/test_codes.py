"""Every error has a code, and every code is what the protocol says."""

import inspect
import re

import pytest

from api.codes import CODES, MESSAGES, RETRYABLE, Code, code_of, to_wire
from api.jsonrpc import (
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    ParseError,
)
from horus_celery import errors

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.HorusError)
]
#: They only hold others together, and nobody raises them with a reason of their own.
TRUNKS = {errors.HorusError, errors.RefusedError}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code(kind):
    assert (code_of(kind) is Code.INTERNAL) == (kind in TRUNKS)


def test_no_line_of_the_table_is_for_nobody():
    assert set(CODES) <= set(ERRORS)


def test_every_code_has_a_message():
    assert set(MESSAGES) == set(Code)


@pytest.mark.parametrize("kind", set(ERRORS) - TRUNKS, ids=lambda kind: kind.__name__)
def test_what_an_error_says_of_a_second_try_its_code_says(kind):
    if issubclass(kind, errors.ConfigurationError):
        return  # for a caller it is as if the deployment were away
    assert kind.retryable == (code_of(kind) in RETRYABLE)


def test_the_codes_are_those_of_the_protocol(protocol_text):
    said = re.search(r"^Errors: .*?^$", protocol_text, re.MULTILINE | re.DOTALL)
    assert said is not None
    known = {int(code) for code in re.findall(r"-32\d{3}", said[0])}
    standard = {-32700, -32600, -32601, -32602, -32603}
    assert {code.value for code in Code} <= known | standard


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("env.size", -32010),
        ("json.float", -32010),
        ("schema.timeout", -32010),
        ("sig.none", -32011),
        ("bind.aud", -32012),
        ("auth.key", -32012),
        ("time.expired", -32013),
        ("workflow.cycle", -32014),
    ],
)
def test_a_refusal_has_the_code_of_its_branch(reason, code):
    branch = {
        "env": errors.MalformedError,
        "json": errors.MalformedError,
        "schema": errors.MalformedError,
        "sig": errors.SignatureError,
        "bind": errors.NotCoveredError,
        "auth": errors.NotCoveredError,
        "time": errors.TimeError,
        "workflow": errors.WorkflowError,
    }[reason.partition(".")[0]]
    shown = to_wire(branch(reason, "because"))
    assert shown["code"] == code
    # Errors of a workflow are named in the detail as well (section 6).
    said = f"{reason}: because" if code == Code.WORKFLOW else "because"
    assert shown["data"] == {"reason": reason, "detail": said, "retryable": False}


@pytest.mark.parametrize(
    "error",
    [
        ParseError(),
        InvalidRequestError(data="x"),
        MethodNotFoundError(),
        InvalidParamsError(),
        InternalError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_standard_errors_have_the_same_form(error):
    shown = to_wire(error)
    assert shown["code"] == error.code
    assert shown["data"]["reason"]
    assert shown["data"]["detail"]


def test_an_error_that_nobody_knows_tells_nothing():
    class Unknown(errors.HorusError):
        """Of somebody else."""

    shown = to_wire(Unknown("secret", reason="secret"))
    assert shown["code"] == Code.INTERNAL
    assert "secret" not in str(shown)
