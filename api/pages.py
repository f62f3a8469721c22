"""What a person's browser and a probe are shown."""

from __future__ import annotations

from html import escape
from typing import Final

from flask import Blueprint, Response, request

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
{dashboard}
</html>
"""
_DASHBOARD: Final = '<p>Runners and tasks: <a href="{url}">Flower</a>.</p>'
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def make_pages(*, dashboard_url: str | None) -> Blueprint:
    """Return the pages; the first one links to the dashboard if there is one."""
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def front() -> Response:
        link = _DASHBOARD.format(url=escape(dashboard_url)) if dashboard_url else ""
        page = _PAGE.format(
            version=escape(__version__), url=escape(request.url_root), dashboard=link
        )
        return Response(page, mimetype="text/html", headers=_HEADERS)

    @pages.get("/healthz")
    def healthz() -> Response:
        # Says that this process answers; whether Redis does, the methods say.
        return Response('{"status":"ok"}', mimetype="application/json")

    return pages
