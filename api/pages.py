"""What a person's browser, a probe and Prometheus are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final

import orjson
from flask import Blueprint, Response, request
from werkzeug.wrappers import Request

from api.dashboard import Dashboard
from api.metrics import CONTENT_TYPE, Metrics
from api.readiness import Readiness
from horus_celery import __version__

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Horus</title>
<h1>Horus {version}</h1>
<p>This is the supervisor's API: JSON-RPC 2.0, by <code>POST {url}</code> with
<code>Content-Type: application/json</code> and
<code>Authorization: Bearer SECRET</code>.</p>
<p>Its methods: <code>curl -H 'Content-Type: application/json'
-d '{{"jsonrpc":"2.0","method":"rpc.discover","id":1}}' {url}</code></p>
{flower}
{dashboard}
</html>
"""
_FLOWER: Final = '<p>Runners and tasks: <a href="{url}">Flower</a>.</p>'
_CLOSED: Final = (
    "401 Unauthorized: from another machine, this page needs a user or admin secret:"
    " send Authorization: Bearer SECRET\n"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """What is shown of how a deployment does."""

    readiness: Readiness
    metrics: Metrics
    #: Whether a request comes from this very machine.
    is_local: Callable[[Request], bool]


def make_pages(
    *, flower_url: str | None, dashboard: Dashboard | None = None
) -> Blueprint:
    """Return the pages; the first one has the dashboard, and a link to Flower."""
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def front() -> Response:
        link = _FLOWER.format(url=escape(flower_url)) if flower_url else ""
        page = _PAGE.format(
            version=escape(__version__),
            url=escape(request.url_root),
            flower=link,
            dashboard="" if dashboard is None else dashboard.html(request),
        )
        return Response(page, mimetype="text/html", headers=_HEADERS)

    @pages.get("/healthz")
    def healthz() -> Response:
        # Says that this process answers; what stands behind it, /readyz says.
        return _json({"status": "ok"})

    return pages


def make_insight_pages(
    insight: Insight, may_see: Callable[[Request], bool]
) -> Blueprint:
    """Return the page for whoever sends callers here, and the one for Prometheus.

    `may_see` says who may look at the latter.
    """
    pages = Blueprint("insight", __name__)

    @pages.get("/readyz")
    def readyz() -> Response:
        missing = insight.readiness.missing()
        if not missing:
            return _json({"status": "ready"})
        body = {"status": "not ready", "missing": missing}
        return _json(body, HTTPStatus.SERVICE_UNAVAILABLE)

    @pages.get("/metrics")
    def metrics() -> Response:
        if not may_see(request):
            headers = {"WWW-Authenticate": "Bearer"}
            return Response(_CLOSED, HTTPStatus.UNAUTHORIZED, headers, "text/plain")
        return Response(insight.metrics.exposition(), content_type=CONTENT_TYPE)

    return pages


def _json(body: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(body), status, headers, "application/json")
