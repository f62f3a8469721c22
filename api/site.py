"""The strict JSON-RPC 2.0 site: what is a call, who may make it, what answers it."""

from __future__ import annotations

import inspect
import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, NoReturn, get_type_hints

import orjson
import structlog
from annotated_types import Ge, Le
from flask import Response, request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request

from api import bulk, codes
from api.access import Gatekeeper, Identity, Scope, authorise
from api.codes import Code
from api.jsonrpc import (
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCSite,
    JSONRPCView,
    MethodNotFoundError,
    ParseError,
)
from api.session import About, Session
from horus_celery.errors import (
    DamagedError,
    HorusError,
    TooLargeError,
    UnavailableError,
)
from horus_celery.statements.wording import say

logger = structlog.get_logger(__name__)

#: What one request may wait for, in seconds; a batch shares it among its calls.
MAX_WAIT: Final = 300.0
#: The largest body of a request without a secret that opens anything.
MAX_OPEN_BYTES: Final = 64 * 1024
#: Once the answers of a batch hold so many bytes, no further call of it is made: a
#: hundred short calls would fill the memory with long answers.
MAX_ANSWERS: Final = 32 * 1024 * 1024
#: As much for a batch without a secret that opens anything.
MAX_OPEN_ANSWERS: Final = 256 * 1024
#: How many wrong parameters an error names.
MAX_COMPLAINTS: Final = 5
#: An unknown parameter is named no longer than this.
MAX_NAME: Final = 64
#: Seconds that a call waits; the name `wait` is kept for parameters of this kind.
Wait = Annotated[float, Ge(0), Le(MAX_WAIT)]
#: What orjson writes as it is.
_WRITABLE: Final = range(-(2**63), 2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A line of the method table; its function's annotations are the parameters."""

    name: str
    scope: Scope
    #: Takes the session, then the parameters; its docstring is published.
    function: Callable[..., Any]
    aliases: tuple[str, ...] = ()
    #: What a user gets who asks for what lies outside his contexts: a code, or a few
    #: words about an answer that shows nothing of it.
    outside: Code | str = "yes"
    #: Whether it may answer with megabytes.
    is_long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One call that was answered, as its observer is told of it."""

    #: The method's main name; "" if it was none.
    method: str
    secret_id: str | None
    #: As the caller wrote it, unless the job was found.
    job_id: str | None
    context_id: str | None
    #: The code of the error that answers it, or None.
    code: int | None
    #: The reason that stands beside the code.
    reason: str | None = None
    seconds: float


#: Is told of every call; it must not raise.
Observer = Callable[[Called], None]


class Method:
    """A procedure, ready to be called; the model of its parameters is built once."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        # A decorator must not change what a method takes.
        plain = inspect.unwrap(procedure.function)
        hints = get_type_hints(plain, include_extras=True)
        signature = inspect.signature(plain)
        # The first one is the session.
        self.parameters = tuple(signature.parameters.values())[1:]
        self.names = tuple(parameter.name for parameter in self.parameters)
        self.annotations: dict[str, Any] = {name: hints[name] for name in self.names}
        self.result: TypeAdapter[Any] = TypeAdapter(hints["return"])
        fields: dict[str, Any] = {
            parameter.name: (
                self.annotations[parameter.name],
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in self.parameters
        }
        self._model: type[BaseModel] = create_model(
            f"{plain.__name__}_params",
            __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
            **fields,
        )

    def read(self, params: Sequence[object] | Mapping[str, object]) -> dict[str, Any]:
        """Return the parameters by name, with the defaults of those that are missing.

        Raises:
            InvalidParamsError: naming the parameters, never their values.
        """
        if isinstance(params, Sequence):
            if len(params) > len(self.names):
                raise InvalidParamsError(
                    data=f"{len(self.names)} parameters at most, {len(params)} given"
                )
            params = dict(zip(self.names, params, strict=False))
        try:
            given = self._model.model_validate(params)
        except ValidationError as error:
            raise InvalidParamsError(data=_complaints(error)) from None
        return dict(given.__dict__)


#: One for each procedure, however many applications a process makes.
_method_of: Final = cache(Method)


class StrictSite(JSONRPCSite):
    """Answers what is posted to it, exactly as JSON-RPC 2.0 says, and never raises.

    Only `serve` brings methods in, each with its scope, so none is open by omission.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(*args, **kwargs)
        self.methods: dict[str, Method] = {}
        self._sessions: Callable[[Identity], Session]
        self._gatekeeper: Gatekeeper
        self._address: Callable[[Request], str]
        self._observe: Observer
        self._turns = bulk.Turns()
        self._max_request_bytes = 0
        self._max_batch = 0

    def register(self, name: str, view_func: Callable[..., Any]) -> None:
        """Take nothing: the base class would bring in its own `rpc.describe`."""

    def serve(
        self,
        procedures: Iterable[Procedure],
        *,
        sessions: Callable[[Identity], Session],
        gatekeeper: Gatekeeper,
        max_request_bytes: int,
        max_batch: int,
        address: Callable[[Request], str] | None = None,
        observe: Observer | None = None,
    ) -> None:
        """Answer to the names and aliases of these procedures from now on.

        Args:
            procedures: The method table.
            sessions: Makes what every function is given first, for a caller.
            gatekeeper: Says who calls.
            max_request_bytes: The largest body of one request.
            max_batch: The most calls in one request.
            address: Says where a request comes from; by default, whoever is connected.
            observe: Is told of every call.
        """
        for procedure in procedures:
            method = _method_of(procedure)
            for name in (procedure.name, *procedure.aliases):
                self.methods[name] = method
        self._sessions = sessions
        self._gatekeeper = gatekeeper
        self._address = address or peer
        self._observe = observe or _ignore
        self._max_request_bytes = max_request_bytes
        self._max_batch = max_batch

    def dispatch_request(self) -> tuple[bytes, int, dict[str, str]]:
        """Answer Flask's present request."""
        return *self.respond(request), {}

    def respond(self, request: Request) -> tuple[bytes, int]:
        """Answer a request with a body and a status: 200, or 204 for none."""
        # First of all: what is read of a stranger's body is little.
        header = request.headers.get("Authorization")
        identity = self._gatekeeper.identify(header, self._address(request))
        with self._turns.turn() as turn:
            try:
                body = self._taken_in(request, identity, turn)
            except (HorusError, JSONRPCError) as error:
                return self._refuse(error, identity), 200
            answer = self.answer(body, identity, turn)
        return (b"", 204) if answer is None else (answer, 200)

    def answer(self, body: object, identity: Identity, turn: bulk.Turn) -> bytes | None:
        """Answer a parsed request; None when there is nothing but notifications."""
        patience = _Patience(turn)
        is_bulky = turn.is_bulky
        if not isinstance(body, list):
            return self._answer_call(body, identity, patience)
        if not 0 < len(body) <= self._max_batch:
            said = f"a batch has 1 to {self._max_batch} calls"
            return self._refuse(InvalidRequestError(data=said), identity)
        shown: list[bytes] = []
        for call in body:
            answer = self._answer_call(call, identity, patience)
            if answer is not None:
                patience.written += len(answer)
                shown.append(answer)
            if not is_bulky and patience.written <= bulk.MANY_BYTES:
                # It might have been long, and was not: what comes next may wait.
                turn.give_back()
        return b"[%b]" % b",".join(shown) if shown else None

    def _taken_in(
        self, request: Request, identity: Identity, turn: bulk.Turn
    ) -> object:
        """Return what a request says, and let go of its bytes."""
        limit = max_body(identity, self._max_request_bytes)
        if bulk.MANY_BYTES < (request.content_length or 0) <= limit:
            # So long its bytes lie where they came in, and are counted.
            turn.take()
        raw = self._receive(request, limit)
        if bulk.is_bulky(raw):
            turn.take()
            bulk.require_few_values(raw, limit)
        return _read(raw)

    def _receive(self, request: Request, limit: int) -> bytes:
        """Return the body of a request.

        Raises:
            TooLargeError: if it is over the limit; then hardly any of it is read.
            ParseError: if it breaks off, or its chunks are none.
        """
        if request.mimetype != "application/json":
            raise InvalidRequestError(data="Content-Type must be application/json")
        if (request.content_length or 0) > limit:
            raise self._too_large(limit)
        # A body without a length ends silently at this maximum: hence the byte more.
        request.max_content_length = limit + 1
        try:
            raw = request.get_data(cache=False)
        except ClientDisconnected:
            raise ParseError(data="the request breaks off") from None
        except Exception as error:  # noqa: BLE001 - every server has errors of its own
            # Without its text: that quotes what was sent.
            logger.warning("a request cannot be read", error=type(error).__name__)
            raise ParseError(data="the request cannot be read to its end") from None
        if len(raw) > limit:
            raise self._too_large(limit)
        return raw

    def _too_large(self, limit: int) -> TooLargeError:
        if limit < self._max_request_bytes:
            return TooLargeError(
                f"a request without a valid secret has at most {limit} bytes"
            )
        return TooLargeError(
            f"a request has at most {limit} bytes here: send less in each, or have "
            "max_request_bytes of this supervisor raised"
        )

    def _answer_call(
        self, call: object, identity: Identity, patience: _Patience
    ) -> bytes | None:
        started = time.perf_counter()
        call_id, name = _id_of(call), None
        session = self._sessions(identity)
        refusal: codes.ErrorObject | None = None
        is_notification = False
        try:
            name, params = _check_envelope(call)
            is_notification = isinstance(call, dict) and "id" not in call
            self._gatekeeper.charge(identity)
            result = self._perform(name, params, session, patience)
            answer = _answer("result", result, call_id)
        except (HorusError, JSONRPCError) as error:
            refusal = codes.to_wire(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a method
            _log_fault(error, name)
            refusal = codes.to_wire(InternalError())
        if refusal is not None:
            answer = _error(refusal, call_id)
        self._tell(started, identity, refusal, name=name, about=session.about)
        return None if is_notification else answer

    def _perform(
        self,
        name: str,
        params: Sequence[object] | Mapping[str, object],
        session: Session,
        patience: _Patience,
    ) -> object:
        method = self.methods.get(name)
        if method is None:
            raise MethodNotFoundError(data="rpc.discover lists the methods")
        authorise(name, method.procedure.scope, session.identity)
        patience.require_room(session.identity)
        given = method.read(params)
        session.about.job_id = given.get("job_id")
        if method.procedure.is_long:
            patience.turn.take()
        if "wait" in given:
            given["wait"] = patience.share(given["wait"])
        if patience.unavailable is not None and method.procedure.scope != Scope.NONE:
            raise patience.unavailable
        try:
            return method.procedure.function(session, **given)
        except DamagedError:
            # About one job's keys: Redis itself answers.
            raise
        except UnavailableError as error:
            patience.unavailable = error
            raise

    def _refuse(self, error: HorusError | JSONRPCError, identity: Identity) -> bytes:
        """Answer a request in which there is no call."""
        refusal = codes.to_wire(error)
        self._tell(time.perf_counter(), identity, refusal)
        return _error(refusal)

    def _tell(
        self,
        started: float,
        identity: Identity,
        refusal: codes.ErrorObject | None,
        *,
        name: str | None = None,
        about: About | None = None,
    ) -> None:
        method = None if name is None else self.methods.get(name)
        self._observe(
            Called(
                method="" if method is None else method.procedure.name,
                secret_id=identity.secret_id,
                job_id=None if about is None else about.job_id,
                context_id=None if about is None else about.context_id,
                code=None if refusal is None else refusal["code"],
                reason=None if refusal is None else refusal["data"]["reason"],
                seconds=time.perf_counter() - started,
            )
        )


class StrictView(JSONRPCView):
    """Sends what the site answers as it is: the site has written it."""

    jsonrpc_site: StrictSite

    def post(self) -> Response:
        body, status, headers = self.jsonrpc_site.dispatch_request()
        return Response(body, status, headers, mimetype="application/json")


class _Patience:
    """What is left of the time and the room that one request may take."""

    def __init__(self, turn: bulk.Turn) -> None:
        self._until = time.monotonic() + MAX_WAIT
        self.turn = turn
        #: Set once a call found the store away: the others of its batch would wait for
        #: the same silence, one after the other.
        self.unavailable: UnavailableError | None = None
        #: Bytes of the answers so far.
        self.written = 0

    def require_room(self, identity: Identity) -> None:
        """Refuse a further call once the answers before it are long enough.

        Raises:
            TooLargeError: if they are.
        """
        is_open = identity.scope is Scope.NONE
        limit = MAX_OPEN_ANSWERS if is_open else MAX_ANSWERS
        if self.written >= limit:
            whose = " without a valid secret" if is_open else ""
            raise TooLargeError(
                f"the answers of a batch{whose} may hold {limit} bytes, and do already:"
                " ask again in another request"
            )

    def share(self, wanted: float) -> float:
        # Others wait for its turn to be over.
        if self.turn.is_bulky:
            return 0.0
        return max(0.0, min(wanted, self._until - time.monotonic()))


def max_body(identity: Identity, max_request_bytes: int) -> int:
    """Return how many bytes the body of a request of this caller may have."""
    if identity.scope is Scope.NONE:
        return min(MAX_OPEN_BYTES, max_request_bytes)
    return max_request_bytes


def peer(request: Request) -> str:
    """Return who is connected."""
    return request.remote_addr or ""


def _ignore(called: Called) -> None:
    """Be told of a call, and do nothing."""


def _read(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse a body so that every reader would understand the same.

    Raises:
        ParseError: without a word of what was sent.
    """
    try:
        # Knows what the standard library forgives: lone surrogates, infinities, depth.
        orjson.loads(raw)
        return json.loads(
            raw, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates
        )
    except RecursionError:
        raise ParseError(data="the request is nested too deeply") from None
    except _DuplicateKey:
        raise ParseError(data="an object has the same key twice") from None
    except ValueError:
        raise ParseError(data="the request is not JSON in UTF-8") from None


class _DuplicateKey(ValueError):
    """A key with two meanings, of which every reader takes another."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKey
    return members


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(literal)


def _check_envelope(
    call: object,
) -> tuple[str, Sequence[object] | Mapping[str, object]]:
    """Return a call's method and parameters.

    Raises:
        InvalidRequestError: if it is no call of JSON-RPC 2.0.
    """
    if not isinstance(call, dict):
        raise InvalidRequestError(data="a call is an object")
    if call.get("jsonrpc") != "2.0":
        raise InvalidRequestError(data='"jsonrpc" must be "2.0"')
    name = call.get("method")
    if not isinstance(name, str):
        raise InvalidRequestError(data='"method" must be a string')
    if "id" in call and not _is_id(call["id"]):
        raise InvalidRequestError(data='"id" must be a string, a number or null')
    params = call.get("params", {})
    if not isinstance(params, (list, dict)):
        raise InvalidRequestError(data='"params" must be an array or an object')
    return name, params


def _is_id(value: object) -> bool:
    match value:
        case bool():
            return False
        case None | str() | int() | float():
            return True
        case _:
            return False


def _id_of(call: object) -> object:
    """Return the id that an answer repeats, or None where there is no usable one."""
    if not isinstance(call, dict):
        return None
    call_id = call.get("id")
    return call_id if _is_id(call_id) else None


def _log_fault(error: Exception, name: str | None) -> None:
    """Log where a method broke; its own words or values might be a payload."""
    logger.error(
        "an api method broke",
        method=name,
        error=type(error).__name__,
        where="".join(traceback.format_tb(error.__traceback__)),
    )


def _error(shown: codes.ErrorObject, call_id: object = None) -> bytes:
    return _answer("error", shown, call_id)


def _answer(member: str, shown: object, call_id: object) -> bytes:
    if isinstance(call_id, int) and call_id not in _WRITABLE:
        call_id = orjson.Fragment(str(call_id))
    return orjson.dumps({"jsonrpc": "2.0", member: shown, "id": call_id})


def _complaints(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    texts = [
        f"{'.'.join(map(str, item['loc']))[:MAX_NAME]}: {say(item)}"
        for item in found[:MAX_COMPLAINTS]
    ]
    return "; ".join(texts)
