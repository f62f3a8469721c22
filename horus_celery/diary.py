"""How a process of the platform writes its own log: an event a line, never raw text.

A line is a JSON object; a person at a terminal gets the same in words. Either way it is
printable ASCII, so that no foreign text can forge a line or move a cursor. Tracebacks,
whose texts and locals may hold a payload, are never written.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TextIO, TypeAlias, cast

import orjson
import structlog

#: Characters that are written of one field.
MAX_FIELD: Final = 64 * 1024

Fields: TypeAlias = MutableMapping[str, Any]
#: Makes a line, without its newline, of an event's fields.
Renderer: TypeAlias = Callable[[Fields], str]

#: What every line begins with, and a traceback in any form.
_NOT_SAID: Final = frozenset(
    {"at", "level", "event", "exc_info", "exception", "stack", "stack_info"}
)
_UNSHOWN: Final = re.compile(r"[^\x20-\x7e]")


def to_stderr() -> None:
    """Write events to standard error, each with its time and level."""
    stream = sys.stderr
    structlog.configure(
        processors=[_timed, _rendered_by(renderer_for(stream))],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=True,
    )


def through_logging() -> None:
    """Hand events on to the standard library's loggers, as Celery sets them up.

    What Celery itself says then stands in the same form.
    """
    from celery import signals  # noqa: PLC0415 - the API, which knows no Celery, writes a diary, too

    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(format_handlers, weak=False, dispatch_uid=__name__)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def for_libraries() -> None:
    """Write what libraries log, unless somebody sets up their loggers.

    Celery does so for a worker. Flower does not, and its lines have whatever anybody
    asks it for.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(renderer_for(handler.stream)))
    logging.basicConfig(handlers=[handler])


def format_handlers(logger: logging.Logger, **_: object) -> None:
    """Have the handlers of a logger write an event a line."""
    for handler in logger.handlers:
        stream = getattr(handler, "stream", None)
        handler.setFormatter(_LineFormatter(renderer_for(stream)))


def renderer_for(stream: TextIO | None) -> Renderer:
    """Return what makes the lines of a stream: words at a terminal, else JSON."""
    if stream is None or not stream.isatty():
        return to_json
    console = structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, sort_keys=False, timestamp_key="at"
    )
    return lambda fields: console(None, "", _readable(fields))


def to_json(fields: Fields) -> str:
    """Return fields as a line of JSON in printable ASCII."""
    try:
        line = _dump(fields)
    except TypeError:
        line = ""
    if not line or len(line) > MAX_FIELD:
        line = _dump({name: _plain(value) for name, value in fields.items()})
    return _shown(line)


class _Lines:
    """What a bound logger writes to: a stream that may break, but never breaks us."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        # A full disk or a reader that went away costs the line, not the call.
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


class _LineFormatter(logging.Formatter):
    """Makes one line of whatever a logger was told."""

    def __init__(self, render: Renderer) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        said: Fields = {"event": record.getMessage()}
        is_ours = isinstance(record.msg, dict)
        if is_ours:
            said = cast("Fields", record.msg)
        fields = _in_order(
            said,
            at=datetime.fromtimestamp(record.created, UTC),
            level=record.levelname.lower(),
        )
        fields["process"] = record.processName
        if not is_ours:
            fields["logger"] = record.name
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
            fields["where"] = "".join(traceback.format_tb(record.exc_info[2]))
        return self._render(fields)


def _timed(logger: object, name: str, fields: Fields) -> Fields:
    return _in_order(fields, at=datetime.now(UTC), level=name)


def _in_order(fields: Fields, *, at: datetime, level: str) -> Fields:
    """Return the fields behind those that every line begins with."""
    moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    first = {"at": moment, "level": level, "event": fields["event"]}
    rest = {name: value for name, value in fields.items() if name not in _NOT_SAID}
    return {**first, **rest}


def _rendered_by(render: Renderer) -> structlog.typing.Processor:
    return lambda logger, name, fields: render(fields)


def _readable(fields: Fields) -> Fields:
    return {
        name: _shown(value if isinstance(value, str) else _dump(value))
        for name, value in ((name, _plain(value)) for name, value in fields.items())
    }


def _shown(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _UNSHOWN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _plain(value: object) -> object:
    """Return a value as JSON has it, or as a text if it has no such, or too much."""
    if isinstance(value, str):
        return _cut(value.encode("utf-8", "backslashreplace").decode())
    try:
        text = _dump(value)
    except TypeError:
        return _cut(_described(value))
    return value if len(text) <= MAX_FIELD else _cut(text)


def _described(value: object) -> str:
    """Describe what orjson refuses: half a character in it, a number without end."""
    try:
        return json.dumps(value, default=_name_of_type, skipkeys=True)
    except (ValueError, RecursionError):
        return _name_of_type(value)


def _cut(text: str) -> str:
    if len(text) <= MAX_FIELD:
        return text
    return f"{text[:MAX_FIELD]}... ({len(text)} characters)"


def _dump(value: object) -> str:
    return orjson.dumps(
        value, default=_name_of_type, option=orjson.OPT_NON_STR_KEYS
    ).decode()


def _name_of_type(value: object) -> str:
    # Not its text: that of a foreign error, or of bytes, may be a payload.
    return type(value).__name__
