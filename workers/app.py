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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Self

import structlog
from celery import signals
from celery.concurrency.prefork import TaskPool
from celery.exceptions import CPendingDeprecationWarning

from horus_celery import diary, screening, wiring
from horus_celery.celery import app
from horus_celery.dispatch import TASK
from horus_celery.errors import ConfigurationError, HorusError, UnavailableError
from horus_celery.execution import Executor, Node, deliver, execute, own_entry
from horus_celery.processes import tree
from horus_celery.registry import BEAT, Registry, RunnerBeat
from horus_celery.settings import Settings, load_settings
from horus_celery.sweep import SweepThread
from workers import python, system
from workers.launch import PlainLauncher
from workers.room import remove_abandoned
from workers.script import ScriptExecutor

_logger: Final = structlog.get_logger(__name__)

#: What a worker is called that was given no name.
_NAMELESS: Final = "celery"
#: How often what expired leaves the journal.
_JOURNAL_SWEEP: Final = timedelta(hours=1)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


def make_executors() -> Mapping[str, Executor]:
    """Return every executor that there is, by name."""
    launcher = PlainLauncher()
    interpreters = {"python": python.INTERPRETER, "system": system.INTERPRETER}
    return MappingProxyType(
        {
            name: ScriptExecutor(interpreter=interpreter, launcher=launcher)
            for name, interpreter in interpreters.items()
        }
    )


@app.task(name=TASK, ignore_result=True)
def run_job(job_id: str) -> None:
    """Answer one bell; whatever comes of it, Celery sees a normal return."""
    try:
        execute(job_id, _Child.node())
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

    @classmethod
    def of_worker(cls, hostname: str, queues: Iterable[str]) -> Self:
        """Take name and executors from what the worker was told on its command line.

        Raises:
            ConfigurationError: if there is no such executor, or the name is no name.
        """
        served = list(queues)
        known = make_executors()
        if not served:
            raise ConfigurationError("-X leaves this worker no queue to serve")
        for executor in served:
            if executor not in known:
                raise ConfigurationError(
                    f"there is no executor {executor!r} here: -Q takes"
                    f" {' and '.join(known)}"
                )
        given = hostname.partition("@")[0]
        name = f"{served[0]}_runner_1" if given == _NAMELESS else given
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is no name for a runner: choose another with -n NAME@%h"
            )
        return cls(
            name=name,
            settings=load_settings(),
            executors={executor: known[executor] for executor in served},
        )

    def make_node(self) -> Node:
        """Return what this process works with."""
        return wiring.make_node(self.settings, self.name, self.executors)


class _Child:
    """What a process of the pool keeps between two jobs."""

    #: Set before the pool is forked.
    runner: Runner
    _node: Node | None = None

    @classmethod
    def node(cls) -> Node:
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
        self._registry: Registry = wiring.make_registry(runner.settings)
        self._sweep = SweepThread(wiring.make_sweep(runner.settings))
        self._concurrency = 1
        self._swept_at: datetime | None = None
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
        self._sweep_journal()
        self._tidy_rooms()

    def start(self, *, concurrency: int) -> None:
        """Begin, once the pool has been forked."""
        self._concurrency = concurrency
        self._sweep.start()
        self._thread.start()

    def stop(self) -> None:
        """End, and tell the others that this runner is gone."""
        self._ended.set()
        if not self._thread.is_alive():
            return
        self._thread.join()
        self._sweep.close()
        try:
            self._registry.leave(self._node.name)
        except UnavailableError:
            _logger.info("left without a word", reason="unavailable")

    def _sweep_journal(self) -> None:
        now = self._node.clock.now()
        if self._swept_at is None or now - self._swept_at >= _JOURNAL_SWEEP:
            self._node.journal.sweep(now)
            self._swept_at = now

    def _tidy_rooms(self) -> int:
        """Remove what was left behind, and return how many processes that ended.

        Raises:
            ConfigurationError: if there is no place for the jobs' directories.
        """
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
        self._sweep_journal()
        self._beat()
        deliver(self._node)

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

    def _beat(self) -> None:
        node = self._node
        self._registry.beat(
            RunnerBeat(
                name=node.name,
                executors=tuple(node.executors),
                contexts=own_entry(node).contexts,
                concurrency=self._concurrency,
                host=socket.gethostname(),
                pid=os.getpid(),
                at=node.clock.now(),
            )
        )


_keepers: Final[list[Keeper]] = []


@signals.celeryd_init.connect(weak=False)
def _take_up(instance: Any, options: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - Celery's worker
    """Become a runner before anything is connected or forked, or say why not."""
    diary.through_logging()
    # It advises on acknowledgements, each time that Redis was away; we have none.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    excluded = options.get("exclude_queues") or ()
    queues = options.get("queues") or [queue.name for queue in app.conf.task_queues]
    try:
        _require_prefork(options)
        runner = Runner.of_worker(
            instance.hostname, [name for name in queues if name not in excluded]
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


@signals.worker_ready.connect(weak=False)
def _begin(sender: Any, **_: object) -> None:  # noqa: ANN401 - Celery's consumer
    for keeper in _keepers:
        keeper.start(concurrency=sender.pool.num_processes)


@signals.worker_shutdown.connect(weak=False)
def _end(**_: object) -> None:
    for keeper in _keepers:
        keeper.stop()


@signals.worker_process_init.connect(weak=False)
def _prepare_child(**_: object) -> None:
    tree.become_subreaper()
    tree.become_unreadable()


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
