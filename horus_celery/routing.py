"""Which queue carries a job's bell, and which queues a runner serves.

A queue is only a way: whoever takes a bell from it decides on verified bytes whether
the job is for him. So a bell in the wrong queue is late, and nothing worse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from horus_celery.statements.trust import ALL, RunnerEntry, Trust, is_listed


def queue_of(
    *, executor: str, runner: str | None, context_id: str, trust: Trust
) -> str:
    """Return the queue of a job.

    `EXECUTOR.at.RUNNER` if it names a runner; `EXECUTOR.ctx.CONTEXT` if a runner of the
    bundle is bound to its context; else the executor's own.
    """
    if runner is not None:
        return f"{executor}.at.{runner}"
    if context_id in _bound(executor, trust):
        return f"{executor}.ctx.{context_id}"
    return executor


def queues_of(
    entry: RunnerEntry, executors: Iterable[str], trust: Trust
) -> tuple[str, ...]:
    """Return the queues that a runner of the bundle serves, for these executors.

    One that is bound to contexts serves theirs; another serves those of all contexts,
    so that work goes to whoever is free.
    """
    queues: list[str] = []
    for executor in executors:
        queues.append(f"{executor}.at.{entry.name}")
        contexts = _bound(executor, trust)
        if ALL in entry.contexts:
            queues.append(executor)
        else:
            contexts = contexts.intersection(entry.contexts)
        queues += [f"{executor}.ctx.{context}" for context in sorted(contexts)]
    return tuple(queues)


def all_queues(executors: Iterable[str], trust: Trust) -> tuple[str, ...]:
    """Return every queue of these executors that a runner of the bundle serves."""
    wanted = tuple(executors)
    found = {
        queue: None
        for entry in trust.runners
        for queue in queues_of(
            entry,
            [one for one in wanted if is_listed(one, entry.executors)],
            trust,
        )
    }
    return tuple(found)


def foreign_queues(
    executor: str, trust: Trust, *, contexts: Collection[str]
) -> tuple[str, ...]:
    """Return the queues of an executor that other contexts than these have."""
    foreign = _bound(executor, trust).difference(contexts)
    return tuple(f"{executor}.ctx.{context}" for context in sorted(foreign))


def _bound(executor: str, trust: Trust) -> frozenset[str]:
    """Return the contexts to which runners of an executor are bound."""
    return frozenset(
        context
        for entry in trust.runners
        if ALL not in entry.contexts and is_listed(executor, entry.executors)
        for context in entry.contexts
    )
