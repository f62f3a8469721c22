"""Which concrete pieces go together: the only module that knows them all."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from horus_celery import __version__, redis_server
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import Given
from horus_celery.api_secrets.shelf import RedisShelf
from horus_celery.client import Horus
from horus_celery.clock import Clock, SystemClock
from horus_celery.coordinator import Coordinator
from horus_celery.dag.shapes import Strategy
from horus_celery.dispatch import Dispatcher, RedisDispatcher
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.fleet import Fleet, Managers
from horus_celery.herodb.contexts import Quota
from horus_celery.herodb.estate import RedisEstate
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.steward import Steward, ensuring
from horus_celery.journal import Journal
from horus_celery.node_secrets import NodeSecrets, read_value
from horus_celery.processes.managed import ManagedRunners
from horus_celery.registry import RedisRegistry, Registry, Roster, TrustSource
from horus_celery.routing import all_queues, queue_of
from horus_celery.runner.node import Executor, Node
from horus_celery.settings import Settings
from horus_celery.statedir import SCOPES, StateDirectory
from horus_celery.statements.keys import read_key_file
from horus_celery.store.address import read_address
from horus_celery.store.base import Bell, RecordStore
from horus_celery.store.connection import connect, connect_blocking
from horus_celery.store.keys import Keys
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_clock import RedisClock
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.store.redis_wakes import RedisWakes
from horus_celery.store.redis_workflows import RedisWorkflows
from horus_celery.store.workflows import WorkflowStore
from horus_celery.supervisor import Limits, Supervisor
from horus_celery.sweep import Sweep
from horus_celery.trustfile import TrustFile
from horus_celery.trustpost import RedisNoticeboard, TrustPost
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.courier import Courier
from horus_celery.workflows.doorbell import RedisDoorbell
from horus_celery.workflows.elsewhere import RemoteSupervisor
from horus_celery.workflows.outposts import Outpost, Watch
from horus_celery.workflows.relay import Relay
from horus_celery.workflows.supervisors import HomeSupervisor

#: Threads of an API process that are left for calls that do not wait.
SPARE_THREADS: Final = 32
#: Calls over a network take their time, and are made one after the other.
_LEASE_ELSEWHERE: Final = timedelta(seconds=15)
_NO_OUTPOSTS: Final[Mapping[str, Outpost]] = MappingProxyType({})
#: How long a call of the API waits for its turn at the journal.
_JOURNAL_PATIENCE: Final = timedelta(seconds=1)


def redis_url(settings: Settings) -> str:
    """Return the Redis to use: the one that is named, else our own."""
    return settings.redis_url or redis_server.url(StateDirectory(settings.state_dir))


def herodb_url(settings: Settings) -> str:
    """Return the Redis that HeroDB is in."""
    return settings.herodb_url or redis_url(settings)


def make_steward(settings: Settings, clock: Clock | None = None) -> Steward:
    """Return what keeps the contexts of HeroDB.

    Raises:
        ConfigurationError: if its secret cannot be read.
    """
    url = herodb_url(settings)
    client = connect(url)
    layout = Layout(namespace=settings.namespace)
    return Steward(
        RedisEstate(client, layout),
        RedisShelf(client, layout.contexts),
        layout,
        master=StateDirectory(settings.state_dir).herodb_master(),
        database=read_address(url).database,
        clock=clock or SystemClock(),
        usual=Quota(
            size=settings.herodb_quota_mb * 1024**2, keys=settings.herodb_quota_keys
        ),
    )


def make_keyring(settings: Settings) -> Keyring:
    """Return the keys of encryption that are on this node."""
    return Keyring(StateDirectory(settings.state_dir).herodb_keys)


def make_store(settings: Settings) -> RecordStore:
    """Return the store of records."""
    return RedisStore(connect(redis_url(settings)), settings.namespace)


def make_workflow_store(settings: Settings) -> WorkflowStore:
    """Return the store of workflows."""
    return RedisWorkflows(connect(redis_url(settings)), settings.namespace)


def make_dispatcher(settings: Settings, clock: Clock | None = None) -> Dispatcher:
    """Return what rings for jobs."""
    return RedisDispatcher(connect(redis_url(settings)), clock or SystemClock())


def queue_names(settings: Settings) -> tuple[str, ...]:
    """Return every queue of the deployment: at least those of its executors."""
    known = dict.fromkeys(settings.executors)
    # Without a bundle nothing runs, and whoever starts says so.
    with suppress(ConfigurationError):
        trust = StateDirectory(settings.state_dir).trust()
        known |= dict.fromkeys(all_queues(settings.executors, trust))
    return tuple(known)


def make_registry(settings: Settings) -> Registry:
    """Return the list of runners."""
    return RedisRegistry(connect(redis_url(settings)), settings.namespace)


def make_roster(settings: Settings, trust: TrustSource | None = None) -> Roster:
    """Return the runners that say they are there, as far as they may be believed."""
    client = connect(redis_url(settings))
    registry = RedisRegistry(client, settings.namespace)
    return Roster(registry, trust or make_trust(settings), RedisClock(client))


def make_fleet(
    settings: Settings,
    *,
    managers: Managers | None = None,
    trust: TrustFile | None = None,
    clock: Clock | None = None,
) -> Fleet:
    """Return the runners of the deployment.

    Args:
        settings: What the deployment chose.
        managers: What starts and stops runners here; by default the process managers of
            the deployment that runs on the state directory.
        trust: The trust bundle, if it is read already.
        clock: Tells the time; the machine's clock by default.
    """
    client = connect(redis_url(settings))
    return Fleet(
        registry=RedisRegistry(client, settings.namespace),
        trust=trust or make_trust(settings),
        store=RedisStore(client, settings.namespace),
        clock=clock or SystemClock(),
        namespace=settings.namespace,
        beat_clock=clock or RedisClock(client),
        managers=managers or ManagedRunners.of(settings),
    )


def make_trust(settings: Settings, journal: Journal | None = None) -> TrustFile:
    """Return the trust bundle of this node."""
    state = StateDirectory(settings.state_dir)
    return TrustFile(
        state.trust_file, state.root_pub, journal or Journal(state.journal), state
    )


def make_trust_post(settings: Settings, trust: TrustFile | None = None) -> TrustPost:
    """Return what brings new trust bundles to this node, and from it to the others."""
    client = connect(redis_url(settings))
    return TrustPost(
        trust or make_trust(settings),
        RedisNoticeboard(client, settings.namespace),
        aud=settings.namespace,
    )


def make_sweep(settings: Settings, clock: Clock | None = None) -> Sweep:
    """Return what rings again, buries and retires; any number of them may run."""
    trust = make_trust(settings)

    def route(bell: Bell) -> str:
        # Without a bundle nobody takes it, wherever it stands.
        with suppress(HorusError):
            return queue_of(
                executor=bell.executor,
                runner=bell.runner,
                context_id=bell.context_id,
                trust=trust.current(),
            )
        return bell.queue

    return Sweep(
        make_store(settings),
        make_dispatcher(settings, clock),
        clock or SystemClock(),
        lease_clock=clock or RedisClock(connect(redis_url(settings))),
        route=route,
        keep=timedelta(seconds=settings.result_ttl),
    )


def make_supervisor(
    settings: Settings,
    *,
    threads: int = 256,
    trust: TrustFile | None = None,
    steward: Steward | None = None,
    clock: Clock | None = None,
) -> Supervisor:
    """Return the supervisor of this process.

    Args:
        settings: What the deployment chose.
        threads: How many threads serve it.
        trust: The trust bundle, if it is read already.
        steward: What keeps the contexts of HeroDB, if somebody has it already.
        clock: Tells the time; the machine's clock by default.
    """
    herodb = ensuring(steward or make_steward(settings, clock))
    url = redis_url(settings)
    client = connect(url)
    beat_clock = clock or RedisClock(client)
    clock = clock or SystemClock()
    return Supervisor(
        store=RedisStore(client, settings.namespace),
        logs=RedisLogs(client, settings.namespace),
        wakes=RedisWakes(connect_blocking(url), settings.namespace),
        dispatcher=RedisDispatcher(client, clock),
        registry=RedisRegistry(client, settings.namespace),
        trust=trust or make_trust(settings),
        journal=Journal(
            StateDirectory(settings.state_dir).journal, patience=_JOURNAL_PATIENCE
        ),
        clock=clock,
        namespace=settings.namespace,
        beat_clock=beat_clock,
        limits=Limits(
            max_job_bytes=settings.max_job_bytes,
            max_waiters=threads - SPARE_THREADS,
            stop_grace=timedelta(seconds=settings.stop_grace),
        ),
        herodb=herodb,
    )


def make_conductor(
    settings: Settings,
    home: Supervisor,
    *,
    others: Mapping[str, RemoteSupervisor] | None = None,
    outposts: Mapping[str, Outpost] = _NO_OUTPOSTS,
    clock: Clock | None = None,
) -> Conductor:
    """Return what moves workflows on.

    Args:
        settings: What the deployment chose.
        home: The supervisor of this process, which runs the steps.
        others: The supervisors elsewhere; by default those of the settings.
        outposts: What starts steps elsewhere, by the names of the supervisors there.
        clock: Tells the time; the machine's clock by default.
    """

    def wake(name: str, workflow: str) -> None:
        if name in outposts:
            outposts[name].wake(workflow)

    client = connect(redis_url(settings))
    store = RedisWorkflows(client, settings.namespace)
    at_home = HomeSupervisor(home)
    others = make_others(settings) if others is None else others
    return Conductor(
        store=store,
        supervisor=at_home,
        doorbell=RedisDoorbell(client),
        clock=clock or SystemClock(),
        keep=timedelta(seconds=settings.result_ttl),
        wake=wake,
        fetch=Courier(store, at_home, others).fetch,
    )


def make_relay(settings: Settings, conductor: Conductor) -> Relay:
    """Return what lets workflows go on by Celery's canvas."""
    return Relay(make_workflow_store(settings), conductor)


