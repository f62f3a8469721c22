"""What a step is brought along: what completed at other supervisors, with its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from horus_celery.errors import UnavailableError
from horus_celery.parcels import Parcel
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.store.workflows import Handed, WorkflowStore
from horus_celery.workflows.manifests import Manifests
from horus_celery.workflows.supervisors import StepSupervisor


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

        What did not complete is left out. Of earlier runs that is brought whose proof
        is at home, where it comes from wherever a step completed.

        Raises:
            UnavailableError: if a supervisor does not answer.
        """
        graph = self._manifests.submission(workflow).graph
        elsewhere = [
            index
            for index in range(step.index)
            if graph.supervisors[index] != step.supervisor
        ]
        job = _read(step.envelope)
        wanted = {*job.needs, *(ref.source for ref in job.inputs.values())}
        parcels: list[Parcel | None] = []
        for index, digest in self._store.digests_of(workflow, elsewhere).items():
            if digest in wanted:
                parcels.append(self._fetch(graph.supervisors[index], workflow, index))
        if step.supervisor is not None:
            before = [*elsewhere, *graph.parents[step.index]]
            known = self._store.digests_of(workflow, before).values()
            earlier = sorted(wanted - {*known})
            parcels += [self._fetch_earlier(one, job.context_id) for one in earlier]
        return [one.to_wire() for one in parcels if one is not None]

    def _fetch(self, name: str | None, workflow: str, index: int) -> Parcel | None:
        supervisor = self._home if name is None else self._others.get(name)
        if supervisor is None:
            raise UnavailableError(f"the supervisor {name} is not configured here")
        job = self._store.job(workflow, index)
        shown = supervisor.find(job.digest, lambda: job.envelope)
        return None if shown is None else Parcel.of(shown)

    def _fetch_earlier(self, digest: str, context_id: str) -> Parcel | None:
        """Return what an earlier run brought about, of the same context alone."""
        shown = self._home.find(digest, lambda: "")
        if shown is None or shown.record.summary.context_id != context_id:
            return None
        return Parcel.of(shown)


def _read(envelope: str) -> Job:
    return Job.from_wire(canonical.parse(dsse.read(envelope, dsse.JOB).body))
