"""The Flask face of a supervisor: `create_app` puts it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flask import Flask, Response, request
from flask_jsonrpc import JSONRPC
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from api import openrpc
from api.access import LOOPBACK_HOSTS, Secrets, host_is_known
from api.methods import METHODS
from api.pages import make_pages
from api.site import StrictSite, StrictView
from horus_celery.supervisor import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What the API takes in one request."""

    max_request_bytes: int = 4 * 1024 * 1024
    #: Calls in one batch.
    max_batch: int = 100


def create_app(
    supervisor: Supervisor,
    secrets: Mapping[str, Sequence[str]],
    limits: RequestLimits | None = None,
    *,
    hosts: frozenset[str] | None = LOOPBACK_HOSTS,
    dashboard_url: str | None = None,
) -> Flask:
    """Return the API of a supervisor as a WSGI application.

    Args:
        supervisor: Serves every method.
        secrets: The secrets of each scope: `admin`, `user`, `register`.
        limits: What one request may hold.
        hosts: The names under which it may be called (`access.hosts_for`).
        dashboard_url: Where a person looks at the runners.
    """
    limits = limits or RequestLimits()
    app = Flask("horus", static_folder=None)
    app.before_request(lambda: _check_host(hosts))
    app.register_error_handler(HTTPException, _plain)
    app.register_blueprint(make_pages(dashboard_url=dashboard_url))
    rpc = JSONRPC(
        app,
        "/",
        jsonrpc_site=StrictSite,
        jsonrpc_site_api=StrictView,
        enable_web_browsable_api=False,
    )
    site = cast("StrictSite", rpc.get_jsonrpc_site())
    site.serve(
        (*METHODS, openrpc.discovery(site.methods)),
        target=supervisor,
        secrets=Secrets(secrets),
        max_request_bytes=limits.max_request_bytes,
        max_batch=limits.max_batch,
    )
    return app


def _check_host(hosts: frozenset[str] | None) -> None:
    if not host_is_known(request.headers.get("Host"), hosts):
        raise BadRequest("this server does not go by the name in the Host header")


def _plain(error: HTTPException) -> Response:
    """Answer what is no call in words, not in markup."""
    text = f"{error.code} {error.name}: {error.description}\n"
    response = Response(text, error.code, mimetype="text/plain")
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response
