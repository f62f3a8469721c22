"""The OpenRPC document: exactly the methods that a site answers to."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from api.access import Scope
from api.codes import MESSAGES, Code
from api.site import Method, Procedure
from horus_celery import __version__

OPENRPC: Final = "1.3.2"
_REF: Final = "#/components/schemas/{model}"
#: Codes that any call may be answered with, whatever it asks for.
_ALWAYS: Final = (Code.INVALID_REQUEST, Code.INVALID_PARAMS, Code.INTERNAL)
_WITH_SECRET: Final = (Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.UNAVAILABLE)
_ABOUT_A_JOB: Final = (Code.NOT_FOUND, Code.CONFLICT)
_NEW_JOB: Final = (
    Code.CONFLICT,
    Code.MALFORMED,
    Code.SIGNATURE,
    Code.NOT_COVERED,
    Code.TIME,
)
_WAITING: Final = (Code.NOT_OVER,)
#: Which codes follow from which parameters.
_BY_PARAMETER: Final[Mapping[str, tuple[Code, ...]]] = {
    "job": _NEW_JOB,
    "job_id": _ABOUT_A_JOB,
    "after": _ABOUT_A_JOB,
    "wait": _WAITING,
}

Document = dict[str, Any]
_Schemas = Mapping[tuple[str, JsonSchemaMode], Document]


def describe(methods: Mapping[str, Method]) -> Document:
    """Return the document of these methods, by name; an alias is a method as well."""
    schemas, shared = _schemas(methods)
    return {
        "openrpc": OPENRPC,
        "info": {
            "title": "Horus",
            "version": __version__,
            "description": "Signed jobs, executed by runners that believe nobody else."
            " A tag names the scope of the secret that a method asks for.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"name": "this server", "url": "/"}],
        "methods": [_method(name, method, schemas) for name, method in methods.items()],
        "components": {
            "schemas": shared,
            "errors": {_error_name(code): _error(code) for code in Code},
            "tags": {scope.value: {"name": scope.value} for scope in Scope},
        },
    }


def discovery(methods: Mapping[str, Method]) -> Procedure:
    """Return the method `rpc.discover` of a site that will have these methods."""
    document = cache(lambda: describe(methods))

    def discover(target: object) -> Document:
        """Return the OpenRPC document of exactly the methods that exist here."""
        return document()

    return Procedure(name="rpc.discover", scope=Scope.NONE, function=discover)


def _schemas(methods: Mapping[str, Method]) -> tuple[_Schemas, Document]:
    """Return the schema of every parameter and result, and what they share."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    for method in {id(method): method for method in methods.values()}.values():
        name = method.procedure.name
        inputs.append((name, "serialization", method.result))
        inputs += [
            (f"{name} {parameter}", "validation", TypeAdapter(annotation))
            for parameter, annotation in method.annotations.items()
        ]
    found, rest = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return found, rest.get("$defs", {})


def _method(name: str, method: Method, schemas: _Schemas) -> Document:
    procedure = method.procedure
    said = inspect.getdoc(procedure.function) or ""
    summary, _, more = said.partition("\n\n")
    alias = {} if name == procedure.name else {"x-alias-of": procedure.name}
    return {
        "name": name,
        "summary": _one_line(summary),
        **({"description": _one_line(more)} if more else {}),
        **alias,
        "tags": [{"$ref": f"#/components/tags/{procedure.scope.value}"}],
        "paramStructure": "either",
        "params": [
            _parameter(
                parameter, schemas[f"{procedure.name} {parameter.name}", "validation"]
            )
            for parameter in method.parameters
        ],
        "result": {
            "name": "result",
            "schema": schemas[procedure.name, "serialization"],
        },
        "errors": [
            {"$ref": f"#/components/errors/{_error_name(code)}"}
            for code in _codes(method)
        ],
    }


def _parameter(parameter: inspect.Parameter, schema: Document) -> Document:
    schema = dict(schema)
    is_required = parameter.default is parameter.empty
    return {
        "name": parameter.name,
        "description": schema.pop("description", ""),
        "required": is_required,
        "schema": schema if is_required else {**schema, "default": parameter.default},
    }


def _codes(method: Method) -> list[Code]:
    codes = set(_ALWAYS)
    if method.procedure.scope is not Scope.NONE:
        codes.update(_WITH_SECRET)
    for name in method.names:
        codes.update(_BY_PARAMETER.get(name, ()))
    return sorted(codes, reverse=True)


def _error(code: Code) -> Document:
    return {"code": code.value, "message": MESSAGES[code]}


def _error_name(code: Code) -> str:
    return code.name.lower()


def _one_line(text: str) -> str:
    return " ".join(text.split())
