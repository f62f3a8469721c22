"""The API of this deployment as a WSGI application: `gunicorn api.wsgi:app`."""

from __future__ import annotations

from api import RequestLimits, create_app
from api.access import hosts_for
from horus_celery import diary, wiring
from horus_celery.settings import load_settings

diary.to_stderr()
settings = load_settings()
supervisor = wiring.make_supervisor(settings)
app = create_app(
    supervisor,
    wiring.make_secrets(settings),
    RequestLimits(
        max_request_bytes=settings.max_request_bytes, max_batch=settings.max_batch
    ),
    hosts=hosts_for(settings.bind_address),
    dashboard_url=settings.flower_url,
)
