"""What gets from the broker into a worker: a job id, one or two digests, or nothing.

Whoever writes to Redis writes programs for a stock Celery worker: a message names the
task, its callbacks, its limits and what is done with its result. So the raw item is
screened before anybody else reads it, and a new message is built around those values
from constants. What is refused is dropped, counted, and never put back.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from itertools import product
from queue import Empty
from typing import Any, Final, TypeAlias, cast
from uuid import uuid4

import kombu.transport.redis as kombu_redis
import redis
import structlog
from celery import Celery
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from redis.backoff import NoBackoff
from redis.retry import Retry

from horus_celery.dag.model import MAX_STEPS
from horus_celery.store import bell
from horus_celery.store.connection import damaged
from horus_celery.store.runner_bell import JOB_ID, TASK

_logger: Final = structlog.get_logger(__name__)

#: Bytes of an item; a job id with all of Celery's own headers takes about 1,000.
MAX_ITEM: Final = 16_000
#: Bytes of an item of canvas, which Celery has carry what is behind it.
MAX_STEP_ITEM: Final = 1_000_000
#: Each of the first drops is logged, then one in so many: a flood stays readable.
_LOGGED: Final = 10
_LOGGED_THEN: Final = 1000
#: The commands by which the transport takes items out of a queue.
_POPS: Final = frozenset({"BRPOP", "RPOP"})
#: What the place of a queue may hold.
_LISTS: Final = frozenset({b"list", b"none"})
#: How soon another look is taken at what was no list.
_LOOK_AGAIN: Final = timedelta(seconds=1)
#: How soon a broker that is away is tried again.
_TRY_AGAIN: Final = timedelta(seconds=1)
#: How long what happened waits for more of it.
_EVENTS: Final = timedelta(milliseconds=200)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
#: Returns a new message for an item, or raises `Refused`.
Screen: TypeAlias = Callable[[bytes], bytes]
_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Refused(Exception):
    """A broker message that is no bell; the text is one of our own words."""


def screen(item: bytes) -> bytes:
    """Return a new message that carries the item's job id and nothing else of it.

    Raises:
        Refused: if the item is not a message with one job id for our task.
    """
    if len(item) > MAX_ITEM:
        raise Refused("size")
    return _bell(_job_id(_body(_parsed(item, "json"))))


def screen_bell(item: bytes) -> bytes:
    """Return a new message that carries the digests of a coordinator's bell.

    Of a message of canvas it carries workflow and step: what is behind that step the
    plan says, and not the message.

    Raises:
        Refused: if the item is not such a bell.
    """
    if len(item) > MAX_STEP_ITEM:
        raise Refused("size")
    parsed = _parsed(item, "json")
    match parsed:
        case {"headers": {"task": bell.STEP}}:
            return bell.step_message(*_step(_step_body(parsed)))
        case _:
            pass
    if len(item) > MAX_ITEM:
        raise Refused("size")
    match parsed:
        case {
            "headers": {"task": str(task), **headers},
            "properties": {**properties},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(body),
        } if "body_encoding" not in properties:
            pass
        case _:
            raise Refused("shape")
    if task != bell.TASK:
        raise Refused("task")
    if "compression" in headers:
        raise Refused("compression")
    return bell.message(*_digests(_parsed(body.encode(), "body")))


class _Installed:
    """What this process screens by."""

    screen: Screen = staticmethod(screen)


class ScreeningClient(redis.Redis):
    """A client that screens whatever it pops from a list."""

    def parse_response(
        self, connection: object, command_name: str | bytes, **options: object
    ) -> object:
        """Return an answer; a popped item that is refused is as if it had not been."""
        answer = super().parse_response(  # type: ignore[no-untyped-call]  # so is redis-py
            connection, command_name, **options
        )
        if command_name not in _POPS or answer is None:
            return answer
        item = answer[-1] if command_name == "BRPOP" else answer
        try:
            screened = _Installed.screen(item)
        except Refused as refusal:
            _count(str(refusal), len(item))
            return None
        return [answer[0], screened] if command_name == "BRPOP" else screened


class _Screened(kombu_redis.Channel):
    # The sweep rings again for what a runner could not start: so nothing is put back,
    # and nothing is dumped to a file when Redis is away.
    do_restore = False

    #: Lists of ours in whose place something else stands, and when to look again.
    _spoilt: frozenset[str] = frozenset()
    _look_at = 0.0

    def _get_client(self) -> type[redis.Redis]:
        # It refuses a version of redis-py that kombu does not know.
        super()._get_client()  # type: ignore[no-untyped-call]  # so is kombu
        return ScreeningClient

    def _restore(self, message: object, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        pass

    def _brpop_start(self, timeout: float | None = None) -> None:
        # One list that is none would keep every other from being read.
        if self._spoilt and time.monotonic() >= self._look_at:
            self._look(self._spoilt)
        names = self._queue_cycle.consume(len(self.active_queues))
        keys = [key for key in self._lists(names) if key not in self._spoilt]
        if not keys:
            return
        connection = self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()  # type: ignore[assignment]  # None at first
        connection.send_command("BRPOP", *keys, timeout or self.brpop_timeout)

    def _brpop_read(self, **options: object) -> object:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # so is kombu
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
        self._look(self._lists(self.active_queues))
        raise Empty

    def _lists(self, names: Iterable[str]) -> list[str]:
        list_of = self._q_for_pri
        return [
            list_of(name, step)  # type: ignore[no-untyped-call]  # so is kombu
            for step, name in product(self.priority_steps, names)
        ]

    def _look(self, keys: Iterable[str]) -> None:
        """Find out which of these lists are none, and say so if it is news."""
        spoilt = {key for key in keys if self.client.type(key) not in _LISTS}
        for key in spoilt - self._spoilt:
            _logger.error("runner degraded", detail=damaged(key).detail)
        if self._spoilt and not spoilt:
            _logger.warning("runner no longer degraded")
        self._spoilt = frozenset(spoilt)
        self._look_at = time.monotonic() + _LOOK_AGAIN.total_seconds()


class ScreeningChannel(_Screened):
    """A channel whose messages were screened."""


class ScreeningTransport(kombu_redis.Transport):
    """Kombu's Redis transport behind the screen."""

    Channel = ScreeningChannel


