"""Who may come in at all: by which name he calls us, and from whose page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed
from werkzeug.wrappers import Request, Response

from api.origins import PREFLIGHT, Hosts, Origins

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Answers a call with a body and a status.
Answer = Callable[[Request], tuple[bytes, int]]

#: The target of a request that names a whole URL, with its host.
_WHOLE: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_JSON: Final = ("Content-Type", "application/json")
_STATUS: Final = {one.value: f"{one.value} {one.phrase}" for one in HTTPStatus}


class Entrance:
    """Lets requests in, calls straight to what answers them, others to the pages.

    Flask's way to a view costs more than all that a call needs of it.
    """

    def __init__(
        self, pages: WSGIApplication, answer: Answer, *, hosts: Hosts, origins: Origins
    ) -> None:
        """Stand before an application.

        Args:
            pages: Has whatever is no call.
            answer: Answers what is posted to `/`.
            hosts: The names under which we may be called.
            origins: Whose pages may call from a browser.
        """
        self._pages = pages
        self._answer = answer
        self._hosts = hosts
        self._origins = origins

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request, as WSGI says."""
        origin = environ.get("HTTP_ORIGIN")
        whole = _WHOLE.match(environ.get("RAW_URI", "/"))
        if whole is not None:
            # Then what the Host header says counts for nothing (RFC 9112, 3.2.2).
            environ["HTTP_HOST"] = whole[1]
        try:
            self._check(environ, origin)
        except HTTPException as error:
            return plain(error)(environ, start_response)
        if self._origins.allowed:
            start_response = self._telling(origin, start_response)
        method = environ["REQUEST_METHOD"]
        if method == "POST" and environ["PATH_INFO"] == "/":
            return self._call(environ, start_response)
        if method == "OPTIONS" and origin in self._origins.allowed:
            preflight = Response(status=HTTPStatus.NO_CONTENT, headers=PREFLIGHT)
            return preflight(environ, start_response)
        return self._pages(environ, start_response)

    def _check(self, environ: WSGIEnvironment, origin: str | None) -> None:
        """Refuse, before anything is done, what a foreign page sends from a browser."""
        host = environ.get("HTTP_HOST")
        if not self._hosts.has(host):
            raise BadRequest(
                "this server does not go by the name in the Host header; its names are"
                " this machine's, its own address and allowed_hosts"
            )
        scheme = environ["wsgi.url_scheme"]
        if not self._origins.may_call(origin, scheme=scheme, host=host):
            raise Forbidden(
                "this server is not for pages of the origin that asks; allowed_origins"
                " names those that it is for"
            )

    def _telling(
        self, origin: str | None, start_response: StartResponse
    ) -> StartResponse:
        """Have the browser told in every answer whether its page may read it."""
        told = list(self._origins.headers(origin).items())

        def start(
            status: str,
            headers: list[tuple[str, str]],
            *error: Any,  # noqa: ANN401 - as WSGI says
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, *told], *error)

        return start

    def _call(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        body, code = self._answer(Request(environ))
        length = ("Content-Length", str(len(body)))
        start_response(_STATUS[code], [_JSON, length] if body else [_JSON])
        return [body] if body else []


def plain(error: HTTPException) -> Response:
    """Answer what is no call in words, not in markup."""
    text = f"{error.code} {error.name}: {error.description}\n"
    response = Response(text, error.code, mimetype="text/plain")
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response
