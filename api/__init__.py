"""The Flask face of a supervisor: `create_app` puts it together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from api import openrpc
from api.access import OPENS, RATE_LIMIT, Gatekeeper, Scope
from api.dashboard import Dashboard
from api.entrance import Entrance, plain
from api.jsonrpc import JSONRPC
from api.methods import METHODS
from api.origins import Hosts, Origins
from api.pages import Insight, make_insight_pages, make_pages
from api.session import Services
from api.site import Observer, StrictSite, StrictView, peer


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What the API takes in one request."""

    max_request_bytes: int = 4 * 1024 * 1024
    #: Calls in one batch.
    max_batch: int = 100
    #: Calls that one secret may make in a second, for long.
    rate_limit: int = RATE_LIMIT


def create_app(
    services: Services,
    limits: RequestLimits | None = None,
    *,
    hosts: Hosts | None = None,
    origins: Origins | None = None,
    flower_url: str | None = None,
    insight: Insight | None = None,
    address: Callable[[Request], str] | None = None,
    observe: Observer | None = None,
) -> Flask:
    """Return the API of a supervisor as a WSGI application.

    Args:
        services: Serve every method.
        limits: What one request may hold, and one caller may ask for.
        hosts: The names under which it may be called; by default this machine's.
        origins: Whose pages may call it from a browser; by default, nobody's.
        flower_url: Where Flower is, in which a person looks at workers and tasks.
        insight: What persons, probes and Prometheus are shown; by default, nothing.
        address: Says where a request comes from; by default, whoever is connected.
        observe: Is told of every call.
    """
    limits = limits or RequestLimits()
    address = address or peer
    gatekeeper = Gatekeeper(services.secrets, rate_limit=limits.rate_limit)
    app = Flask("horus", static_folder=None)
    app.register_error_handler(HTTPException, plain)
    dashboard = None
    if insight is not None:
        may_see = partial(_may_see, insight, partial(_is_user, gatekeeper, address))
        dashboard = Dashboard(
            jobs=services.supervisor,
            runners=services.fleet,
            readiness=insight.readiness,
            may_see=may_see,
        )
        app.register_blueprint(make_insight_pages(insight, may_see))
    pages = make_pages(flower_url=flower_url, dashboard=dashboard)
    app.register_blueprint(pages)
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
        sessions=services.session,
        gatekeeper=gatekeeper,
        max_request_bytes=limits.max_request_bytes,
        max_batch=limits.max_batch,
        address=address,
        observe=observe,
    )
    entrance = Entrance(
        app.wsgi_app,
        site.respond,
        hosts=hosts or Hosts(),
        origins=origins or Origins(),
    )
    app.wsgi_app = entrance  # type: ignore[method-assign]  # as Flask documents it
    return app


def _may_see(
    insight: Insight, is_user: Callable[[Request], bool], request: Request
) -> bool:
    """Say whether a request comes from this machine, or from a user of all contexts."""
    return insight.is_local(request) or is_user(request)


def _is_user(
    gatekeeper: Gatekeeper, address: Callable[[Request], str], request: Request
) -> bool:
    """Say whether a request holds a secret that opens every context."""
    authorization = request.headers.get("Authorization")
    identity = gatekeeper.identify(authorization, address(request))
    return Scope.USER in OPENS[identity.scope] and identity.contexts is None
