"""The runners of a deployment: who there is, how each does, and who may be started.

What a runner says of itself, what its process manager knows of it and what the store
has for it are one view here. Nothing is started but what this node's configuration
lists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from horus_celery.clock import Clock
from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    NotCoveredError,
    NotFoundError,
    SignatureError,
    UnavailableError,
)
from horus_celery.instants import shown
from horus_celery.registry import (
    Phase,
    Registry,
    Roster,
    RunnerBeat,
    TrustSource,
    is_alive,
    is_gone,
    write_registration,
    write_removed,
)
from horus_celery.routing import foreign_queues, queues_of
from horus_celery.statements import dsse
from horus_celery.statements.runner import (
    MAX_BODY,
    Registration,
    read_registration,
    require_covered,
    require_fresh,
)
from horus_celery.statements.trust import ALL, Trust
from horus_celery.store.base import RecordStore

_logger: Final = structlog.get_logger(__name__)

RunnerStatus: TypeAlias = Literal["running", "stopped", "starting", "lost", "crashed"]
#: What a process manager knows of a runner; `starting` is also between a death and the
#: next start.
ManagedStatus: TypeAlias = Literal["starting", "running", "stopped", "crashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a runner is to serve, by the configuration."""

    executor: str
    contexts: tuple[str, ...]
    concurrency: int


class Managers(Protocol):
    """The process managers of this node, by the runners that they manage.

    Every method but `names` is called with one of those names, and raises
    `UnavailableError` if the process manager does not answer.
    """

    def names(self) -> Collection[str]:
        """Return the runners that the configuration lists."""
        ...

    def plan(self, name: str) -> Planned:
        """Return what a runner is to serve."""
        ...

    def kind(self, name: str) -> str:
        """Return what manages a runner: `simple`, or `tmux:` and a session."""
        ...

    def start(self, name: str) -> None:
        """Start a runner; without effect on one that runs.

        Raises:
            ConflictError: if it is being stopped.
        """
        ...

    def stop(self, name: str) -> None:
        """Stop a runner and return when it has ended; it finishes what it runs.

        Without effect on one that does not run.
        """
        ...

    def status(self, name: str) -> ManagedStatus:
        """Return how the process of a runner does."""
        ...

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        """Return the last lines that a runner wrote."""
        ...


