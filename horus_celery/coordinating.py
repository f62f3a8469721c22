"""Where a coordinator's bells come in: its two Celery tasks, and their worker.

Found by `celery -A horus_celery.coordinating`. It runs no script, so its work is done
by threads of one process; and it knows no other task, so nobody can have it run one.
`horus.advance` moves a workflow on by reference, `horus.step` is one step of Celery's
own chains and chords.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from celery import Celery, Task, signals, signature
from celery.backends.base import DisabledBackend
from celery.canvas import Signature
from celery.exceptions import Ignore
from kombu.entity import Queue

from horus_celery import diary, screening, wiring
from horus_celery.application import make_app
from horus_celery.dag.canvas import canvas_behind, to_canvas
from horus_celery.dag.shapes import NoCanvas
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.settings import load_settings
from horus_celery.store.bell import QUEUE, STEP, TASK
from horus_celery.workflows.conductor import Conductor, ConductorThread
from horus_celery.workflows.outposts import Outpost
from horus_celery.workflows.relay import Relay

_logger: Final = structlog.get_logger(__name__)

#: Bells that are answered at a time: each waits for Redis most of its time.
_THREADS: Final = 4


class Chords(DisabledBackend):  # type: ignore[misc]  # Celery is untyped
    """Counts the parts of chords, where their workflows are; keeps nothing itself.

    So nothing that Celery would read of Redis decides when a chord is complete.
    """

    def ensure_chords_allowed(self) -> None:
        """Allow them."""

    def apply_chord(self, *_: object, **__: object) -> None:
        """Prepare nothing: how many parts there are, the plan says."""

    def on_chord_part_return(self, request: Any, *_: object) -> None:  # noqa: ANN401 - Celery's
        """Start the body when the last part is over."""
        if _Worker.relay.is_last_part(*request.args):
            signature(request.chord, app=self.app).apply_async()


def _start() -> Celery:
    try:
        return make_app(
            # The runners' task is none of ours.
            imports=(),
            task_queues=[Queue(QUEUE, routing_key=QUEUE)],  # type: ignore[no-untyped-call]  # kombu is untyped
            task_default_queue=QUEUE,
            worker_pool="threads",
            worker_concurrency=_THREADS,
            # What happens to a bell is of interest to nobody; steps are jobs.
            worker_send_task_events=False,
            # What counts the parts of chords; it keeps no results, either.
            result_backend=f"{__name__}:{Chords.__name__}",
        )
    except HorusError as error:
        # Celery's command line shows the traceback of any other exception.
        raise SystemExit(f"horus: {error}") from None


app = _start()


class _Worker:
    """What the worker keeps between two bells."""

    conductor: Conductor
    relay: Relay
    outposts: tuple[Outpost, ...]
    thread: ConductorThread


@app.task(name=TASK, ignore_result=True)
def advance(workflow: str, job: str | None) -> None:
    """Answer one bell; whatever comes of it, Celery sees a normal return."""
    try:
        _Worker.conductor.advance(workflow, job)
    except HorusError as error:
        _logger.warning("bell not answered", reason=error.reason, detail=error.detail)
    except Exception as error:  # noqa: BLE001 - Celery would publish its text
        _logger.error("bell not answered", error=type(error).__name__)  # noqa: TRY400 - a foreign text may quote a payload


@app.task(name=STEP, bind=True, ignore_result=True)
def step(task: Task, workflow: str, index: int | None) -> None:
    """Answer one message of canvas; with a normal return Celery goes on behind it."""
    try:
        is_left = _relayed(task, workflow, index)
    except (HorusError, NoCanvas) as error:
        _logger.warning("step not answered", detail=error.detail)
        raise Ignore from None
    except Exception as error:  # noqa: BLE001 - as above
        _logger.error("step not answered", error=type(error).__name__)  # noqa: TRY400 - as above
        raise Ignore from None
    if not is_left:
        raise Ignore


def _relayed(task: Task, workflow: str, index: int | None) -> bool:
    """Have a step reached, and say whether Celery is to go on from it."""

    def of_step(index: int) -> Signature:
        return task.si(workflow, index)

    if index is None:
        plan = _Worker.relay.begin(workflow)
        if plan is not None:
            to_canvas(plan, of_step).apply_async()
        return False
    place = _Worker.relay.reach(workflow, index)
    if place is None:
        return False
    behind = canvas_behind(place, of_step)
    task.request.chain = None if behind is None else [behind]
    task.request.chord = None if place.body is None else of_step(place.body)
    return True


screening.lock_tasks(app, {TASK, STEP})


@signals.celeryd_init.connect(weak=False)
def _take_up(**_: Any) -> None:  # noqa: ANN401 - whatever the signal carries
    """Become a coordinator before anything is connected, or say why not."""
    diary.through_logging()
    screening.install(screening.screen_bell)
    try:
        settings = load_settings()
        trust = wiring.make_trust(settings)
        trust.current()
        home = wiring.make_supervisor(settings, trust=trust)
        others = wiring.make_others(settings, trust)
        outposts = wiring.make_outposts(settings, home, others)
        _Worker.outposts = tuple(outposts.values())
        _Worker.conductor = wiring.make_conductor(
            settings, home, others=others, outposts=outposts
        )
        _Worker.relay = wiring.make_relay(settings, _Worker.conductor)
        if not screening.is_installed(app):
            raise ConfigurationError(
                "the broker is not read through the screen: unset CELERY_BROKER_URL,"
                " and name the Redis with HORUS_REDIS_URL"
            )
    except HorusError as error:
        raise SystemExit(f"horus: {error}") from None
    _Worker.thread = ConductorThread(_Worker.conductor)


@signals.worker_ready.connect(weak=False)
def _begin(**_: Any) -> None:  # noqa: ANN401 - as above
    _Worker.thread.start()
    for outpost in _Worker.outposts:
        outpost.start()


@signals.worker_shutdown.connect(weak=False)
def _end(**_: Any) -> None:  # noqa: ANN401 - as above
    for outpost in _Worker.outposts:
        outpost.close()
    _Worker.thread.close()
