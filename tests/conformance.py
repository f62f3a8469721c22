"""What a server of JSON-RPC 2.0 is asked, and what it has to answer.

The examples of the specification, what lies beyond them, and the application that is
asked: a site with a few methods behind our own entrance.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

from flask import Flask

from api.access import Gatekeeper, Identity, Scope
from api.entrance import Entrance
from api.jsonrpc import JSONRPC
from api.origins import Hosts, Origins
from api.session import About, Session
from api.site import Procedure, StrictSite, StrictView, Wait
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import Given
from horus_celery.api_secrets.shelf import MemoryShelf

ANY: Final = object()
SILENCE: Final = object()

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603


def subtract(target: object, minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


def add_up(target: object, a: int, b: int, c: int) -> int:
    return a + b + c


def update(target: object, a: int, b: int, c: int, d: int, e: int) -> None:
    return None


def hello(target: object, x: int) -> None:
    return None


def get_data(target: object) -> list[Any]:
    return ["hello", 5]


def break_by_type(target: object) -> int:
    return len(5)  # type: ignore[arg-type]  # this is the fault that is tested


def break_by_value(target: object) -> int:
    raise ValueError("secret /etc/path")


def answer_unwritable(target: object) -> object:
    return {1, 2}


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return around


@decorated
def subtract_decorated(target: object, minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


def pair(target: object) -> tuple[int, int]:
    return (1, 2)


def mixed_pair(target: object) -> tuple[str, list[str]]:
    return ("a", ["b"])


def optional(target: object, a: int, b: str | None = None) -> dict[str, Any]:
    return {"a": a, "b": b}


def number(target: object, a: float) -> float:
    return a


def either(target: object, a: int | str) -> int | str:
    return a


def echo(target: object, job: dict[str, Any]) -> dict[str, Any]:
    return job


def how_long(target: object, wait: Wait) -> float:
    return wait


METHODS: Final[dict[str, Callable[..., Any]]] = {
    "subtract": subtract,
    "subtract_decorated": subtract_decorated,
    "sum": add_up,
    "update": update,
    "notify_hello": hello,
    "notify_sum": add_up,
    "get_data": get_data,
    "break_by_type": break_by_type,
    "break_by_value": break_by_value,
    "answer_unwritable": answer_unwritable,
    "pair": pair,
    "mixed_pair": mixed_pair,
    "optional": optional,
    "number": number,
    "either": either,
    "job.run": echo,
    "how_long": how_long,
}


#: By its secret; without one a body may not be as long as some of these.
CALLER: Final = "a-secret-of-the-suite-0123456789"
BOOK: Final = SecretBook(
    [Given(scope="user", secret=CALLER, place="the suite")],
    MemoryShelf(),
    Seal(bytes(32), "hero"),
)
#: What is sent with every request.
HEADERS: Final = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {CALLER}",
}
MAX_BODY: Final = 4 * 1024 * 1024


def nobodys_session(identity: Identity) -> Session:
    return cast("Session", SimpleNamespace(identity=identity, about=About()))


def make_app() -> Flask:
    """Return the application: a site behind the entrance that every call goes by."""
    app = Flask("conformance")
    rpc = JSONRPC(
        app,
        "/",
        jsonrpc_site=StrictSite,
        jsonrpc_site_api=StrictView,
        enable_web_browsable_api=False,
    )
    site = rpc.get_jsonrpc_site()
    assert isinstance(site, StrictSite)
    site.serve(
        [
            Procedure(name=name, scope=Scope.NONE, function=function)
            for name, function in METHODS.items()
        ],
        sessions=nobodys_session,
        gatekeeper=Gatekeeper(BOOK),
        max_request_bytes=MAX_BODY,
        max_batch=100,
    )
    entrance = Entrance(app.wsgi_app, site.respond, hosts=Hosts(), origins=Origins())
    app.wsgi_app = entrance  # type: ignore[method-assign]  # as Flask documents it
    return app


def call(method: Any, params: Any = ANY, **members: Any) -> dict[str, Any]:
    given = {} if params is ANY else {"params": params}
    return {"jsonrpc": "2.0", "method": method, **given, **members}


def error(code: int, call_id: Any = None) -> dict[str, Any]:
    return {"code": code, "id": call_id}


def result(value: Any, call_id: Any = 1) -> dict[str, Any]:
    return {"result": value, "id": call_id}


INVALID: Final = error(INVALID_REQUEST)

#: Name, body (text and bytes as they are, anything else as JSON), expected answer.
REQUESTS: Final[list[tuple[str, Any, Any]]] = [
    # the fourteen examples of the specification
    ("positional", call("subtract", [42, 23], id=1), result(19)),
    ("positional, the other order", call("subtract", [23, 42], id=2), result(-19, 2)),
    (
        "named",
        call("subtract", {"subtrahend": 23, "minuend": 42}, id=3),
        result(19, 3),
    ),
    ("notification", call("update", [1, 2, 3, 4, 5]), SILENCE),
    ("notification of an unknown method", call("foobar"), SILENCE),
    ("unknown method", call("foobar", id="1"), error(METHOD_NOT_FOUND, "1")),
    (
        "broken JSON",
        '{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]',
        error(PARSE_ERROR),
    ),
    ("broken call", '{"jsonrpc":"2.0","method":1,"params":"bar"}', INVALID),
    (
        "batch of broken JSON",
        '[{"jsonrpc":"2.0","method":"sum","params":[1],"id":"1"},{"jsonrpc":"2.0"',
        error(PARSE_ERROR),
    ),
    ("empty batch", [], INVALID),
    ("batch of a number", [1], [INVALID]),
    ("batch of numbers", [1, 2, 3], [INVALID] * 3),
    (
        "mixed batch",
        [
            call("sum", [1, 2, 4], id="1"),
            call("notify_hello", [7]),
            call("subtract", [42, 23], id="2"),
            {"foo": "boo"},
            call("foo.get", {"name": "myself"}, id="5"),
            call("get_data", id="9"),
        ],
        [
            result(7, "1"),
            result(19, "2"),
            INVALID,
            error(METHOD_NOT_FOUND, "5"),
            result(["hello", 5], "9"),
        ],
    ),
    (
        "batch of notifications",
        [call("notify_sum", [1, 2, 4]), call("notify_hello", [7])],
        SILENCE,
    ),
    # the form of a call
    ("no version", {"method": "get_data", "id": 1}, error(INVALID_REQUEST, 1)),
    ("version 1.0", {**call("get_data", id=1), "jsonrpc": "1.0"}, error(-32600, 1)),
    ("version 2", {**call("get_data", id=1), "jsonrpc": 2}, error(-32600, 1)),
    ("no method", {"jsonrpc": "2.0", "id": 1}, error(INVALID_REQUEST, 1)),
    ("method is a list", call(["subtract"], id=1), error(INVALID_REQUEST, 1)),
    ("method is null", call(None, id=1), error(INVALID_REQUEST, 1)),
    ("params is a string", call("subtract", "bar", id=1), error(INVALID_REQUEST, 1)),
    ("params is null", call("get_data", None, id=1), error(INVALID_REQUEST, 1)),
    ("id is an object", call("get_data", id={"a": 1}), INVALID),
    ("id is a list", call("get_data", id=[1]), INVALID),
    ("id is true", call("get_data", id=True), INVALID),
    ("id is false", call("get_data", id=False), INVALID),
    ("id is null, yet there", call("subtract", [1, 2], id=None), result(-1, None)),
    ("id is 0", call("subtract", [1, 2], id=0), result(-1, 0)),
    ("id is empty", call("subtract", [1, 2], id=""), result(-1, "")),
    ("id is a fraction", call("subtract", [1, 2], id=-1.5), result(-1, -1.5)),
    ("id has 63 bits", call("subtract", [1, 2], id=2**63 - 1), result(-1, 2**63 - 1)),
    ("id has 300 digits", call("subtract", [1, 2], id=10**300), result(-1, 10**300)),
    ("its error, too", call("nothing", id=-(10**300)), error(-32601, -(10**300))),
    ("dotted name", call("job.run", {"job": {"a": 1}}, id=1), result({"a": 1})),
    ("body is a number", "5", INVALID),
    ("body is null", "null", INVALID),
    ("body is a string", '"get_data"', INVALID),
    # parameters
    ("too many positional", call("subtract", [1, 2, 3], id=1), error(-32602, 1)),
    ("too few positional", call("subtract", [1], id=1), error(INVALID_PARAMS, 1)),
    (
        "unknown named",
        call("subtract", {"minuend": 1, "subtrahend": 2, "z": 3}, id=1),
        error(INVALID_PARAMS, 1),
    ),
    ("missing named", call("subtract", {"minuend": 1}, id=1), error(-32602, 1)),
    ("missing optional", call("optional", {"a": 1}, id=1), result({"a": 1, "b": None})),
    ("what serves it", call("get_data", {"target": 1}, id=1), error(-32602, 1)),
    ("wrong kind", call("subtract", ["x", 2], id=1), error(INVALID_PARAMS, 1)),
    ("digits for an integer", call("subtract", ["1", 2], id=1), error(-32602, 1)),
    ("true for an integer", call("subtract", [True, 2], id=1), error(-32602, 1)),
    ("fraction for an integer", call("subtract", [1.5, 2], id=1), error(-32602, 1)),
    ("integer for a number", call("number", [1], id=1), result(1)),
    ("too large an integer", call("subtract", [10**300, "x"], id=1), error(-32602, 1)),
    ("a number beyond doubles", call("number", [10**400], id=1), error(PARSE_ERROR)),
    ("one of two kinds", call("either", ["x"], id=1), result("x")),
    ("none of two kinds", call("either", [None], id=1), error(INVALID_PARAMS, 1)),
    # results
    ("result is a pair", call("pair", id=1), result([1, 2])),
    ("result is a mixed pair", call("mixed_pair", id=1), result(["a", ["b"]])),
    # faults of a method
    ("it raises TypeError", call("break_by_type", id=1), error(INTERNAL_ERROR, 1)),
    ("it raises ValueError", call("break_by_value", id=1), error(INTERNAL_ERROR, 1)),
    ("nobody can write it", call("answer_unwritable", id=1), error(-32603, 1)),
    ("notification that breaks", call("break_by_value"), SILENCE),
    ("notification with wrong params", call("subtract", ["x"]), SILENCE),
    ("batch of broken ones", [call("break_by_value"), call("nope")], SILENCE),
    # JSON itself
    (
        "NaN",
        '{"jsonrpc":"2.0","method":"number","params":[NaN],"id":1}',
        error(PARSE_ERROR),
    ),
    (
        "infinite by its exponent",
        '{"jsonrpc":"2.0","method":"number","params":[1e999],"id":1}',
        error(PARSE_ERROR),
    ),
    (
        "duplicate key",
        '{"jsonrpc":"2.0","method":"number","method":"get_data","id":1}',
        error(PARSE_ERROR),
    ),
    (
        "lone surrogate",
        '{"jsonrpc":"2.0","method":"\\ud800","id":1}',
        error(PARSE_ERROR),
    ),
    ("nested 100,000 deep", "[" * 100_000, error(PARSE_ERROR)),
    ("not UTF-8", b'{"jsonrpc":"2.0","method":"\xff\xfe","id":1}', error(PARSE_ERROR)),
    ("UTF-16", '{"jsonrpc":"2.0"}'.encode("utf-16"), error(PARSE_ERROR)),
    ("an integer of 5,000 digits", "1" * 5000, error(PARSE_ERROR)),
    ("empty body", "", error(PARSE_ERROR)),
    # what the library would bring along, and limits
    ("rpc.describe", call("rpc.describe", id=1), error(METHOD_NOT_FOUND, 1)),
    ("batch of 100", [call("pair", id=1)] * 100, [result([1, 2])] * 100),
    ("batch of 101", [call("get_data", id=1)] * 101, INVALID),
]


def assert_answered(
    status: int, content_type: str | None, body: bytes, expected: object
) -> None:
    """See that a response is what was expected."""
    if expected is SILENCE:
        assert (status, body) == (204, b"")
        return
    assert (status, content_type) == (200, "application/json")
    answer = json.loads(body)
    if not isinstance(expected, list):
        assert_answers(answer, cast("dict[str, Any]", expected))
        return
    assert len(answer) == len(expected)
    for one, wanted in zip(answer, expected, strict=True):
        assert_answers(one, wanted)


def assert_answers(answer: Any, expected: dict[str, Any]) -> None:
    """See that an answer is what was expected, and holds nothing else."""
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == expected["id"]
    if "result" in expected:
        assert answer.keys() == {"jsonrpc", "result", "id"}
        assert answer["result"] == expected["result"]
        return
    assert answer.keys() == {"jsonrpc", "error", "id"}
    assert answer["error"].keys() == {"code", "message", "data"}
    assert answer["error"]["data"].keys() == {"reason", "detail", "retryable"}
    assert answer["error"]["code"] == expected["code"]