class Unmanaged:
    """The `Managers` of a node that manages no runner."""

    def names(self) -> Collection[str]:
        return ()

    def plan(self, name: str) -> Planned:
        raise _unknown(name)

    def kind(self, name: str) -> str:
        raise _unknown(name)

    def start(self, name: str) -> None:
        raise _unknown(name)

    def stop(self, name: str) -> None:
        raise _unknown(name)

    def status(self, name: str) -> ManagedStatus:
        raise _unknown(name)

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        raise _unknown(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerView:
    """A runner as it is shown."""

    name: str
    #: What it serves; several are joined by commas.
    executor: str
    #: Names, or "*" for all.
    contexts: tuple[str, ...]
    concurrency: int
    status: RunnerStatus
    #: The moment that it signed into its latest beat, or registered.
    last_seen: datetime | None
    #: How many jobs wait in the queues that it serves, alone or with others.
    queued: int = 0
    #: How many jobs it holds.
    running: int = 0
    #: None if this node does not manage it.
    process_manager: str | None


class Fleet:
    """All runners, or those of some contexts; many threads may call it at once."""

    def __init__(
        self,
        *,
        registry: Registry,
        trust: TrustSource,
        store: RecordStore,
        clock: Clock,
        namespace: str,
        beat_clock: Clock | None = None,
        managers: Managers | None = None,
    ) -> None:
        """Show the runners of a deployment.

        Args:
            registry: What keeps their words.
            trust: The bundle that says who they are.
            store: What they work on.
            clock: Tells the time.
            namespace: The deployment.
            beat_clock: The one by which beats are given; the same by default.
            managers: What starts and stops runners here; by default, nothing.
        """
        self._registry = registry
        self._trust = trust
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._managers = managers or Unmanaged()
        self._roster = Roster(registry, trust, beat_clock or clock)
        self._contexts: frozenset[str] | None = None

    def within(self, contexts: frozenset[str] | None) -> Fleet:
        """Return the runners that serve some of these contexts, as if no others were.

        None is all of them.
        """
        if contexts is None:
            return self
        bound = Fleet.__new__(Fleet)
        bound.__dict__.update(self.__dict__, _contexts=contexts)
        return bound

    # --- runners come -----------------------------------------------------------

    def register(self, registration: object) -> RunnerView:
        """Take up a runner that says who it is; one that is heard stays as it is.

        Args:
            registration: The envelope, as parsed JSON.

        Raises:
            RefusedError: with the reason code; nothing is kept.
            ConflictError: if its nonce was used before.
        """
        now = self._clock.now()
        trust = self._trust.current()
        envelope = dsse.from_wire(registration, dsse.RUNNER, max_bytes=MAX_BODY)
        _require_valid(trust, now)
        said = read_registration(envelope, trust=trust, aud=self._namespace)
        require_covered(said, trust)
        self._require_own_contexts(said)
        require_fresh(said, now)
        roll = self._roster.look()
        is_news = _is_news(said, roll.beats.get(said.name), roll.at)
        text = write_registration(envelope, heard_at=roll.at)
        is_new = self._registry.spend(
            f"{said.name} {said.nonce}",
            at=now,
            name=said.name,
            text=text if is_news else None,
        )
        if not is_new:
            raise ConflictError(
                f"the runner {said.name} has used this nonce before: sign a new"
                " registration",
                reason="nonce_used",
            )
        return self.get(said.name)

    # --- runners are looked at ----------------------------------------------------

    def list(self) -> tuple[RunnerView, ...]:
        """Return every runner, by name."""
        return self._shown(None)

    def get(self, name: str) -> RunnerView:
        """Return one runner.

        Raises:
            NotFoundError: if there is none of that name.
        """
        found = self._shown(name)
        if not found:
            raise _unknown(name)
        return found[0]

    # --- runners are managed ------------------------------------------------------

    def start(self, name: str) -> RunnerView:
        """Start a runner that this node manages; one that was removed is back.

        Raises:
            NotFoundError: if there is none of that name.
            ConflictError: if this node does not manage it, or if it is being stopped.
        """
        if name in self._roster.look([name]).removed and self._manages(name):
            self._registry.leave(name)
        self._require_managed(name)
        beat = self._roster.look().beats.get(name)
        had_no_last_word = beat is not None and beat.phase is not Phase.STOPPED
        if had_no_last_word and self._managed_status(name) in ("stopped", "crashed"):
            # By what it said in that life the new one would look lost.
            self._registry.leave(name)
        self._managers.start(name)
        return self.get(name)

    def stop(self, name: str) -> RunnerView:
        """Stop a runner that this node manages, once it has finished what it runs.

        Raises:
            NotFoundError: if there is none of that name.
            ConflictError: if this node does not manage it.
        """
        self._require_managed(name)
        self._halt(name)
        return self.get(name)

    def remove(self, name: str) -> RunnerView:
        """Take a runner off the list; one that this node manages is stopped first.

        It is back when it is started again, or as soon as it is heard.

        Raises:
            NotFoundError: if there is none of that name.
            ConflictError: if it is alive and this node does not manage it.
        """
        view = self.get(name)
        if self._manages(name):
            self._halt(name)
            view = self.get(name)
            self._registry.keep(name, write_removed())
            return view
        if view.status in ("running", "starting"):
            raise ConflictError(
                f"the runner {name} is alive, and this supervisor does not manage it:"
                " stop it first, where it was started",
                reason="runner_alive",
            )
        self._registry.leave(name)
        return view

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        """Return the last lines that a runner that this node manages wrote.

        Raises:
            NotFoundError: if there is none of that name.
            ConflictError: if this node does not manage it.
        """
        self._require_managed(name)
        return tuple(self._managers.logs(name, lines=lines))

    # --- how ------------------------------------------------------------------------

    def _manages(self, name: str) -> bool:
        return name in self._managers.names()

    def _require_managed(self, name: str) -> None:
        view = self.get(name)
        if view.process_manager is None:
            raise ConflictError(
                f"this supervisor does not manage the runner {name}: only those under"
                " [[actors]] and executors of its configuration",
                reason="runner_not_managed",
            )

    def _halt(self, name: str) -> None:
        # Unasked how it does: what was seen a moment ago may not be so any more.
        self._managers.stop(name)
        roll = self._roster.look()
        beat = roll.beats.get(name)
        if beat is not None and is_alive(beat, roll.at):
            # It had no time for a last word, and it would look alive for a while.
            # Should another go by its name elsewhere, its next beat says so.
            self._registry.leave(name)

    def _require_own_contexts(self, said: Registration) -> None:
        if self._contexts is not None and not self._contexts.issuperset(said.contexts):
            raise NotCoveredError(
                "bind.context", "the secret is not for all contexts of this runner"
            )

    def _shown(self, wanted: str | None) -> tuple[RunnerView, ...]:
        """Return every runner, or the one of this name, as far as it may be seen."""
        trust = self._trust.current()
        managed = frozenset(self._managers.names())
        roll = self._roster.look(managed)
        names = managed.union(roll.beats) - roll.removed
        if wanted is not None:
            names &= {wanted}
        plans = {
            name: self._plan(name, roll.beats.get(name), trust)
            for name in sorted(names)
        }
        # Seen first, asked about second: how long a process manager takes to answer
        # would tell that there is a runner.
        views = [
            self._view(name, plan, roll.beats.get(name), roll.at)
            for name, plan in plans.items()
            if self._is_seen(plan)
        ]
        return self._with_work(views, trust)

    def _plan(self, name: str, beat: RunnerBeat | None, trust: Trust) -> Planned:
        """Return what a runner serves: by its own word, else by what is said of it."""
        if beat is not None:
            return _planned(beat)
        plan = self._managers.plan(name)
        entry = trust.runner(name)
        return plan if entry is None else replace(plan, contexts=entry.contexts)

    def _is_seen(self, plan: Planned) -> bool:
        if self._contexts is None or ALL in plan.contexts:
            return True
        return not self._contexts.isdisjoint(plan.contexts)

    def _view(
        self, name: str, plan: Planned, beat: RunnerBeat | None, now: datetime
    ) -> RunnerView:
        if not self._manages(name):
            return _view(name, plan, beat, status_of(beat, None, now), None)
        managed = self._managed_status(name)
        if managed == "running" and beat is not None and is_gone(beat):
            # What runs is another process, and it was not heard yet.
            managed = "starting"
        status = status_of(beat, managed, now)
        return _view(name, plan, beat, status, self._managers.kind(name))

    def _managed_status(self, name: str) -> ManagedStatus | None:
        try:
            return self._managers.status(name)
        except (UnavailableError, ConfigurationError) as error:
            # The list is worth having without it.
            _logger.warning("process manager silent", runner=name, detail=error.detail)
            return None

    def _with_work(
        self, views: Sequence[RunnerView], trust: Trust
    ) -> tuple[RunnerView, ...]:
        """Add what the store has for each, in two questions for all of them."""
        if not views:
            return ()
        served = [self._queues(view, trust) for view in views]
        every = sorted({queue for queues in served for queue in queues})
        waiting = self._store.queue_lengths(every, contexts=self._contexts)
        held = self._store.running_on(
            [view.name for view in views], contexts=self._contexts
        )
        return tuple(
            replace(
                view,
                contexts=self._own(view.contexts),
                queued=sum(waiting[queue] for queue in queues),
                running=held[view.name],
            )
            for view, queues in zip(views, served, strict=True)
        )

    def _queues(self, view: RunnerView, trust: Trust) -> Sequence[str]:
        """Return the queues that a runner serves, but none of others' contexts."""
        entry = trust.runner(view.name)
        if entry is None:
            return ()
        executors = view.executor.split(",")
        every = queues_of(entry, executors, trust)
        if self._contexts is None:
            return every
        foreign = {
            queue
            for executor in executors
            for queue in foreign_queues(executor, trust, contexts=self._contexts)
        }
        return [queue for queue in every if queue not in foreign]

    def _own(self, contexts: tuple[str, ...]) -> tuple[str, ...]:
        if self._contexts is None:
            return contexts
        return tuple(one for one in contexts if one in {ALL, *self._contexts})


def status_of(
    beat: RunnerBeat | None, managed: ManagedStatus | None, now: datetime
) -> RunnerStatus:
    """Return how a runner does.

    Args:
        beat: What it said last, if it was ever heard.
        managed: What its process manager knows of it; None if none here manages it,
            or it does not answer.
        now: The present, by the clock of beats.
    """
    if managed in ("crashed", "starting"):
        return managed
    if beat is None:
        return "starting" if managed == "running" else "stopped"
    if beat.phase is Phase.STOPPED:
        # Of a life before, if its process runs.
        return "starting" if managed == "running" else "stopped"
    if is_alive(beat, now):
        # Also one that this node only could start, and that somebody else did.
        return "starting" if beat.phase is Phase.STARTING else "running"
    return "stopped" if managed == "stopped" else "lost"


def _require_valid(trust: Trust, now: datetime) -> None:
    if trust.is_expired(now):
        raise SignatureError(
            "sig.none",
            f"the trust bundle expired at {shown(trust.expires_at)}, so no key counts;"
            " run `horus trust renew` where the root key lies",
        )


def _is_news(said: Registration, beat: RunnerBeat | None, now: datetime) -> bool:
    """Whether a registration says more than what was heard of the runner last."""
    if beat is None:
        return True
    is_running = beat.phase is not Phase.STARTING and is_alive(beat, now)
    return said.at > beat.at and not is_running


def _planned(beat: RunnerBeat) -> Planned:
    return Planned(
        executor=",".join(beat.executors),
        contexts=beat.contexts,
        concurrency=beat.concurrency,
    )


def _view(
    name: str,
    plan: Planned,
    beat: RunnerBeat | None,
    status: RunnerStatus,
    process_manager: str | None,
) -> RunnerView:
    return RunnerView(
        name=name,
        executor=plan.executor,
        contexts=plan.contexts,
        concurrency=plan.concurrency,
        status=status,
        last_seen=None if beat is None else beat.seen_at,
        process_manager=process_manager,
    )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no runner {name}")
