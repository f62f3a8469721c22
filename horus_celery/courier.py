"""What a step is brought along: what completed at other supervisors, with its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from horus_celery.errors import UnavailableError
from horus_celery.manifests import Manifests
from horus_celery.parcels import Parcel
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.store.workflows import Handed, WorkflowStore
from horus_celery.supervisors import StepSupervisor


class Courier:
    """Fetches what steps build on from where it completed."""

    def __init__(
        self,
        store: WorkflowStore,
        home: StepSupervisor,
        others: Mapping[str, StepSupervisor],
    ) -> None:
        """Take what it works with.

        Args:
            store: Where the workflows are.
            home: The supervisor at home.
            others: Those elsewhere, by name.
        """
        self._store = store
        self._home = home
        self._others = others
        self._manifests = Manifests(store)

    def fetch(self, workflow: str, step: Handed) -> Sequence[object]:
        """Return parcels for a step, as parsed JSON.

        What did not complete is left out, and what is not of this workflow.

        Raises:
            UnavailableError: if a supervisor does not answer.
        """
        graph = self._manifests.submission(workflow).graph
        elsewhere = [
            index
            for index in range(step.index)
            if graph.supervisors[index] != step.supervisor
        ]
        wanted = _upstream_of(step.envelope)
        parcels: list[object] = []
        for index, digest in self._store.digests_of(workflow, elsewhere).items():
            if digest in wanted:
                parcel = self._fetch(graph.supervisors[index], workflow, index)
                parcels += [] if parcel is None else [parcel.to_wire()]
        return parcels

    def _fetch(self, name: str | None, workflow: str, index: int) -> Parcel | None:
        supervisor = self._home if name is None else self._others.get(name)
        if supervisor is None:
            raise UnavailableError(f"the supervisor {name} is not configured here")
        job = self._store.job(workflow, index)
        shown = supervisor.find(job.digest, lambda: job.envelope)
        return None if shown is None else Parcel.of(shown)


def _upstream_of(envelope: str) -> frozenset[str]:
    """Return the digests of the jobs that a job builds on."""
    job = Job.from_wire(canonical.parse(dsse.read(envelope, dsse.JOB).body))
    return frozenset({*job.needs, *(ref.source for ref in job.inputs.values())})