def make_others(
    settings: Settings, trust: TrustFile | None = None
) -> Mapping[str, RemoteSupervisor]:
    """Return the supervisors elsewhere that steps may go to, by name.

    Raises:
        ConfigurationError: if the secret of one cannot be read.
    """
    trust = trust or make_trust(settings)
    found = {}
    for other in settings.supervisors:
        secret = read_value(other.secret_file).get_secret_value().decode().strip()
        client = Horus(other.url, secret, verify=False, ca=other.tls_ca)
        found[other.name] = RemoteSupervisor(other.name, client, trust)
    return found


def make_outposts(
    settings: Settings, home: Supervisor, others: Mapping[str, RemoteSupervisor]
) -> Mapping[str, Outpost]:
    """Return what starts steps elsewhere and waits for their ends, by name."""
    client = connect(redis_url(settings))
    store = RedisWorkflows(client, settings.namespace)
    at_home = HomeSupervisor(home)
    courier = Courier(store, at_home, others)
    found = {}
    for name, supervisor in others.items():
        watch = Watch(supervisor)
        conductor = Conductor(
            store=store,
            supervisor=supervisor,
            doorbell=RedisDoorbell(client),
            clock=SystemClock(),
            name=name,
            lease=_LEASE_ELSEWHERE,
            watcher=watch,
            fetch=courier.fetch,
            adopt=at_home.adopt,
        )
        found[name] = Outpost(conductor, watch)
    return found


