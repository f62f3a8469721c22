"""How gunicorn serves what `tests/conformance.py` asks, as it serves the API."""

from __future__ import annotations

from typing import Final

from api.reception import Reception
from tests.conformance import MAX_BODY, make_app

worker_class = Reception
threads = 4
keepalive = 75
control_socket_disable = True
app: Final = make_app()


def post_worker_init(worker: Reception) -> None:
    """Let everybody send as much as the suite does."""
    worker.body_limit = lambda authorization: MAX_BODY
