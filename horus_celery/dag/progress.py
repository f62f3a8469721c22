"""When a step starts or is skipped, and how its workflow ends: the one table of rules.

How a step ended is all that others depend on, so three kinds of ends are enough. For
every rule some of them decide about a step as soon as one parent ends so; without such
an end it is decided when the last parent is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from horus_celery.dag.model import Graph
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.statements.manifest import When


class WorkflowStatus(StrEnum):
    """Where a workflow stands (protocol section 6)."""

    CREATED = "created"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


#: Where a workflow stays.
ENDED: Final = (
    WorkflowStatus.COMPLETED,
    WorkflowStatus.FAILED,
    WorkflowStatus.STOPPED,
)


class StepStatus(StrEnum):
    """Where a step stands: it waits, or is where its job is, or will never run."""

    PENDING = "pending"
    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    REJECTED = "rejected"
    SKIPPED = "skipped"


class End(StrEnum):
    """How a step ended, as far as the steps behind it care."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Decision(StrEnum):
    """What becomes of a step that waited for others."""

    START = "start"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a step waits for."""

    #: The ends of a parent that decide at once, whatever becomes of the others.
    decisive: frozenset[End]
    #: What they decide.
    at_once: Decision
    #: What is decided when all parents are over and none ended so.
    at_last: Decision


RULES: Final[Mapping[When, Rule]] = MappingProxyType(
    {
        "all_success": Rule(
            decisive=frozenset({End.FAILED, End.SKIPPED}),
            at_once=Decision.SKIP,
            at_last=Decision.START,
        ),
        "all_done": Rule(
            decisive=frozenset(),
            at_once=Decision.START,
            at_last=Decision.START,
        ),
        "one_failed": Rule(
            decisive=frozenset({End.FAILED}),
            at_once=Decision.START,
            at_last=Decision.SKIP,
        ),
        "none_failed": Rule(
            decisive=frozenset({End.FAILED}),
            at_once=Decision.SKIP,
            at_last=Decision.START,
        ),
    }
)

#: What the end of a step is to others. One that somebody stopped has not done its work.
ENDS: Final[Mapping[StepStatus, End]] = MappingProxyType(
    {
        StepStatus.COMPLETED: End.COMPLETED,
        StepStatus.FAILED: End.FAILED,
        StepStatus.REJECTED: End.FAILED,
        StepStatus.STOPPED: End.FAILED,
        StepStatus.SKIPPED: End.SKIPPED,
    }
)


def decide(when: When, end: End, *, left: int) -> Decision | None:
    """Say what one more end of a parent means for a step; None: it still waits.

    Args:
        when: The step's rule.
        end: How the parent ended.
        left: How many parents are not over yet, without this one.
    """
    rule = RULES[when]
    if end in rule.decisive:
        return rule.at_once
    return rule.at_last if left == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What else an end, a start or a stop brought about."""

    #: Steps that may start now, in the order in which they became ready.
    ready: tuple[int, ...] = ()
    #: Steps that will never run.
    skipped: tuple[int, ...] = ()


_NOTHING: Final = Change()


