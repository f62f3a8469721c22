"""The API of this deployment as a WSGI application: `gunicorn api.wsgi:app`."""

from __future__ import annotations

from contextlib import suppress

from werkzeug.wrappers import Request

from api import RequestLimits, create_app
from api.access import identity_of, secret_of
from api.address import client_address, is_this_machine, read_networks
from api.calls import write_down
from api.metrics import Facts, Metrics
from api.origins import Hosts, Origins
from api.pages import Insight
from api.readiness import Readiness
from api.session import HeroDb, Services
from api.site import Called, max_body
from horus_celery import diary, wiring
from horus_celery.api_secrets.book import SecretRounds
from horus_celery.clock import SystemClock
from horus_celery.errors import UnavailableError
from horus_celery.herodb.steward import StewardRounds
from horus_celery.processes.managed import ManagedRunners
from horus_celery.settings import load_settings
from horus_celery.store import connection
from horus_celery.trustpost import PostRounds

diary.to_stderr()
settings = load_settings()
_trust = wiring.make_trust(settings)
_steward = wiring.make_steward(settings)
supervisor = wiring.make_supervisor(settings, trust=_trust, steward=_steward)
#: Moves workflows on where no worker of the queue `coordinator` does.
conductor = wiring.make_conductor(settings, supervisor)
services = Services(
    supervisor=supervisor,
    coordinator=wiring.make_coordinator(settings, supervisor, conductor),
    fleet=wiring.make_fleet(
        settings, managers=ManagedRunners.of(settings), trust=_trust
    ),
    secrets=wiring.make_secrets(settings),
    trust=wiring.make_trust_post(settings, _trust),
    herodb=HeroDb(
        steward=_steward,
        keyring=wiring.make_keyring(settings),
        address=connection.shown(wiring.herodb_url(settings)),
    ),
)
#: To be started where this serves.
post_rounds = PostRounds(services.trust)
herodb_rounds = StewardRounds(_steward)
secret_rounds = SecretRounds(services.secrets)
_proxies = read_networks(settings.trusted_proxies)


def address(request: Request) -> str:
    """Return where a request comes from."""
    forwarded_for = request.headers.get("X-Forwarded-For")
    return client_address(request.remote_addr or "", forwarded_for, _proxies)


def is_local(request: Request) -> bool:
    """Say whether a request comes from this very machine."""
    forwarded_for = request.headers.get("X-Forwarded-For")
    return is_this_machine(request.remote_addr or "", forwarded_for, _proxies)


_store = wiring.make_store(settings)
insight = Insight(
    readiness=Readiness(
        store=_store,
        dispatcher=wiring.make_dispatcher(settings),
        roster=wiring.make_roster(settings, _trust),
        trust=_trust,
        secrets=services.secrets,
        clock=SystemClock(),
    ),
    metrics=Metrics(
        Facts(
            info=supervisor.info,
            tally=_store.tally,
            workflows=wiring.make_workflow_store(settings).tally,
            runners=services.fleet.list,
            mismatches=supervisor.mismatches.counts,
        )
    ),
    is_local=is_local,
)


def observe(called: Called) -> None:
    """Keep what is worth knowing of a call."""
    insight.metrics.observe(called)
    write_down(called)


def body_limit(authorization: str | None) -> int:
    """Return how many bytes of body a request with this header may bring."""
    secret = secret_of(authorization)
    holder = None if secret is None else services.secrets.glance(secret)
    return max_body(identity_of(holder), settings.max_request_bytes)


with suppress(UnavailableError):
    # What is wrong with the secrets is told now, not at the first call.
    services.secrets.read()
app = create_app(
    services,
    RequestLimits(
        max_request_bytes=settings.max_request_bytes,
        max_batch=settings.max_batch,
        rate_limit=settings.rate_limit,
    ),
    hosts=Hosts.of(settings.bind_address, settings.allowed_hosts),
    origins=Origins(allowed=frozenset(settings.allowed_origins)),
    flower_url=settings.flower_url,
    insight=insight,
    address=address,
    observe=observe,
)
# Where a page breaks, Flask says so with a traceback: raw, and with foreign texts.
diary.format_handlers(app.logger)
