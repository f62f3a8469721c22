"""What a person reads of the API: `docs/api.md`, written from `rpc.discover`.

    python -m api.reference > docs/api.md

Nothing in it is written by hand, so nothing in it can be out of date; a test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from api import openrpc
from api.callers import EXPECTED, Caller
from api.codes import MESSAGES, RETRYABLE, Code
from api.methods import METHODS
from api.site import Method

_HEAD: Final = """# The API

JSON-RPC 2.0 over `POST /` with `Content-Type: application/json` and
`Authorization: Bearer SECRET`; parameters by name or by position, batches of up to 100,
notifications. `rpc.discover` answers with this page as an OpenRPC document, from which
`python -m api.reference` wrote it. Answers are HTTP 200, or 204 where there is nothing
but notifications.

Beside it: `GET /` (the dashboard), `GET /healthz`, `GET /readyz`, `GET /metrics`
([operations](operations.md)).
"""
_WHO: Final = """## Who may call what

What a call comes to with no secret, one that nobody has, and secrets of each scope;
`user, outside` is a user secret that is bound to other contexts than the job's. A
number is the error's code. What lies outside of one's contexts looks as if it did not
exist: the same code, the same message, in lists and batches, too.
"""
_ERRORS: Final = """## Errors

`{"code", "message", "data": {"reason", "detail", "retryable"}}`. `reason` is for
programs: a reason code of [the protocol](protocol.md) where a statement was refused.
The same call may be made again where `retryable` is true.
"""


def render(document: Mapping[str, Any]) -> str:
    """Write an OpenRPC document of ours as Markdown."""
    methods = [one for one in document["methods"] if "x-alias-of" not in one]
    aliases: dict[str, list[str]] = {}
    for one in document["methods"]:
        if "x-alias-of" in one:
            aliases.setdefault(one["x-alias-of"], []).append(one["name"])
    parts = [_HEAD, _WHO, _access_table(methods), _ERRORS, _error_table()]
    parts.append("## Methods\n")
    parts += [_method(one, aliases.get(one["name"], [])) for one in methods]
    parts.append("## Objects\n")
    parts += [
        _object(name, schema)
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return "\n".join(parts)


def _access_table(methods: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [f"`{one['name']}`", *(EXPECTED[one["name"]][caller] for caller in Caller)]
        for one in methods
    ]
    return _table(["method", *(caller.value for caller in Caller)], rows)


def _error_table() -> str:
    rows = [
        [str(code.value), MESSAGES[code], "yes" if code in RETRYABLE else ""]
        for code in sorted(Code, reverse=True)
    ]
    return _table(["code", "message", "retryable"], rows)


def _method(method: Mapping[str, Any], aliases: Sequence[str]) -> str:
    scope = method["tags"][0]["$ref"].rpartition("/")[2]
    also = f", also {' and '.join(f'`{name}`' for name in aliases)}" if aliases else ""
    lines = [f"### `{method['name']}`{also}", "", f"Scope: {scope}.", ""]
    lines += [method["summary"], ""]
    if "description" in method:
        lines += [method["description"], ""]
    if method["params"]:
        rows = [list(_parameter(one)) for one in method["params"]]
        lines += [_table(["parameter", "", "form", "meaning"], rows)]
    codes = (one["$ref"].rpartition("/")[2] for one in method["errors"])
    numbers = ", ".join(str(Code[name.upper()].value) for name in codes)
    lines += [f"Result: {_form(method['result']['schema'])}. Errors: {numbers}.", ""]
    return "\n".join([*lines, *_examples(method)])


def _parameter(parameter: Mapping[str, Any]) -> Iterator[str]:
    schema = parameter["schema"]
    yield f"`{parameter['name']}`"
    is_required = parameter["required"]
    yield "required" if is_required else f"`{json.dumps(schema['default'])}`"
    yield _form(schema)
    yield parameter["description"]


def _examples(method: Mapping[str, Any]) -> Iterator[str]:
    for pairing in method.get("examples", ()):
        params = {one["name"]: one["value"] for one in pairing["params"]}
        call = {"jsonrpc": "2.0", "id": 1, "method": method["name"], "params": params}
        answer = {"jsonrpc": "2.0", "id": 1, "result": pairing["result"]["value"]}
        yield from ("```json", json.dumps(call), json.dumps(answer), "```", "")


def _object(name: str, schema: Mapping[str, Any]) -> str:
    lines = [f"### {name}", ""]
    if "description" in schema:
        lines += [" ".join(schema["description"].split()), ""]
    required = schema.get("required", ())
    rows = [
        [f"`{field}`", "" if field in required else "optional", _form(of_field)]
        for field, of_field in schema.get("properties", {}).items()
    ]
    return "\n".join([*lines, _table(["field", "", "form"], rows) if rows else ""])


def _form(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema takes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_form(one) for one in schema[word])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind: str = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_form(schema.get('items', {}))}"
    return kind + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    if high is None:
        return ""
    unit = " characters" if "maxLength" in schema else ""
    return f", {low} to {high}{unit}" if low is not None else f", up to {high}{unit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    written = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in lines)
    return "\n".join([*(f"| {row} |" for row in written), ""])


def main() -> None:
    """Write the page to standard output."""
    methods = {
        name: Method(procedure)
        for procedure in METHODS
        for name in (procedure.name, *procedure.aliases)
    }
    discovery = openrpc.discovery(methods)
    methods[discovery.name] = Method(discovery)
    sys.stdout.write(render(openrpc.describe(methods)))


if __name__ == "__main__":
    main()
