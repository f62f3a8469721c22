"""Which JSON-RPC error an error becomes: the one table of codes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypedDict

from api.jsonrpc import InternalError, JSONRPCError
from horus_celery import errors


class Code(IntEnum):
    """The codes of an answer; the first five are JSON-RPC's own."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    #: A fault of ours; never an answer to whatever somebody sent.
    INTERNAL = -32603
    UNAUTHENTICATED = -32001
    FORBIDDEN = -32003
    NOT_FOUND = -32004
    CONFLICT = -32009
    MALFORMED = -32010
    SIGNATURE = -32011
    NOT_COVERED = -32012
    TIME = -32013
    WORKFLOW = -32014
    UNAVAILABLE = -32020
    NOT_OVER = -32021
    TOO_MANY = -32022
    TOO_LARGE = -32023


MESSAGES: Final[Mapping[Code, str]] = MappingProxyType(
    {
        Code.PARSE: "Parse error",
        Code.INVALID_REQUEST: "Invalid Request",
        Code.METHOD_NOT_FOUND: "Method not found",
        Code.INVALID_PARAMS: "Invalid params",
        Code.INTERNAL: "Internal error",
        Code.UNAUTHENTICATED: "Unauthenticated",
        Code.FORBIDDEN: "Forbidden",
        Code.NOT_FOUND: "Not found",
        Code.CONFLICT: "Conflict",
        Code.MALFORMED: "Malformed job",
        Code.SIGNATURE: "Signature does not count",
        Code.NOT_COVERED: "Not covered",
        Code.TIME: "Not now",
        Code.WORKFLOW: "Workflow cannot run",
        Code.UNAVAILABLE: "Unavailable",
        Code.NOT_OVER: "Not over in time",
        Code.TOO_MANY: "Too many requests",
        Code.TOO_LARGE: "Too large",
    }
)

#: The codes after which the very same request may be sent again.
RETRYABLE: Final = frozenset({Code.UNAVAILABLE, Code.NOT_OVER})

#: `data.reason` of JSON-RPC's own codes, for which the platform has no error.
STANDARD_REASONS: Final[Mapping[Code, str]] = MappingProxyType(
    {
        Code.PARSE: "parse_error",
        Code.INVALID_REQUEST: "invalid_request",
        Code.METHOD_NOT_FOUND: "method_not_found",
        Code.INVALID_PARAMS: "invalid_params",
        Code.INTERNAL: "internal",
    }
)

CODES: Final[Mapping[type[errors.HorusError], Code]] = MappingProxyType(
    {
        errors.MalformedError: Code.MALFORMED,  # env.* json.* schema.*
        errors.SignatureError: Code.SIGNATURE,  # sig.*
        errors.NotCoveredError: Code.NOT_COVERED,  # bind.* auth.*
        errors.TimeError: Code.TIME,  # time.*
        errors.WorkflowError: Code.WORKFLOW,  # workflow.*
        errors.InputError: Code.CONFLICT,  # input.*
        errors.ClaimError: Code.CONFLICT,  # claim.*
        errors.NotFoundError: Code.NOT_FOUND,
        errors.ConflictError: Code.CONFLICT,
        errors.TooLargeError: Code.TOO_LARGE,
        errors.UnauthenticatedError: Code.UNAUTHENTICATED,
        errors.ForbiddenError: Code.FORBIDDEN,
        errors.TooManyError: Code.TOO_MANY,
        errors.UnavailableError: Code.UNAVAILABLE,
        errors.NotOverError: Code.NOT_OVER,
        errors.ReceiptError: Code.SIGNATURE,
        # What is wrong lies with the deployment, and goes when somebody mends it.
        errors.ConfigurationError: Code.UNAVAILABLE,
    }
)


class ErrorData(TypedDict):
    """What a program reads of an error."""

    reason: str
    detail: str
    retryable: bool


class ErrorObject(TypedDict):
    """The error of an answer."""

    code: int
    message: str
    data: ErrorData


def code_of(kind: type[errors.HorusError]) -> Code:
    """Return the code of the nearest branch in the table, else INTERNAL."""
    return next(
        (CODES[branch] for branch in kind.__mro__ if branch in CODES), Code.INTERNAL
    )


def to_wire(error: errors.HorusError | JSONRPCError) -> ErrorObject:
    """Write an error as the answer shows it."""
    if isinstance(error, JSONRPCError):
        code = Code(error.code)
        return _object(code, STANDARD_REASONS[code], str(error.data or MESSAGES[code]))
    code = code_of(type(error))
    if code is Code.INTERNAL:  # nobody decided that its text may be shown
        return to_wire(InternalError())
    if code is Code.WORKFLOW:  # the protocol has its name in the detail, too
        return _object(code, error.reason, f"{error.reason}: {error.detail}")
    return _object(code, error.reason, error.detail)


def _object(code: Code, reason: str, detail: str) -> ErrorObject:
    return {
        "code": code.value,
        "message": MESSAGES[code],
        "data": {"reason": reason, "detail": detail, "retryable": code in RETRYABLE},
    }
