"""The API of this deployment as a WSGI application: `gunicorn api.wsgi:app`."""

from __future__ import annotations

from api import RequestLimits, create_app
from api.access import Secrets, hosts_for
from api.site import max_body
from horus_celery import diary, wiring
from horus_celery.settings import load_settings

diary.to_stderr()
settings = load_settings()
supervisor = wiring.make_supervisor(settings)
_secrets = wiring.make_secrets(settings)
app = create_app(
    supervisor,
    _secrets,
    RequestLimits(
        max_request_bytes=settings.max_request_bytes, max_batch=settings.max_batch
    ),
    hosts=hosts_for(settings.bind_address),
    dashboard_url=settings.flower_url,
)
_known = Secrets(_secrets)


def body_limit(authorization: str | None) -> int:
    """Return how many bytes of body a request with this header may bring."""
    return max_body(_known.scopes(authorization), settings.max_request_bytes)