class Progress:
    """How far one run of a graph is: told what happens, it tells what follows.

    Every report may come again: only the first one about an end counts.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._statuses = [StepStatus.PENDING] * len(graph)
        #: Parents that are not over yet.
        self._missing = [len(above) for above in graph.parents]
        self._is_decided = bytearray(len(graph))
        self._left = len(graph)
        self._has_begun = False
        self._is_asked_to_stop = False
        self._has_failed = False

    @property
    def statuses(self) -> Sequence[StepStatus]:
        """Where each step stands, by index."""
        return tuple(self._statuses)

    @property
    def status(self) -> WorkflowStatus:
        """Where the workflow stands."""
        if self._left:
            return WorkflowStatus.RUNNING if self._has_begun else WorkflowStatus.CREATED
        if self._is_asked_to_stop:
            return WorkflowStatus.STOPPED
        return WorkflowStatus.FAILED if self._has_failed else WorkflowStatus.COMPLETED

    @property
    def is_over(self) -> bool:
        """Whether every step has ended or was skipped."""
        return self._left == 0

    def begin(self) -> Change:
        """Start the workflow: the steps that depend on none are ready."""
        if self._has_begun:
            return _NOTHING
        self._has_begun = True
        roots = tuple(self._graph.roots)
        for step in roots:
            self._is_decided[step] = True
        return Change(ready=roots)

    def moved(self, step: int, status: Status) -> Change:
        """Note where the job of a step stands; at its end, say what follows.

        Raises:
            ValueError: if that step was not ready to start.
        """
        known = self._statuses[step]
        if known in ENDS:
            return _NOTHING
        if not self._is_decided[step]:
            raise ValueError(f"the step {self._graph.names[step]} was not ready")
        self._statuses[step] = StepStatus(status)
        return self._follow(step) if status in TERMINAL else _NOTHING

    def stop(self) -> Change:
        """Ask for the end: what was not started never will be.

        Steps whose jobs exist end as these do.
        """
        if self._is_asked_to_stop or self.is_over:
            return _NOTHING
        self._has_begun = self._is_asked_to_stop = True
        skipped = [
            step
            for step, status in enumerate(self._statuses)
            if status is StepStatus.PENDING
        ]
        for step in skipped:
            self._is_decided[step] = True
            self._statuses[step] = StepStatus.SKIPPED
        self._left -= len(skipped)
        return Change(skipped=tuple(skipped))

    def _follow(self, over: int) -> Change:
        """Carry the end of a step on to those behind it, as far as that reaches."""
        ready: list[int] = []
        skipped: list[int] = []
        queue = deque([over])
        while queue:
            step = queue.popleft()
            self._left -= 1
            end = ENDS[self._statuses[step]]
            if end is End.FAILED and self._graph.on_failure[step] == "fail":
                self._has_failed = True
            for child, decision in self._decided_by(step, end):
                if decision is Decision.START:
                    ready.append(child)
                else:
                    self._statuses[child] = StepStatus.SKIPPED
                    skipped.append(child)
                    queue.append(child)
        return Change(ready=tuple(ready), skipped=tuple(skipped))

    def _decided_by(self, step: int, end: End) -> Iterator[tuple[int, Decision]]:
        for child in self._graph.children[step]:
            self._missing[child] -= 1
            if self._is_decided[child]:
                continue
            decision = decide(self._graph.when[child], end, left=self._missing[child])
            if decision is not None:
                self._is_decided[child] = True
                yield child, decision


def follows(graph: Graph, ends: Mapping[int, StepStatus]) -> Sequence[Decision]:
    """Return which steps had to start and which to be skipped, given how steps ended.

    A step without an end here counts as skipped for those behind it.
    """
    decisions: list[Decision] = []
    for step, above in enumerate(graph.parents):
        decision: Decision | None = None if above else Decision.START
        for left, one in zip(reversed(range(len(above))), above, strict=True):
            end = ENDS[ends.get(one, StepStatus.SKIPPED)]
            decision = decision or decide(graph.when[step], end, left=left)
        # With the last parent everything is decided.
        decisions.append(decision or Decision.SKIP)
    return decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a graph that was run in memory."""

    status: WorkflowStatus
    #: Where each step ended, by index.
    statuses: tuple[StepStatus, ...]
    #: What happened, in order: a step started (True) or ended (False).
    events: tuple[tuple[int, bool], ...]

    @property
    def started(self) -> tuple[int, ...]:
        """The steps that ran, in the order in which they started."""
        return tuple(step for step, is_start in self.events if is_start)


#: Tells how a step that runs ends.
Outcomes: TypeAlias = Callable[[int], Status]
#: Chooses which of those that run ends next, by its position.
Choice: TypeAlias = Callable[[Sequence[int]], int]


def run(
    graph: Graph,
    outcome: Outcomes,
    *,
    slots: int | None = None,
    choose: Choice = lambda running: 0,
) -> Run:
    """Run a whole graph in memory, as slowly and as plainly as the rules are written.

    Args:
        graph: What to run.
        outcome: How each step ends; one of the terminal statuses.
        slots: How many steps may run at a time; None: as many as can.
        choose: Which of the running ones ends next; by default the longest running.
    """
    progress = Progress(graph)
    waiting = deque(progress.begin().ready)
    running: list[int] = []
    events: list[tuple[int, bool]] = []
    while waiting or running:
        while waiting and (slots is None or len(running) < slots):
            step = waiting.popleft()
            progress.moved(step, Status.RUNNING)
            running.append(step)
            events.append((step, True))
        step = running.pop(choose(running))
        events.append((step, False))
        waiting.extend(progress.moved(step, outcome(step)).ready)
    return Run(
        status=progress.status,
        statuses=tuple(progress.statuses),
        events=tuple(events),
    )