class PromptSentinelChannel(kombu_redis.SentinelChannel):
    """A channel to what the sentinels call the master; it waits for no dead one."""

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> object:  # noqa: FBT001, FBT002 - kombu's
        # By itself redis-py asks a dead sentinel ten times, for half a minute.
        arguments: dict[str, Any] = getattr(self, "sentinel_kwargs", None) or {}
        self.sentinel_kwargs = {**arguments, "retry": Retry(NoBackoff(), 0)}
        return super()._sentinel_managed_pool(asynchronous)  # type: ignore[no-untyped-call]  # so is kombu


class PromptSentinelTransport(kombu_redis.SentinelTransport):
    """Kombu's Sentinel transport, in time."""

    Channel = PromptSentinelChannel


class ScreeningSentinelChannel(_Screened, PromptSentinelChannel):
    """A `ScreeningChannel` to what the sentinels call the master."""


class ScreeningSentinelTransport(PromptSentinelTransport):
    """Kombu's Sentinel transport behind the screen."""

    Channel = ScreeningSentinelChannel


class LockedConsumer(Consumer):  # type: ignore[misc]  # Celery is untyped
    """A consumer that nobody controls from afar, whatever the command line says."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]  # as above
        """Neither remote control nor gossip, agent or delayed delivery."""

        default_steps = (
            "celery.worker.consumer.connection:Connection",
            "celery.worker.consumer.events:Events",
            "celery.worker.consumer.heart:Heart",
            "celery.worker.consumer.tasks:Tasks",
            "celery.worker.consumer.consumer:Evloop",
        )

    #: When what happened is published next, by the monotonic clock.
    _flush_at = 0.0

    def on_send_event_buffered(self) -> None:
        """Publish what happened a little later, together with what happens until then.

        By itself Celery publishes in every round of its loop, which takes more than all
        else that a main process does for a job.
        """
        now = time.monotonic()
        if self.hub is not None and now >= self._flush_at:
            self._flush_at = now + _EVENTS.total_seconds()
            self.hub.call_later(_EVENTS.total_seconds(), self._flush_events)

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, however long that takes, a second after the broker can be reached.

        By itself Celery waits longer after each attempt, up to half a minute.
        """
        is_said = False

        def say_so(error: Exception, _: float) -> None:
            nonlocal is_said
            if not is_said:
                _logger.warning("broker not reached", error=type(error).__name__)
            is_said = True

        seconds = _TRY_AGAIN.total_seconds()
        conn.ensure_connection(  # type: ignore[no-untyped-call]  # so is kombu
            say_so,
            interval_start=seconds,
            interval_step=0,
            interval_max=seconds,
            callback=maybe_shutdown,
        )
        super().ensure_connected(conn)
        return conn

    def __init__(self, *args: object, **kwargs: object) -> None:
        # A step that others name as required cannot be left out, only turned off.
        super().__init__(*args, **kwargs, without_mingle=True)


