"""How a workflow goes on by Celery's canvas: what each of its messages may bring about.

A message of canvas names a step and is no fact. Whether the step may start, or is over,
the store says; what is behind it, the plan of the manifest. Each step is gone on from
once, so a doubled or forged message changes nothing; where one was lost, a sweep finds
the steps that wait for it, and the workflow goes on by reference.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from horus_celery.dag.compiler import Plan, compile_plan
from horus_celery.dag.progress import StepStatus
from horus_celery.dag.shapes import Place, places_in, shape_of
from horus_celery.store.workflows import WorkflowStore
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.manifests import Manifests

#: Plans that are kept in mind.
_KEPT: Final = 64
#: What steps are marked with: that the workflow was begun, that canvas went on from a
#: step, and that it is in the count of a chord.
_BEGUN: Final = "begun"
_LEFT: Final = "left"
_CHORD: Final = "chord {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A plan that runs by canvas, and where each step stands in its shape."""

    plan: Plan
    places: Mapping[int, Place]


class Relay:
    """Passes on, step by step; may be called by many threads.

    Every method raises `UnavailableError` as `Conductor.advance` does, `NotFoundError`
    if there is no such workflow or step, and `NoCanvas` if it does not run so.
    """

    def __init__(self, store: WorkflowStore, conductor: Conductor) -> None:
        """Take what it works with.

        Args:
            store: Where the workflows are.
            conductor: Starts the steps.
        """
        self._store = store
        self._conductor = conductor
        self._manifests = Manifests(store)
        self._lock = threading.Lock()
        self._courses: OrderedDict[str, Course] = OrderedDict()

    def begin(self, workflow: str) -> Plan | None:
        """Return the plan that Celery is to run; None if that was said already."""
        if not self._store.mark(workflow, _BEGUN, 0):
            return None
        return self._course(workflow).plan

    def reach(self, workflow: str, index: int) -> Place | None:
        """Start a step, or go on from it: return its place, once, when it completed."""
        if self._store.step(workflow, index).status is not StepStatus.COMPLETED:
            # Told again when it is over.
            self._conductor.start(workflow, index)
            return None
        if not self._store.mark(workflow, _LEFT, index):
            return None
        return self._course(workflow).places[index]

    def is_last_part(self, workflow: str, index: int) -> bool:
        """Count a step into the chord that it is a part of; say whether all are in."""
        place = self._course(workflow).places[index]
        mark = _CHORD.format(place.body)
        return self._store.mark(workflow, mark, index) == place.parts > 0

    def _course(self, workflow: str) -> Course:
        with self._lock:
            known = self._courses.get(workflow)
        if known is None:
            plan = compile_plan(self._manifests.submission(workflow).graph)
            known = Course(plan=plan, places=places_in(shape_of(plan)))
            with self._lock:
                self._courses[workflow] = known
                while len(self._courses) > _KEPT:
                    self._courses.popitem(last=False)
        return known
