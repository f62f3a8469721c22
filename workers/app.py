"""Where a bell comes in: the Celery task `horus.run_job`, and the runner around it.

The main process of a worker checks at its start that it may serve, and keeps the
runner known, its receipts delivered and its leftovers removed. The pool's children
answer the bells, each with connections of its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Self

import billiard.pool
import structlog
from celery import Celery, signals
from celery.concurrency.prefork import TaskPool
from celery.exceptions import CPendingDeprecationWarning
from kombu.entity import Queue

from horus_celery import diary, screening, wiring
from horus_celery.celery import app
from horus_celery.clock import Steadiness
from horus_celery.errors import ConfigurationError, HorusError, UnavailableError
from horus_celery.execution import execute, give_up, ring_again
from horus_celery.processes import tree
from horus_celery.registry import (
    BEAT,
    Phase,
    Registry,
    Roster,
    RunnerBeat,
    is_alive,
    is_gone,
    write_beat,
)
from horus_celery.routing import queues_of
from horus_celery.runner.claiming import own_entry
from horus_celery.runner.node import Executor, Node
from horus_celery.runner.outbox import deliver
from horus_celery.settings import Settings, load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.stops import Stops
from horus_celery.store.runner_bell import TASK
from horus_celery.sweep import SweepThread
from workers import cgroup, kinds
from workers.cgroup import Groups
from workers.herodb.service import make_herodb
from workers.kinds import Kind
from workers.nursery import Nursery
from workers.osis.scripts import SCRIPTS
from workers.room import remove_abandoned
from workers.script import ScriptExecutor
from workers.slots import Slots
from workers.trial import choose

_logger: Final = structlog.get_logger(__name__)

#: What a worker is called that was given no name.
_NAMELESS: Final = "celery"
#: How often what expired leaves the journal, and how long the clock must have gone on
#: before: entries that a clock of next year drops would refuse the jobs of this year.
_JOURNAL_SWEEP: Final = timedelta(hours=1)
#: How often the other nodes are asked for a newer trust bundle.
_TRUST_ROUND: Final = timedelta(seconds=20)
#: How often a child that ends looks whether its last result was taken, ten times a
#: second.
_CONSUMPTION_LOOKS: Final = 5
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


def make_executors(
    served: Mapping[str, Kind],
    nursery: Nursery,
    groups: Groups | None,
    settings: Settings,
) -> Mapping[str, Executor]:
    """Return what runs the jobs of each executor that is served, by name.

    Raises:
        ConfigurationError: if the secret of HeroDB cannot be read.
    """
    herodb = make_herodb(settings, scripts=SCRIPTS)
    return MappingProxyType(
        {
            name: ScriptExecutor(
                kind=kind,
                launcher=nursery,
                herodb=herodb,
                groups=groups,
                requires_apart=settings.sandbox_required,
                stop_grace=timedelta(seconds=settings.stop_grace),
            )
            for name, kind in served.items()
        }
    )


@app.task(name=TASK, ignore_result=True)
def run_job(job_id: str) -> None:
    """Answer one bell; whatever comes of it, Celery sees a normal return."""
    try:
        _Child.answer(job_id)
    except HorusError as error:
        _logger.warning("bell not answered", reason=error.reason, detail=error.detail)
    except Exception as error:  # noqa: BLE001 - Celery would publish its text
        _logger.error("bell not answered", error=type(error).__name__)  # noqa: TRY400 - a foreign text may quote a payload


screening.lock_tasks(app)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Who a worker is: decided in its main process, inherited by its children."""

    name: str
    settings: Settings
    executors: Mapping[str, Executor]
    #: What starts their scripts; its processes are those of a pool's child.
    nursery: Nursery
    #: The modules that run the scripts of its executors; None is Python itself.
    hosts: frozenset[str | None]
    #: What makes cgroups for their jobs, where there can be any.
    groups: Groups | None

    @classmethod
    def of_worker(cls, hostname: str, queues: Iterable[str]) -> Self:
        """Take name and executors from what the worker was told on its command line.

        Raises:
            ConfigurationError: if there is no such executor, what it needs is not here,
                or the name is no name.
        """
        settings = load_settings()
        served = {executor: kinds.find(executor, settings) for executor in queues}
        if not served:
            raise ConfigurationError("-X leaves this worker no queue to serve")
        given = hostname.partition("@")[0]
        name = f"{next(iter(served))}_runner_1" if given == _NAMELESS else given
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is no name for a runner: choose another with -n NAME@%h"
            )
        # Before there are processes of ours that would have to move as well.
        base = cgroup.take()
        level = choose(
            settings, [path for kind in served.values() for path in kind.shown]
        )
        groups = None if base is None else Groups(base=base, containment=level)
        rooms = StateDirectory(settings.state_dir).rooms
        nursery = Nursery(level, rooms=rooms)
        return cls(
            name=name,
            settings=settings,
            executors=make_executors(served, nursery, groups, settings),
            nursery=nursery,
            hosts=frozenset(kind.host for kind in served.values()),
            groups=groups,
        )

    def make_node(self) -> Node:
        """Return what this process works with."""
        return wiring.make_node(self.settings, self.name, self.executors)

    def make_slots(self, *, count: int) -> Slots:
        """Return what keeps all workers of this runner to their number of jobs."""
        run = StateDirectory(self.settings.state_dir).run
        return Slots(run / "slots" / self.name, count=count)


