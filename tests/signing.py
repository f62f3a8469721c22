"""Signs workflows as a client does, and as none should, for tests of every level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from horus_celery.statements import dsse
from horus_celery.statements.job import WorkflowRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import make_manifest, make_step


@dataclass(frozen=True)
class Signed:
    """A workflow as a client sends it, and the digests of its jobs."""

    id: str
    digest: str
    manifest: Any
    jobs: dict[str, Any]
    digests: dict[str, str]


def sign_workflow(
    steps: Mapping[str, Any],
    *,
    key: KeyPair,
    now: datetime,
    manifest: Mapping[str, Any],
    job: Mapping[str, Any],
    jobs: Mapping[str, Any] | None = None,
) -> Signed:
    """Sign a manifest, then a job for each of its steps, in the order of the steps.

    Args:
        steps: What each step says of itself, or the names of those before it.
        key: The caller's.
        now: When it is made.
        manifest: What the manifest says.
        job: What every job says.
        jobs: What the job of a step says besides, by the name of the step;
            `also_needs` stands behind the needs that it has anyway. It may be a
            function of the digests of the jobs before.
    """
    told = {
        name: said if isinstance(said, dict) else {"depends_on": said}
        for name, said in steps.items()
    }
    made = make_manifest(
        **{
            "name": "etl",
            "steps": [make_step(name, **said) for name, said in told.items()],
            "now": now,
            **manifest,
        }
    )
    sealed = dsse.sign(dsse.WORKFLOW, made.body(), [key])
    digests: dict[str, str] = {}
    envelopes: dict[str, Any] = {}
    waiting = dict(told)
    while waiting:
        name = _next(waiting)
        said = waiting.pop(name)
        ref = {"id": made.id, "step": name, "manifest": sealed.digest}
        # Where steps wait for each other there is no such digest yet.
        above = [digests.get(one, "0" * 64) for one in said.get("depends_on", ())]
        is_usual = said.get("when", "all_success") == "all_success"
        special = (jobs or {}).get(name, {})
        facts = dict(special(digests) if callable(special) else special)
        also = facts.pop("also_needs", ())
        signed = make_job(
            **{
                "payload": f"# {name}",
                "workflow": WorkflowRef.from_wire(ref),
                "needs": [*(above if is_usual else ()), *also],
                "now": now,
                **job,
                **facts,
            }
        )
        envelope = dsse.sign(dsse.JOB, signed.body(), [key])
        digests[name], envelopes[name] = envelope.digest, dsse.to_wire(envelope)
    return Signed(
        id=made.id,
        digest=sealed.digest,
        manifest=dsse.to_wire(sealed),
        jobs=envelopes,
        digests=digests,
    )


def _next(waiting: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a step that waits for none of these, or any of them."""
    for name, said in waiting.items():
        if not waiting.keys() & {*said.get("depends_on", ())}:
            return name
    return next(iter(waiting))
