"""What Prometheus is told: the deployment's numbers, and this process's own.

No context, caller or job is named. Nothing that anybody sends makes a series without
end: calls are told apart by the method table and the codes; of what the store has, a
family shows `MAX_SERIES` series, the smallest ones beyond that as one, named `OTHER`.
"""

from __future__ import annotations

import inspect
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import Final, TypeVar, get_args

import prometheus_client as prometheus
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from api.calls import UNKNOWN
from api.codes import Code
from api.methods import METHODS
from api.site import Called
from horus_celery import __version__
from horus_celery.errors import HorusError, UnavailableError
from horus_celery.fleet import RunnerStatus, RunnerView
from horus_celery.lifecycle import Status
from horus_celery.mismatches import Place
from horus_celery.store.base import BUCKETS, Histogram, Tally
from horus_celery.store.workflows import WorkflowTally
from horus_celery.supervisor import Info

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES: Final = 100
OTHER: Final = "other"
#: A label is cut behind so many characters.
MAX_LABEL: Final = 128
#: Upper bounds for calls, in seconds; some of them wait.
CALL_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    *(60.0, 300.0),
)
RUNNER_STATUSES: Final[tuple[str, ...]] = get_args(RunnerStatus)
#: The methods by which jobs come in.
_SUBMITTING: Final = frozenset(
    procedure.name
    for procedure in METHODS
    if "job" in inspect.signature(procedure.function).parameters
)
#: The codes with which a statement is refused.
_REFUSED: Final = frozenset(
    {Code.MALFORMED, Code.SIGNATURE, Code.NOT_COVERED, Code.TIME}
)
#: Stands between the executor and the context in the name of a queue.
_OF_CONTEXT: Final = ".ctx."
#: No question begins later than this; one takes at most 2 s, and less at a dead Redis.
_PATIENCE: Final = timedelta(seconds=1)

_T = TypeVar("_T")
_Labels = tuple[str, ...]
_L = TypeVar("_L", bound=_Labels)

# When each series began would be a series more for each.
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where the deployment's numbers are asked; each may raise `HorusError`."""

    info: Callable[[], Info]
    tally: Callable[[], Tally]
    workflows: Callable[[], WorkflowTally]
    runners: Callable[[], Iterable[RunnerView]]
    #: What this process found in the store that no runner signed; asks nobody.
    mismatches: Callable[[], Mapping[Place, int]]


class Metrics:
    """What is told at a scrape; it is told of every call in between."""

    def __init__(self, facts: Facts) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._seconds = prometheus.Histogram(
            "horus_api_request_seconds",
            "Time that calls of the API took.",
            ["method"],
            buckets=CALL_BUCKETS,
            registry=self._registry,
        )
        self._errors = prometheus.Counter(
            "horus_api_errors",
            "Calls of the API that were answered with an error.",
            ["method", "code"],
            registry=self._registry,
        )
        self._rejections = prometheus.Counter(
            "horus_rejections",
            "Jobs that were refused: by the supervisor, or later by a runner.",
            ["by", "code"],
            registry=None,
        )
        self._registry.register(_Deployment(facts, self._rejections))

    def observe(self, called: Called) -> None:
        """Count one call."""
        name = called.method or UNKNOWN
        self._seconds.labels(name).observe(called.seconds)
        if called.code is None:
            return
        self._errors.labels(name, str(called.code)).inc()
        if called.code in _REFUSED and name in _SUBMITTING:
            self._rejections.labels("supervisor", called.reason or OTHER).inc()

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return prometheus.generate_latest(self._registry)