class _Child:
    """What a process of the pool keeps between two jobs."""

    #: Both are set before the pool is forked.
    runner: Runner
    slots: Slots
    _node: Node | None = None

    @classmethod
    def answer(cls, job_id: str) -> None:
        """Answer one bell, when it is this runner's turn."""
        node = cls._its_node()
        with cls.slots.taken(before_waiting=lambda: cls._ring_on(job_id)) as is_mine:
            if is_mine:
                execute(job_id, node)

    @classmethod
    def _ring_on(cls, job_id: str) -> None:
        """Ring again for whoever is free: this bell has to wait, and may get lost."""
        dispatcher = wiring.make_dispatcher(cls.runner.settings)
        try:
            ring_again(job_id, cls._its_node(), dispatcher)
        except UnavailableError as error:
            _logger.info("bell kept", job_id=job_id, detail=error.detail)

    @classmethod
    def _its_node(cls) -> Node:
        if cls._node is None:
            # The pool ignores it, and then scripts would, too; a handler does not
            # outlive the exec.
            signal.signal(signal.SIGINT, lambda *_: None)
            cls._node = cls.runner.make_node()
        return cls._node


class Keeper:
    """What a runner's main process does besides Celery's work, every two seconds."""

    def __init__(self, runner: Runner) -> None:
        self._node = runner.make_node()
        self._groups = runner.groups
        self._stops = Stops(self._node.journal, self._node.store)
        self._registry: Registry = wiring.make_registry(runner.settings)
        node = self._node
        self._roster = Roster(self._registry, node.trust, node.lease_clock)
        self._sweep = SweepThread(wiring.make_sweep(runner.settings))
        self._concurrency = 1
        self._serve: Callable[[Sequence[str]], None] = _serve_nothing_more
        self._queues: tuple[str, ...] = ()
        self._trust_post = wiring.make_trust_post(runner.settings)
        self._dispatcher = wiring.make_dispatcher(runner.settings)
        self._asked_at: datetime | None = None
        self._steadiness = Steadiness(self._node.clock)
        self._is_degraded = False
        self._is_announced = False
        self._is_stopping = False
        #: The children that a signal had stopped at the last look.
        self._stopped: frozenset[int] = frozenset()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name="horus-keeper", daemon=True
        )

    def check(self) -> None:
        """See that the runner may and can serve.

        Raises:
            HorusError: naming what is in the way and the remedy.
        """
        trust = self._node.trust.current()
        own_entry(self._node)
        if trust.aud != self._node.aud:
            raise ConfigurationError(
                f"the trust bundle is for the namespace {trust.aud}, the settings say"
                f" {self._node.aud}: set HORUS_NAMESPACE={trust.aud}"
            )
        if trust.is_expired(self._node.clock.now()):
            raise ConfigurationError(
                f"the trust bundle expired on {trust.expires_at:%Y-%m-%d %H:%M} UTC, so"
                " every job would be refused: `horus trust renew` where the root key"
                " lies, or set the clock if it is wrong"
            )
        # Written, not only read: a journal that cannot be written starts nothing.
        self._node.journal.touch()
        self._tidy_rooms()

    def queues(self) -> tuple[str, ...]:
        """Return the queues that the runner serves by the trust bundle as it is now."""
        node = self._node
        return queues_of(own_entry(node), node.executors, node.trust.current())

    def announce(self, *, concurrency: int) -> None:
        """Tell the others that this runner will take jobs soon."""
        self._concurrency = concurrency
        self._is_announced = True
        self._say(Phase.STARTING)

    def start(self, *, serve: Callable[[Sequence[str]], None]) -> None:
        """Begin, once the pool has been forked.

        Args:
            serve: Called with the queues to serve whenever they are others.
        """
        self._serve = serve
        self._queues = self.queues()
        self._sweep.start()
        self._thread.start()

    def begin_to_stop(self) -> None:
        """Tell the others from the next beat on that this runner takes no more jobs."""
        # In a handler of a signal: nothing here may wait for the thread.
        self._is_stopping = True

    def stop(self) -> None:
        """End, and tell the others that this runner has."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            self._sweep.close()
        if self._is_announced:
            self._say(Phase.STOPPED)

    def _may_start(self) -> bool:
        """Whether the journal can be written; it is said when that changes."""
        try:
            self._node.journal.touch()
        except UnavailableError as error:
            if not self._is_degraded:
                _logger.error("runner degraded", detail=error.detail)  # noqa: TRY400 - it is ours
            self._is_degraded = True
        else:
            if self._is_degraded:
                _logger.warning("runner no longer degraded")
            self._is_degraded = False
        return not self._is_degraded

    def _sweep_journal(self) -> None:
        if self._steadiness.lasts() >= _JOURNAL_SWEEP:
            self._node.journal.sweep(self._node.clock.now())
            self._steadiness.begin_anew()

    def _tidy_rooms(self) -> int:
        """Remove what was left behind, and return how many processes that ended.

        Raises:
            ConfigurationError: if there is no place for the jobs' directories.
        """
        if self._groups is not None:
            with suppress(OSError):  # the next round tries again
                cgroup.remove_abandoned(self._groups.base)
        rooms = self._node.rooms
        try:
            rooms.mkdir(mode=0o700, parents=True, exist_ok=True)
            return remove_abandoned(rooms)
        except OSError as error:
            raise ConfigurationError(
                f"jobs cannot get directories in {rooms}: {error.strerror};"
                " mend its owner and mode, and put no link there"
            ) from None

    def _keep(self) -> None:
        was_away = False
        while True:
            try:
                self._round()
                was_away = False
            except HorusError as error:
                if not was_away:
                    _logger.warning("runner cut off", detail=error.detail)
                was_away = True
            except Exception as error:  # noqa: BLE001 - without beats it counts as dead
                _logger.error("keeper broke", error=type(error).__name__)  # noqa: TRY400 - a foreign text may quote a payload
            if self._ended.wait(BEAT.total_seconds()):
                return

    def _round(self) -> None:
        if killed := tree.kill_strays() + self._tidy_rooms():
            _logger.warning("processes of a lost job ended", count=killed)
        self._wake_children()
        may_start = self._may_start()
        if may_start:
            self._sweep_journal()
        self._follow_trust()
        self._beat(self._phase(may_start=may_start))
        try:
            self._stops.take_over(at=self._node.clock.now())
        finally:
            # Neither waits for the other: one of them may be damaged in Redis for long.
            deliver(self._node)
        if count := give_up(self._node, self._dispatcher):
            _logger.warning("jobs of dead processes given up", count=count)

    def _wake_children(self) -> None:
        """Let nobody stop a child for good: while it stands still, no timeout counts.

        Once may be a slip, or somebody's Ctrl-Z; who does it again loses the job.
        """
        stopped = tree.stopped_children()
        again = stopped & self._stopped
        tree.signal_all(list(again), signal.SIGKILL)
        tree.signal_all(list(stopped - again), signal.SIGCONT)
        self._stopped = stopped
        if stopped:
            _logger.warning(
                "pool was stopped", woken=len(stopped - again), killed=len(again)
            )

    def _follow_trust(self) -> None:
        """Take up newer bundles, and serve the queues that this runner has by them."""
        now = self._node.clock.now()
        if self._asked_at is None or abs(now - self._asked_at) >= _TRUST_ROUND:
            self._asked_at = now
            self._trust_post.adopt()
        queues = self.queues()
        if queues != self._queues:
            self._queues = queues
            self._serve(queues)

    def _phase(self, *, may_start: bool) -> Phase:
        if self._is_stopping:
            return Phase.STOPPING
        return Phase.RUNNING if may_start else Phase.STARTING

    def _say(self, phase: Phase) -> None:
        """Beat once; who hears it would have noticed anyway, only later."""
        try:
            self._beat(phase)
        except UnavailableError:
            _logger.info("not heard", phase=phase.value)

    def _beat(self, phase: Phase) -> None:
        if phase is not Phase.RUNNING and self._another_runs():
            # It speaks for the runner; when it ends, its own word is the last one.
            return
        node = self._node
        beat = RunnerBeat(
            name=node.name,
            executors=tuple(node.executors),
            contexts=own_entry(node).contexts,
            concurrency=self._concurrency,
            phase=phase,
            host=socket.gethostname(),
            pid=os.getpid(),
            at=node.lease_clock.now(),
        )
        self._registry.keep(node.name, write_beat(beat, aud=node.aud, key=node.key))

    def _another_runs(self) -> bool:
        """Whether another worker of this runner was heard last, and takes jobs."""
        roll = self._roster.look()
        beat = roll.beats.get(self._node.name)
        return (
            beat is not None
            and beat.phase is Phase.RUNNING
            and is_alive(beat, roll.at)
            and not is_gone(beat)
            and (beat.host, beat.pid) != (socket.gethostname(), os.getpid())
        )


def _serve_nothing_more(_queues: Sequence[str]) -> None:
    """Stand for a consumer that is not there yet."""


_keepers: Final[list[Keeper]] = []


@signals.celeryd_init.connect(weak=False)
def _take_up(instance: Any, options: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - Celery's worker
    """Become a runner before anything is connected or forked, or say why not."""
    diary.through_logging()
    excluded = options.get("exclude_queues") or ()
    try:
        _require_prefork(options)
        served = options.get("queues") or load_settings().executors
        runner = Runner.of_worker(
            instance.hostname, [name for name in served if name not in excluded]
        )
        keeper = Keeper(runner)
        keeper.check()
        if not screening.is_installed(app):
            raise ConfigurationError(
                "the broker is not read through the screen: unset CELERY_BROKER_URL,"
                " and name the Redis with HORUS_REDIS_URL"
            )
    except HorusError as error:
        raise SystemExit(f"horus: {error}") from None
    host = instance.hostname.partition("@")[2]
    instance.hostname = f"{runner.name}@{host}"
    _Child.runner = runner
    _keepers.append(keeper)
    # Orphans of a pool child that was killed come to this process, which ends them.
    tree.become_subreaper()
    tree.become_unreadable()


@signals.celeryd_after_setup.connect(weak=False)
def _set_up(instance: Any, **_: object) -> None:  # noqa: ANN401 - Celery's worker
    """Take bells from the runner's own queues, and let it be seen that it starts."""
    # It advises on acknowledgements, each time that Redis was away; we have none. What
    # was said of warnings before, Celery has undone.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    count = instance.max_concurrency or instance.concurrency
    try:
        _Child.slots = _Child.runner.make_slots(count=count)
        _Child.slots.prepare()
        for keeper in _keepers:
            _select(instance.app, keeper.queues())
            keeper.announce(concurrency=count)
    except HorusError as error:
        raise SystemExit(f"horus: {error}") from None


