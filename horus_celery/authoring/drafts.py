"""What somebody wrote of a workflow, before it has ids, times and signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias

from horus_celery.dag.model import Graph
from horus_celery.errors import MalformedError
from horus_celery.statements.fields import Net
from horus_celery.statements.manifest import OnFailure, Step, When, make_step

#: Bytes of a result that a step may be given, where nobody says otherwise.
MAX_INPUT: Final = 4 * 1024 * 1024
#: How long a workflow may take, waiting included, where nobody says otherwise.
LIFETIME: Final = timedelta(days=1)
TIMEOUT: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of a step of the same workflow, as an input of another one."""

    step: str
    max_bytes: int = MAX_INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierJob:
    """The result of a job that is over already, as an input of a step."""

    digest: str
    max_bytes: int = MAX_INPUT


InputFrom: TypeAlias = StepResult | EarlierJob


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDraft:
    """One step: its place among the others, and the job that it stands for."""

    name: str
    #: The script itself.
    payload: str
    executor: str = "python"
    #: The steps before it; those whose results it takes belong to them, too.
    depends_on: tuple[str, ...] = ()
    when: When = "all_success"
    on_failure: OnFailure = "fail"
    supervisor: str | None = None
    runner: str | None = None
    args: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    inputs: Mapping[str, InputFrom] = field(default_factory=dict)
    #: Digests of jobs that completed before this workflow began.
    needs: tuple[str, ...] = ()
    timeout: timedelta = TIMEOUT
    #: Some of the limits by their names in the protocol; the others are as usual.
    limits: Mapping[str, int] = field(default_factory=dict)
    net: Net | None = None
    attempts: int = 1

    @property
    def parents(self) -> tuple[str, ...]:
        """All steps before it: those it names, then those whose results it takes."""
        sources = [
            one.step for one in self.inputs.values() if isinstance(one, StepResult)
        ]
        return tuple(dict.fromkeys([*self.depends_on, *sources]))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDraft:
    """A whole workflow as somebody wrote it."""

    name: str
    steps: tuple[StepDraft, ...]
    max_parallel: int | None = None
    #: From its signing on; then what has not started never will.
    lifetime: timedelta = LIFETIME

    def manifest_steps(self) -> tuple[Step, ...]:
        """Return its steps as the manifest has them.

        Raises:
            MalformedError: `schema.*`, if a name or a rule is not as it must be; its
                text names the step.
        """
        return tuple(map(_in_manifest, self.steps))

    def graph(self) -> Graph:
        """Return the graph of its steps.

        Raises:
            MalformedError: as `manifest_steps`; or `schema.steps`, if there is none.
            WorkflowError: if they cannot be run.
        """
        if not self.steps:
            raise MalformedError(
                "schema.steps", f"the workflow {self.name} has no step: add one"
            )
        return Graph.of_steps(self.manifest_steps(), max_parallel=self.max_parallel)


def _in_manifest(step: StepDraft) -> Step:
    try:
        return make_step(
            step.name,
            depends_on=step.parents,
            when=step.when,
            supervisor=step.supervisor,
            on_failure=step.on_failure,
        )
    except MalformedError as refusal:
        raise MalformedError(
            refusal.reason, f"the step {step.name}: {refusal.detail}"
        ) from None