def make_coordinator(
    settings: Settings,
    home: Supervisor,
    conductor: Conductor,
    *,
    others: Mapping[str, RemoteSupervisor] | None = None,
    clock: Clock | None = None,
) -> Coordinator:
    """Return the coordinator of this process.

    Args:
        settings: What the deployment chose.
        home: The supervisor of this process.
        conductor: What moves its workflows on.
        others: The supervisors elsewhere; by default those of the settings.
        clock: Tells the time; the machine's clock by default.
    """
    url = redis_url(settings)
    client = connect(url)
    return Coordinator(
        store=RedisWorkflows(client, settings.namespace),
        home=home,
        conductor=conductor,
        doorbell=RedisDoorbell(client),
        wakes=RedisWakes(connect_blocking(url), settings.namespace),
        clock=clock or SystemClock(),
        others=make_others(settings) if others is None else others,
        max_job_bytes=settings.max_job_bytes,
        strategy=Strategy(settings.workflow_strategy),
    )


def make_secrets(settings: Settings) -> SecretBook:
    """Return the secrets of the API: those of the settings, and those on disk.

    Raises:
        ConfigurationError: if one on disk cannot be read, or by others, too.
    """
    state = StateDirectory(settings.state_dir)
    client = connect(redis_url(settings))
    return SecretBook(
        _given_secrets(settings, state),
        RedisShelf(client, Keys.of(settings.namespace).secrets),
        Seal(state.seal(), settings.namespace),
        removals=Journal(state.journal, patience=_JOURNAL_PATIENCE),
    )


def _given_secrets(settings: Settings, state: StateDirectory) -> Iterator[Given]:
    configured = {
        "admin": settings.admin_secrets,
        "user": settings.user_secrets,
        "register": settings.register_secrets,
    }
    for scope in SCOPES:
        for one in configured[scope]:
            yield Given(
                scope=scope,
                secret=one.secret.get_secret_value(),
                contexts=one.contexts,
                place=f"{scope}_secrets",
            )
        path = state.secret_file(scope)
        yield Given(scope=scope, secret=state.secret(scope), place=str(path))


def make_node(
    settings: Settings,
    name: str,
    executors: Mapping[str, Executor],
    *,
    clock: Clock | None = None,
) -> Node:
    """Return what a runner decides on and works with.

    Args:
        settings: What the deployment chose.
        name: The runner's name: its key lies in the state directory.
        executors: What it serves.
        clock: Tells the time; the machine's clock by default.

    Raises:
        ConfigurationError: if there is no key for it, or that cannot be read.
    """
    state = StateDirectory(settings.state_dir)
    journal = Journal(state.journal)
    key_file = state.runner_key_file(name)
    if not key_file.exists():
        raise ConfigurationError(
            f"there is no key for the runner {name} at {key_file}: where the root key"
            f" lies, `horus runner {','.join(executors)} --name {name}` makes it; bring"
            " it here, and the trust.json of there"
        )
    url = redis_url(settings)
    client = connect(url)
    return Node(
        name=name,
        aud=settings.namespace,
        executors=executors,
        key=read_key_file(key_file),
        trust=make_trust(settings, journal),
        journal=journal,
        store=RedisStore(client, settings.namespace),
        logs=RedisLogs(client, settings.namespace),
        wakes=RedisWakes(connect_blocking(url), settings.namespace),
        clock=clock or SystemClock(),
        lease_clock=RedisClock(client),
        rooms=state.rooms,
        secrets=NodeSecrets(
            files={name: one.file for name, one in settings.node_secrets.items()}
        ),
        software=f"horus {__version__}, python {platform.python_version()}",
    )
