"""How gunicorn serves the API: `gunicorn -c python:api.server api.wsgi:app`."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing
from types import FrameType
from typing import Final, Protocol

from api.address import as_seen, read_networks
from api.capacity import connections
from api.framing import BodyLimit
from api.reception import Reception
from horus_celery import certificates, wiring
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.journal import Journal
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.sweep import SweepThread
from horus_celery.workflows.conductor import ConductorThread

#: Of these `wiring` leaves some for calls that do not wait.
THREADS: Final = 256
#: Open files besides connections: two connections to Redis for each thread, and those
#: of the journal, of sweeps and of what listens.
_OTHER_FILES: Final = 2 * THREADS + 128

try:
    _settings = load_settings()
except ConfigurationError as error:
    sys.exit(f"the API cannot start: {error}")
_host = _settings.bind_address

bind = f"[{_host}]:{_settings.port}" if ":" in _host else f"{_host}:{_settings.port}"
# Reception wraps connections by itself; this tells gunicorn that they are.
certfile = None if _settings.tls_cert is None else str(_settings.tls_cert)
keyfile = None if _settings.tls_key is None else str(_settings.tls_key)
# Whom to believe that a call came by https; gunicorn would believe this machine.
forwarded_allow_ips = ",".join(
    map(str, as_seen(read_networks(_settings.trusted_proxies)))
)
# No header says which path is meant: a proxy may pass on what a caller has written.
forwarder_headers = ""
# Waiting callers keep a thread each, so there are many; nothing is monkey-patched.
# Those who have not finished their request yet keep none.
worker_class = Reception
threads = THREADS
# Waiters are counted and woken per process; one stores 600 jobs a second, one by one.
workers = 1
worker_connections = connections(1024, others=_OTHER_FILES)
# Clients keep their connection between two calls for longer than the default 2 s.
keepalive = 75
# A worker that hangs altogether is replaced.
timeout = 60
# Ends with TERM within this, also with callers that wait: they are sent away.
graceful_timeout = 3
# It would lie at one path for all instances of a user.
control_socket_disable = True
# One line per call is for a proxy to write; errors go to standard error.
accesslog = None
errorlog = "-"
loglevel = "warning"


class Worker(Protocol):
    """What is used of gunicorn's worker."""

    body_limit: BodyLimit

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """End in order, as TERM asks for."""
        ...


def on_starting(arbiter: object) -> None:
    """Say what is missing once, before workers fail over it one after the other."""
    try:
        if _settings.tls_cert is not None and _settings.tls_key is not None:
            certificates.serving(_settings.tls_cert, _settings.tls_key)
        wiring.make_secrets(_settings)
        wiring.make_steward(_settings)
        with closing(Journal(StateDirectory(_settings.state_dir).journal)) as journal:
            wiring.make_trust(_settings, journal).current()
    except HorusError as error:
        sys.exit(f"the API cannot start: {error}")


def post_worker_init(worker: Worker) -> None:
    """Sweep beside the API, and let go of those who wait when the end is near."""
    from api import wsgi  # noqa: PLC0415 - gunicorn reads this file without serving

    worker.body_limit = wsgi.body_limit
    wsgi.post_rounds.start()
    wsgi.herodb_rounds.start()
    wsgi.secret_rounds.start()
    SweepThread(wiring.make_sweep(_settings)).start()
    ConductorThread(wsgi.conductor).start()

    def leave(number: int, frame: FrameType | None) -> None:
        # Not in the handler itself: it would wait for threads that it interrupts.
        threading.Thread(target=_let_go).start()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, leave)


def worker_int(worker: Worker) -> None:
    """Let go of those who wait: otherwise the worker waits for them."""
    _let_go()


def _let_go() -> None:
    from api import wsgi  # noqa: PLC0415 - gunicorn reads this file without serving

    wsgi.supervisor.close()