@signals.worker_ready.connect(weak=False)
def _begin(sender: Any, **_: object) -> None:  # noqa: ANN401 - Celery's consumer
    def serve(queues: Sequence[str]) -> None:
        # What Celery listens to is its event loop's, and this is another thread.
        sender.call_soon(_serve, sender, queues)

    for keeper in _keepers:
        keeper.start(serve=serve)


@signals.worker_shutting_down.connect(weak=False)
def _end_waiting(**_: object) -> None:
    _Child.slots.end()
    for keeper in _keepers:
        keeper.begin_to_stop()


@signals.worker_shutdown.connect(weak=False)
def _end(**_: object) -> None:
    for keeper in _keepers:
        keeper.stop()


@signals.worker_process_init.connect(weak=False)
def _prepare_child(**_: object) -> None:
    # A main process that was told to end forgets the job whose result is on its way,
    # and the child would wait half a minute for it to be taken note of.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _CONSUMPTION_LOOKS
    tree.become_subreaper()
    tree.become_unreadable()
    _Child.runner.nursery.prepare(_Child.runner.hosts)


def _select(app: Celery, names: Sequence[str]) -> None:
    """Let a worker take bells from these queues, and from no others."""
    queues = app.amqp.queues
    for name in names:
        if name not in queues:
            queues.add(Queue(name, routing_key=name))  # type: ignore[no-untyped-call] # kombu is untyped
    queues.select(names)


def _serve(consumer: Any, names: Sequence[str]) -> None:  # noqa: ANN401 - Celery's
    """Change what a running worker takes bells from."""
    before = set(consumer.app.amqp.queues.consume_from)
    _select(consumer.app, names)
    try:
        for name in before.difference(names):
            consumer.task_consumer.cancel_by_queue(name)
        for name in names:
            if name not in before:
                consumer.add_task_queue(name)
    except Exception as error:  # noqa: BLE001 - it would end the worker's event loop
        # A consumer that was cut off takes up the selected ones when it is back.
        _logger.warning("queues not changed yet", error=type(error).__name__)


def _require_prefork(options: Mapping[str, Any]) -> None:
    """See that every job gets a process of its own to watch over it.

    Raises:
        ConfigurationError: if the worker was told otherwise.
    """
    pool = options.get("pool") or options.get("pool_cls") or app.conf.worker_pool
    is_prefork = pool == "prefork" or (
        isinstance(pool, type) and issubclass(pool, TaskPool)
    )
    if not is_prefork or options.get("pool_start_method") not in (None, "fork"):
        raise ConfigurationError(
            "a runner needs Celery's prefork pool: leave out -P and --pool-start-method"
        )
