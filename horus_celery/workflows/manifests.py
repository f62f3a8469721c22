"""What a workflow's manifest says, once it was let in: as its digest proves it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from horus_celery.dag.model import Graph
from horus_celery.errors import DamagedError, RefusedError
from horus_celery.statements import canonical, dsse, manifest
from horus_celery.statements.manifest import Manifest
from horus_celery.store.workflows import WorkflowStore
from horus_celery.workflows.submission import Submission

#: How many are kept in mind.
_KEPT: Final = 64


class Manifests:
    """The manifests of workflows, as their digests prove them; the latest are kept."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Submission] = OrderedDict()

    def keep(self, submission: Submission) -> None:
        """Keep one in mind, but for its envelope."""
        with self._lock:
            self._kept[submission.digest] = replace(submission, envelope="")
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def envelope(self, digest: str) -> dsse.Envelope:
        """Return the envelope of a manifest.

        Raises:
            NotFoundError: if there is no such workflow.
            DamagedError: if what is stored has another digest.
        """
        text = self._store.manifest(digest)
        try:
            envelope = dsse.read(text, dsse.WORKFLOW, max_bytes=manifest.MAX_BODY)
        except RefusedError:
            raise _other_manifest(digest) from None
        if envelope.digest != digest:
            raise _other_manifest(digest)
        return envelope

    def submission(self, digest: str) -> Submission:
        """Return what was let in under a digest; raises as `envelope`."""
        known = self._kept.get(digest)
        if known is None:
            envelope = self.envelope(digest)
            said = Manifest.from_wire(canonical.parse(envelope.body))
            known = Submission(
                manifest=said,
                digest=digest,
                envelope="",
                graph=Graph.of(said),
                signed_by=(),
            )
            self.keep(known)
        return known


def _other_manifest(digest: str) -> DamagedError:
    return DamagedError(
        f"what is stored as the manifest of workflow {digest} is not it:"
        " delete the workflow, and submit it again"
    )