class _Deployment(Collector):
    """What the store and the registry know, asked at every scrape."""

    def __init__(self, facts: Facts, rejections: prometheus.Counter) -> None:
        self._facts = facts
        self._rejections = rejections
        self._named = _Named()

    def describe(self) -> Iterable[Metric]:
        # Else everything would be asked only to learn the names.
        return ()

    def collect(self) -> Iterator[Metric]:
        store = _Questions()
        info = store.ask(self._facts.info)
        tally = store.ask(self._facts.tally)
        yield _build_info()
        yield _store_up(is_up=not store.is_away)
        if info is not None:
            yield _jobs(info.counts)
            yield _queues(info.queues)
        if tally is not None:
            yield from _tallied(tally, self._named)
        workflows = store.ask(self._facts.workflows)
        if workflows is not None:
            yield from _workflows(workflows)
        yield self._rejected(tally)
        yield _mismatches(self._facts.mismatches())
        # Last: process managers are asked, too, and may be away for themselves.
        runners = store.ask(self._facts.runners)
        if runners is not None:
            yield from _runners(tuple(runners))

    def _rejected(self, tally: Tally | None) -> Metric:
        """Return those that were refused here, and those that runners refused."""
        [here] = self._rejections.collect()
        ended = {} if tally is None else tally.ended
        reasons: Counter[_Labels] = Counter()
        for (_, status, reason), number in ended.items():
            if status == Status.REJECTED:
                reasons["runner", reason] += number
        for (by, code), number in self._named.numbers(here.name, reasons).items():
            here.add_sample(f"{here.name}_total", {"by": by, "code": code}, number)
        return here


class _Questions:
    """Asks one after the other, and nothing more once Redis is away."""

    def __init__(self) -> None:
        self.is_away = False
        self._until = time.monotonic() + _PATIENCE.total_seconds()

    def ask(self, question: Callable[[], _T]) -> _T | None:
        """Return the answer, or None where there is none now."""
        self.is_away = self.is_away or time.monotonic() > self._until
        if self.is_away:
            return None
        try:
            return question()
        except HorusError as error:
            # What is damaged, or cannot be read here, hides only itself.
            self.is_away = type(error) is UnavailableError
            return None


def _build_info() -> Metric:
    labels = {"version": __version__, "python": platform.python_version()}
    family = GaugeMetricFamily("horus_build_info", "What runs here.", labels=[*labels])
    family.add_metric([*labels.values()], 1)
    return family


def _store_up(*, is_up: bool) -> Metric:
    text = "Whether Redis answered this scrape."
    return GaugeMetricFamily("horus_store_up", text, value=int(is_up))


def _mismatches(counts: Mapping[Place, int]) -> Metric:
    family = CounterMetricFamily(
        "horus_receipt_mismatch",
        "Records and logs in the store that are not what a runner signed.",
        labels=["what"],
    )
    for place, number in counts.items():
        family.add_metric([place.value], number)
    return family


def _jobs(counts: Mapping[Status, int]) -> Metric:
    family = GaugeMetricFamily("horus_jobs", "Records now.", labels=["status"])
    for status, number in counts.items():
        family.add_metric([status.value], number)
    return family


def _queues(lengths: Mapping[str, int]) -> Metric:
    """Return how many jobs stand in each queue, those of contexts in one a executor."""
    found: Counter[_Labels] = Counter()
    for name, length in lengths.items():
        executor, of_context, _ = name.partition(_OF_CONTEXT)
        found[(executor + of_context.rstrip("."),)] += length
    family = GaugeMetricFamily(
        "horus_queue_length", "Jobs that wait for a runner now.", labels=["queue"]
    )
    for labels, length in _bounded_numbers(found).items():
        family.add_metric(labels, length)
    return family


def _runners(runners: tuple[RunnerView, ...]) -> Iterator[Metric]:
    statuses = Counter[str](runner.status for runner in runners)
    family = GaugeMetricFamily("horus_runners", "Runners now.", labels=["status"])
    for status in RUNNER_STATUSES:
        family.add_metric([status], statuses[status])
    yield family
    up: Mapping[_Labels, int] = {
        (runner.name, runner.executor): int(runner.status == "running")
        for runner in runners
    }
    family = GaugeMetricFamily(
        "horus_runner_up",
        "Whether a runner is running.",
        labels=["runner", "executor"],
    )
    for labels, is_up in _bounded_numbers(up).items():
        family.add_metric(labels, is_up)
    yield family


def _tallied(tally: Tally, named: _Named) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "horus_jobs_ended",
        "Jobs that are over.",
        labels=["executor", "status", "reason"],
    )
    for labels, number in named.numbers(ended.name, tally.ended).items():
        ended.add_metric(labels, number)
    yield ended
    yield _histogram(
        "horus_job_wait_seconds",
        "Time from being queued to being claimed by a runner.",
        tally.waited,
        named,
    )
    yield _histogram(
        "horus_job_run_seconds",
        "Time from being claimed to the end.",
        tally.ran,
        named,
    )
    found = CounterMetricFamily(
        "horus_sweep_findings", "What the sweeps found.", labels=["kind"]
    )
    kinds: Mapping[_Labels, int] = {(k,): number for k, number in tally.swept.items()}
    for labels, number in named.numbers(found.name, kinds).items():
        found.add_metric(labels, number)
    yield found


