r"""How the fields of a statement are read: strictly, from parsed JSON, into true types.

Patterns are those of Rust's regex crate, where `\z` is the end of the text and nothing
before it. An integer is never a bool and never a float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from horus_celery.errors import MalformedError
from horus_celery.instants import from_ms
from horus_celery.statements import wording
from horus_celery.statements.canonical import MAX_INTEGER

#: The last millisecond before the year 10000, in ms since the epoch.
MAX_MS: Final = 253_402_300_799_999
#: A job lives no longer than this, nor does a workflow.
MAX_LIFETIME: Final = timedelta(days=7)
SECOND: Final = timedelta(seconds=1)

_T = TypeVar("_T")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _integer(
    convert: Callable[[int], object], *, ge: int, le: int
) -> GetPydanticSchema:
    def schema(_source: Any, _handler: Any) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        return core_schema.no_info_after_validator_function(
            convert, core_schema.int_schema(strict=True, ge=ge, le=le)
        )

    return GetPydanticSchema(schema)


def _seconds(number: int) -> timedelta:
    return timedelta(seconds=number)


def seconds(*, ge: int, le: int) -> GetPydanticSchema:
    """Return the annotation of a `timedelta` that is whole seconds on the wire."""
    return _integer(_seconds, ge=ge, le=le)


def _text(pattern: str, form: str) -> GetPydanticSchema:
    def schema(_source: Any, _handler: Any) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        return core_schema.custom_error_schema(
            core_schema.str_schema(strict=True, pattern=pattern),
            custom_error_type="form",
            custom_error_message=f"must be {form}",
        )

    return GetPydanticSchema(schema)


_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}"
_NAME_FORM: Final = (
    "a name: a letter or digit, then up to 127 more of those or of . _ @ : -"
)

#: `1` and nothing else: pydantic's `Literal[1]` would take `true`.
Version: TypeAlias = Annotated[int, Field(ge=1, le=1)]
#: A lone surrogate, which is no UTF-8, matches no pattern.
Text: TypeAlias = Annotated[
    str, _text(r"\A[^\x00]*\z", "a string of UTF-8 text without U+0000")
]
Name: TypeAlias = Annotated[str, _text(rf"\A{_NAME}\z", _NAME_FORM)]
#: A name, or "*" for all of them.
NameOrAll: TypeAlias = Annotated[
    str, _text(rf"\A(?:\*|{_NAME})\z", f"* for all, or {_NAME_FORM}")
]
EnvName: TypeAlias = Annotated[
    str,
    _text(
        r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\z",
        "the name of a variable: up to 128 letters, digits and _, no digit first",
    ),
]
Hex64: TypeAlias = Annotated[
    str, _text(r"\A[0-9a-f]{64}\z", "64 hex digits in lower case")
]
KeyId: TypeAlias = Annotated[
    str, _text(r"\A[0-9a-f]{32}\z", "32 hex digits in lower case")
]
LowerUuid: TypeAlias = Annotated[
    str,
    _text(
        r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z",
        "a UUID in lower case",
    ),
]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
#: A point in time; on the wire ms since the epoch.
Instant: TypeAlias = Annotated[datetime, _integer(from_ms, ge=0, le=MAX_MS)]


def _require_short_life(value: datetime, info: ValidationInfo) -> datetime:
    created_at = info.data.get("created_at")
    if created_at is not None and value - created_at > MAX_LIFETIME:
        raise PydanticCustomError("lifetime", "must be at most 7 days after created_at")
    return value


#: When nothing starts any more of what was created at `created_at`, a field before it.
Expiry: TypeAlias = Annotated[Instant, AfterValidator(_require_short_life)]
Net: TypeAlias = Literal["none", "herodb", "host"]


def _frozen(value: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    return MappingProxyType(dict(value))


FrozenMap: TypeAlias = Annotated[dict[_Key, _Value], AfterValidator(_frozen)]
#: A list on the wire, inside a tuple; its elements stay strict.
FrozenList: TypeAlias = Annotated[tuple[_T, ...], Field(strict=False)]


class ClosedModel(BaseModel):
    """A value whose fields are a closed set, all of them present, none converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Read the value from parsed JSON.

        Raises:
            MalformedError: `schema.fields` for a missing or unknown field, else
                `schema.FIELD` for the first field that is not as it must be.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        raise _malformed(found)


def _malformed(found: list[ErrorDetails]) -> MalformedError:
    # Field names may be hostile text as well: shown in ASCII, and not at length.
    for one in found:
        if one["type"] in {"missing", "extra_forbidden"} and len(one["loc"]) == 1:
            word = "is missing" if one["type"] == "missing" else "is unknown"
            return MalformedError(
                "schema.fields", f"the field {ascii(one['loc'][0])[:80]} {word}"
            )
    first = found[0]
    if not first["loc"]:
        return MalformedError("schema.fields", "the body must be a JSON object")
    field = str(first["loc"][0])
    where = ".".join(str(step) for step in first["loc"])
    return MalformedError(
        f"schema.{field}", f"{ascii(where)[1:-1][:80]}: {wording.say(first)}"
    )
