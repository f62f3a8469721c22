"""The OpenRPC document: exactly the methods that a site answers to."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema
from typing_extensions import TypedDict

from api.access import Scope
from api.codes import MESSAGES, Code
from api.site import Method, Procedure
from horus_celery import __version__

OPENRPC: Final = "1.3.2"
#: A call of each method and its answer, as `{"params": …, "result": …}` by name.
EXAMPLES: Final = Path(__file__).with_name("examples.json")
_REF: Final = "#/components/schemas/{model}"
#: Codes that any call may be answered with, whatever it asks for.
_ALWAYS: Final = (
    Code.INVALID_REQUEST,
    Code.INVALID_PARAMS,
    Code.INTERNAL,
    Code.TOO_LARGE,
    Code.TOO_MANY,
)
_WITH_SECRET: Final = (
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.UNAVAILABLE,
)
_STATEMENT: Final = (Code.MALFORMED, Code.SIGNATURE)
_SIGNED_REQUEST: Final = (*_STATEMENT, Code.NOT_COVERED, Code.TIME, Code.CONFLICT)
_NAMED_THING: Final = (Code.NOT_FOUND, Code.CONFLICT)
#: Which codes follow from which parameters.
_BY_PARAMETER: Final[Mapping[str, tuple[Code, ...]]] = {
    "job": _SIGNED_REQUEST,
    "upstream": (Code.CONFLICT,),
    "registration": _SIGNED_REQUEST,
    "trust": (*_STATEMENT, Code.NOT_COVERED, Code.CONFLICT),
    "manifest": (*_SIGNED_REQUEST, Code.WORKFLOW),
    "jobs": (*_SIGNED_REQUEST, Code.WORKFLOW),
    "job_id": _NAMED_THING,
    "workflow_id": _NAMED_THING,
    "after": _NAMED_THING,
    "name": _NAMED_THING,
    "context": _NAMED_THING,
    "id": _NAMED_THING,
    "secret": (Code.CONFLICT,),
    "wait": (Code.NOT_OVER,),
}
#: Which codes follow from what a method does.
_BY_METHOD: Final[Mapping[str, tuple[Code, ...]]] = {
    # Somebody else may delete the job while its end is awaited.
    "job.run": (Code.NOT_FOUND,),
    # What is stored may not be what was signed, or no receipt at all.
    "job.logs": (Code.SIGNATURE,),
    "job.receipt": (Code.SIGNATURE,),
    # One that is running has to end first.
    "job.delete": (Code.NOT_OVER,),
    "workflow.delete": (Code.NOT_OVER,),
    # Not all of its jobs are there.
    "workflow.start": (Code.WORKFLOW,),
}
_SCOPES: Final[Mapping[Scope, str]] = {
    Scope.NONE: "for everybody, also without a secret",
    Scope.USER: "with a user secret, or an admin secret",
    Scope.ADMIN: "with an admin secret",
    Scope.REGISTER: "with a register secret",
}

Document = dict[str, Any]
_Schemas = Mapping[tuple[str, JsonSchemaMode], Document]


@with_config(ConfigDict(extra="allow"))
class OpenRpcDocument(TypedDict):
    """An OpenRPC document, by which programs find out what may be called, and how."""

    openrpc: str
    info: dict[str, Any]
    methods: list[dict[str, Any]]


def describe(methods: Mapping[str, Method]) -> Document:
    """Return the document of these methods, by name; an alias is a method as well.

    Where the server is, whoever asked it knows.
    """
    schemas, shared = _schemas(methods.values())
    examples = _examples()
    return {
        "openrpc": OPENRPC,
        "info": {
            "title": "Horus",
            "version": __version__,
            "description": "Signed jobs, executed by runners that believe nobody else."
            " A tag names the scope of the secret that a method asks for.",
            "license": {"name": "Apache-2.0"},
        },
        "methods": [
            _method(name, method, schemas, examples) for name, method in methods.items()
        ],
        "components": {
            "schemas": shared,
            "errors": {_error_name(code): _error(code) for code in Code},
            "tags": {
                scope.value: {"name": scope.value, "description": said}
                for scope, said in _SCOPES.items()
            },
        },
    }


def discovery(methods: Mapping[str, Method]) -> Procedure:
    """Return the method `rpc.discover` of a site that will have these methods."""
    document = cache(lambda: describe(methods))

    def discover(session: object) -> OpenRpcDocument:
        """Return the OpenRPC document of exactly the methods that exist here."""
        return cast("OpenRpcDocument", document())

    return Procedure(name="rpc.discover", scope=Scope.NONE, function=discover)


class _Plain(GenerateJsonSchema):
    """Writes schemas as readers in every language take them."""

    def field_title_should_be_set(self, schema: object) -> bool:
        # It would only repeat the field's name.
        return False

    def str_schema(self, schema: core_schema.StringSchema) -> Document:
        written = super().str_schema(schema)
        if "pattern" in written:
            # JavaScript, whose patterns JSON Schema has, knows no other anchors.
            pattern = written["pattern"].replace(r"\A", "^").replace(r"\z", "$")
            written["pattern"] = pattern
        return written


def _schemas(methods: Iterable[Method]) -> tuple[_Schemas, Document]:
    """Return the schema of every parameter and result, and what they share."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    for method in {id(method): method for method in methods}.values():
        name = method.procedure.name
        inputs.append((name, "serialization", method.result))
        inputs += [
            (f"{name} {parameter}", "validation", TypeAdapter(annotation))
            for parameter, annotation in method.annotations.items()
        ]
    found, rest = TypeAdapter.json_schemas(
        inputs, ref_template=_REF, schema_generator=_Plain
    )
    return found, rest.get("$defs", {})


def _method(
    name: str, method: Method, schemas: _Schemas, examples: Mapping[str, list[Document]]
) -> Document:
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
        "examples": examples.get(procedure.name, []),
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
    codes = {*_ALWAYS, *_BY_METHOD.get(method.procedure.name, ())}
    if method.procedure.scope is not Scope.NONE:
        codes.update(_WITH_SECRET)
    for name in method.names:
        codes.update(_BY_PARAMETER.get(name, ()))
    return sorted(codes, reverse=True)


def _examples() -> Mapping[str, list[Document]]:
    """Return the pairings of every method's examples, by its first name."""
    written = json.loads(EXAMPLES.read_text("utf-8"))
    return {
        name: [
            {
                "name": pairing["name"],
                "params": [
                    {"name": parameter, "value": value}
                    for parameter, value in pairing["params"].items()
                ],
                "result": {"name": "result", "value": pairing["result"]},
            }
            for pairing in pairings
        ]
        for name, pairings in written.items()
    }


def _error(code: Code) -> Document:
    return {"code": code.value, "message": MESSAGES[code]}


def _error_name(code: Code) -> str:
    return code.name.lower()


def _one_line(text: str) -> str:
    return " ".join(text.split())
