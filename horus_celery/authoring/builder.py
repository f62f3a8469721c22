"""How a workflow is written in Python: steps, each behind those that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeAlias

from horus_celery.authoring.drafts import (
    LIFETIME,
    TIMEOUT,
    EarlierJob,
    InputFrom,
    StepDraft,
    StepResult,
    WorkflowDraft,
)
from horus_celery.authoring.scripts import executor_for, read_script, usual_executor
from horus_celery.authoring.signing import Signer, Submission, sign
from horus_celery.dag.compiler import Plan, compile_plan
from horus_celery.errors import ConfigurationError
from horus_celery.statements.fields import Net
from horus_celery.statements.manifest import OnFailure, When


@dataclass(frozen=True, slots=True)
class StepHandle:
    """A step that was written down, for those behind it to name."""

    name: str

    def at_most(self, max_bytes: int) -> StepResult:
        """Return its result as an input of at most so many bytes."""
        return StepResult(step=self.name, max_bytes=max_bytes)


#: Whose result a step is given: a step's, by its name or not, or that of an older job.
Source: TypeAlias = StepHandle | str | InputFrom
_NO_INPUTS: Final[Mapping[str, Source]] = MappingProxyType({})
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})


class Workflow:
    """A workflow while it is written.

    As a context manager it looks, at the end of a block in which nothing failed,
    whether its steps can be run.

        with Workflow("etl") as etl:
            rows = etl.step("extract", run="print(42)")
            etl.step("load", file="load.py", inputs={"ROWS": rows})
    """

    def __init__(
        self,
        name: str,
        *,
        max_parallel: int | None = None,
        lifetime: timedelta = LIFETIME,
        executor: str | None = None,
        timeout: timedelta = TIMEOUT,
        env: Mapping[str, str] = _NOTHING,
        attempts: int = 1,
        supervisor: str | None = None,
        folder: Path | str | None = None,
    ) -> None:
        """Begin without any step.

        Args:
            name: What people call it.
            max_parallel: How many steps may run at a time; None: as many as can.
            lifetime: How long after its signing a step may still start; at most 7 days.
            executor: The kind of work of steps that do not say it.
            timeout: Wall time of an attempt of steps that do not say it.
            env: Environment variables of every step; a step's own come on top.
            attempts: How often steps that do not say it may be started.
            supervisor: Where steps that do not say it go.
            folder: From where the files of scripts are named; by default the folder of
                the program that begins the workflow, as it is with a file.

        Raises:
            ConfigurationError: if a duration is no timedelta, or `env` no dictionary.
        """
        here = f"the workflow {name}"
        _require_duration(f"{here}: lifetime", lifetime)
        _require_duration(f"{here}: timeout", timeout)
        _require_dictionary(f"{here}: env", env)
        self._draft = WorkflowDraft(
            name=name, steps=(), max_parallel=max_parallel, lifetime=lifetime
        )
        self._steps: dict[str, StepDraft] = {}
        self._executor = executor
        self._timeout = timeout
        self._env = dict(env)
        self._attempts = attempts
        self._supervisor = supervisor
        self._folder = (_caller() / (folder or "")).absolute()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.draft().graph()

    def step(
        self,
        name: str,
        *,
        run: str | None = None,
        file: Path | str | None = None,
        executor: str | None = None,
        after: Iterable[StepHandle | str] = (),
        when: When = "all_success",
        on_failure: OnFailure = "fail",
        inputs: Mapping[str, Source] = _NO_INPUTS,
        needs: Iterable[str] = (),
        args: Iterable[str] = (),
        env: Mapping[str, str] = _NOTHING,
        secrets: Iterable[str] = (),
        timeout: timedelta | None = None,
        limits: Mapping[str, int] = _NO_LIMITS,
        net: Net | None = None,
        attempts: int | None = None,
        runner: str | None = None,
        supervisor: str | None = None,
    ) -> StepHandle:
        """Add a step.

        Args:
            name: Its name, unique within the workflow.
            run: The script itself; or
            file: the file that holds it, from the workflow's own folder.
            executor: The kind of work; by default that of the file's name, else of the
                workflow, else `python`.
            after: The steps that it depends on.
            when: How these must have ended.
            on_failure: What its own failure means for the workflow.
            inputs: Steps whose results the script finds as files in `$HORUS_INPUTS`, by
                the names of those; it depends on them, too. Or jobs that are over.
            needs: Digests of jobs that are over and must have completed.
            args: Arguments of the script.
            env: Environment variables of the script.
            secrets: Names of secrets of the node.
            timeout: Wall time of one attempt.
            limits: Some of `memory_mb`, `cpu_s`, `procs`, `output_kb`.
            net: Which network it gets.
            attempts: How often it may be started.
            runner: One runner by its name.
            supervisor: One of the configured supervisors by its name.

        Raises:
            ConfigurationError: if there is no script, or there are two, or a step of
                this name is there already; or if a list, dictionary or duration is
                none.
        """
        here = f"the step {name}"
        lists = {"after": after, "needs": needs, "args": args, "secrets": secrets}
        for what, given in lists.items():
            _require_list(f"{here}: {what}", given)
        for what, named in {"inputs": inputs, "env": env, "limits": limits}.items():
            _require_dictionary(f"{here}: {what}", named)
        if timeout is not None:
            _require_duration(f"{here}: timeout", timeout)
        path = None if file is None else self._folder / file
        script = _script(name, run, path)
        if name in self._steps:
            raise ConfigurationError(
                f"the workflow has a step {name} already; choose another name"
            )
        by_file = None if path is None else executor_for(path)
        self._steps[name] = StepDraft(
            name=name,
            payload=script,
            executor=executor or by_file or self._executor or usual_executor(path),
            depends_on=tuple(_name(f"{here}: after", one) for one in after),
            when=when,
            on_failure=on_failure,
            supervisor=supervisor or self._supervisor,
            runner=runner,
            args=tuple(args),
            env_vars={**self._env, **env},
            secrets=tuple(secrets),
            inputs={
                key: _source(f"{here}: inputs.{key}", one)
                for key, one in inputs.items()
            },
            needs=tuple(needs),
            timeout=self._timeout if timeout is None else timeout,
            limits=limits,
            net=net,
            attempts=self._attempts if attempts is None else attempts,
        )
        return StepHandle(name)

    def draft(self) -> WorkflowDraft:
        """Return what was written so far."""
        return replace(self._draft, steps=tuple(self._steps.values()))

    def plan(self) -> Plan:
        """Return the plan of what was written so far.

        Raises:
            WorkflowError: if its steps cannot be run.
        """
        return compile_plan(self.draft().graph())

    def sign(
        self,
        signer: Signer,
        *,
        now: datetime,
        on_signed: Callable[[int], object] | None = None,
    ) -> Submission:
        """Sign what was written so far; as `signing.sign`."""
        return sign(self.draft(), signer, now=now, on_signed=on_signed)


def _caller() -> Path:
    """Return the folder of the program that begins a workflow.

    What is typed into an interpreter has none: there it is the current directory.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    file = None if frame is None else frame.f_globals.get("__file__")
    return Path() if file is None else Path(file).parent


# A program is written by hand: these look at what its types only promise.


def _require_list(what: str, value: object) -> None:
    # A text would be taken apart: `after="extract"` would name the step "e".
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigurationError(f'{what} must be a list, such as ["…"]')


def _require_dictionary(what: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'{what} must be a dictionary, such as {{"NAME": …}}')


def _require_duration(what: str, value: object) -> None:
    if not isinstance(value, timedelta):
        raise ConfigurationError(
            f"{what} must be a timedelta, such as timedelta(seconds=30)"
        )


def _script(name: str, run: str | None, file: Path | None) -> str:
    if run is not None and file is None:
        return run
    if file is not None and run is None:
        try:
            return read_script(file)
        except ConfigurationError as error:
            raise ConfigurationError(f"the step {name}: {error.detail}") from None
    raise ConfigurationError(f"the step {name} needs one script: pass run=… or file=…")


def _name(what: str, step: object) -> str:
    match step:
        case str():
            return step
        case StepHandle():
            return step.name
        case _:
            raise ConfigurationError(
                f"{what} must name a step: by its name, or by what step() returned"
            )


def _source(what: str, one: Source) -> InputFrom:
    if isinstance(one, StepResult | EarlierJob):
        return one
    return StepResult(step=_name(what, one))