def install(by: Screen = screen) -> None:
    """Put a screen before every Redis broker of this process."""
    _Installed.screen = staticmethod(by)
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{ScreeningTransport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{ScreeningSentinelTransport.__name__}"


def be_prompt() -> None:
    """Have a process without the screen wait for no dead sentinel, either."""
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{PromptSentinelTransport.__name__}"


def is_installed(app: Celery) -> bool:
    """Whether this process reads its broker through the screen."""
    transport = app.connection_for_read().get_transport_cls()
    return transport in (ScreeningTransport, ScreeningSentinelTransport)


def lock_tasks(app: Celery, tasks: Collection[str] = (TASK,)) -> None:
    """Leave the application no task but these: the built-in ones call any other."""
    app.finalize()
    for name in {*app.tasks} - {*tasks}:
        app.tasks.unregister(name)


def _parsed(text: bytes, word: str) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        raise Refused(word) from None


def _body(item: object) -> object:
    match item:
        case {
            "headers": {"task": str(task), **headers},
            "properties": {"body_encoding": "base64"},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(body),
        }:
            pass
        case _:
            raise Refused("shape")
    if task != TASK:
        raise Refused("task")
    if "compression" in headers:
        raise Refused("compression")
    return _parsed(_unpacked(body), "body")


def _unpacked(body: str) -> bytes:
    try:
        return b64decode(body, validate=True)
    except ValueError:
        raise Refused("base64") from None


def _job_id(body: object) -> str:
    match body:
        case [[str(text)], {}, {}] if JOB_ID.fullmatch(text) and not body[1]:
            return text
    raise Refused("arguments")


def _digests(body: object) -> tuple[str, str | None]:
    match body:
        case [[str() as workflow, (None | str()) as job], {}, {}] if not body[1]:
            if all(_DIGEST.fullmatch(one) for one in (workflow, job or workflow)):
                return workflow, job
    raise Refused("arguments")


def _step_body(item: object) -> object:
    """Return the body of a message of canvas, as it is rung or as Celery sends it."""
    match item:
        case {"headers": {"compression": _}}:
            raise Refused("compression")
        case {
            "properties": {"body_encoding": "base64"},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(body),
        }:
            return _parsed(_unpacked(body), "body")
        case {
            "properties": {**properties},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(body),
        } if "body_encoding" not in properties:
            return _parsed(body.encode(), "body")
    raise Refused("shape")


def _step(body: object) -> tuple[str, int | None]:
    match body:
        case [[str() as workflow, (None | int()) as index], {}, {}] if not body[1]:
            is_step = index is None or 0 <= index < MAX_STEPS
            if is_step and _DIGEST.fullmatch(workflow) and index is not True:
                # What is false is 0, too.
                return workflow, index if index is None else int(index)
    raise Refused("arguments")


def _bell(job_id: str) -> bytes:
    task_id = str(uuid4())
    body = json.dumps([[job_id], {}, _EMBED]).encode()
    return json.dumps(
        {
            "body": b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": TASK,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                # What Flower shows.
                "argsrepr": job_id,
                "kwargsrepr": "{}",
                "origin": "horus",
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    ).encode()


_dropped: Final[Counter[str]] = Counter()


def _count(reason: str, size: int) -> None:
    """Count a drop; nothing of the sender's text gets into the log."""
    _dropped[reason] += 1
    total = _dropped.total()
    if total <= _LOGGED or total % _LOGGED_THEN == 0:
        _logger.warning(
            "broker message dropped", reason=reason, bytes=size, total=total
        )