def _workflows(tally: WorkflowTally) -> Iterator[Metric]:
    text = "Workflows that were started."
    yield CounterMetricFamily("horus_workflows_started", text, value=tally.started)
    ended = CounterMetricFamily(
        "horus_workflows_ended", "Workflows that are over.", labels=["status"]
    )
    for status, number in tally.ended.items():
        ended.add_metric([status.value], number)
    yield ended
    steps = CounterMetricFamily(
        "horus_workflow_steps", "Steps that are over.", labels=["status"]
    )
    for of_step, number in tally.steps.items():
        steps.add_metric([of_step.value], number)
    yield steps
    noticed = HistogramMetricFamily(
        "horus_step_notice_seconds",
        "Time from the end of a step's job to when its workflow went on.",
    )
    noticed.add_metric([], _buckets(tally.noticed), tally.noticed.total.total_seconds())
    yield noticed


def _histogram(
    name: str, text: str, by_executor: Mapping[str, Histogram], named: _Named
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=["executor"])
    found: Mapping[_Labels, Histogram] = {(k,): one for k, one in by_executor.items()}
    kept = named.histograms(name, found)
    for labels, histogram in kept.items():
        family.add_metric(labels, _buckets(histogram), histogram.total.total_seconds())
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    bounds = [*map(str, BUCKETS), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


class _Named:
    """Which series of a counter have their own name, once there are too many of them.

    They keep it: one that grew would else take what it counted away from the others,
    and a counter that goes back is taken for one that began anew.
    """

    def __init__(self) -> None:
        self._by_family: dict[str, frozenset[_Labels]] = {}

    def numbers(self, family: str, series: Mapping[_L, int]) -> dict[_Labels, int]:
        named = self._of(family, series, size=int)
        return _bounded(series, named, add=int.__add__)

    def histograms(
        self, family: str, series: Mapping[_L, Histogram]
    ) -> dict[_Labels, Histogram]:
        named = self._of(family, series, size=_how_many)
        return _bounded(series, named, add=_merged)

    def _of(
        self, family: str, series: Mapping[_L, _T], size: Callable[[_T], int]
    ) -> frozenset[_Labels]:
        if len(series) <= MAX_SERIES and family not in self._by_family:
            return frozenset(series)
        return self._by_family.setdefault(family, _largest(series, size))


def _bounded(
    series: Mapping[_L, _T], named: frozenset[_Labels], add: Callable[[_T, _T], _T]
) -> dict[_Labels, _T]:
    """Return those that are named under labels that can be shown, the rest as one."""
    bounded: dict[_Labels, _T] = {}
    for labels, value in series.items():
        shown = tuple(map(_shown, labels) if labels in named else [OTHER] * len(labels))
        bounded[shown] = add(bounded[shown], value) if shown in bounded else value
    return bounded


def _bounded_numbers(series: Mapping[_L, int]) -> dict[_Labels, int]:
    """Return the numbers of a gauge: of too many, the largest."""
    return _bounded(series, _largest(series, int), add=int.__add__)


def _largest(series: Mapping[_L, _T], size: Callable[[_T], int]) -> frozenset[_Labels]:
    """Return all of them, or the largest ones that leave room for the rest as one."""
    if len(series) <= MAX_SERIES:
        return frozenset(series)
    by_size = sorted(series, key=lambda labels: size(series[labels]), reverse=True)
    return frozenset(by_size[: MAX_SERIES - 1])


def _merged(one: Histogram, other: Histogram) -> Histogram:
    return Histogram(
        counts=tuple(map(sum, zip(one.counts, other.counts, strict=True))),
        total=one.total + other.total,
    )


def _how_many(histogram: Histogram) -> int:
    return sum(histogram.counts)


def _shown(label: str) -> str:
    # Half a character could not be sent; what stands in Redis may be one.
    return label.encode("utf-8", "replace").decode()[:MAX_LABEL]
