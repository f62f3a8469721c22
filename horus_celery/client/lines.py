"""How the output of a job is read: page by page, and up to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from horus_celery.client.absence import Absence
from horus_celery.client.connection import Connection, about_job
from horus_celery.client.quiet import Quiet
from horus_celery.instants import from_ms
from horus_celery.store.base import LogLine, Stream

#: The most lines in one answer, as many as the API gives.
_LINES: Final = 10_000


def lines_of(
    job_id: str,
    connection: Connection,
    *,
    quiet: Quiet,
    absence: Absence,
    follow: bool,
) -> Iterator[LogLine | None]:
    """Yield a job's lines, with `follow` until it is over, and None behind the last."""
    after: str | None = None

    def read() -> Any | None:  # noqa: ANN401 - whatever the method answers
        wait = quiet.wait() if follow else 0
        return connection.wait(
            "job.logs", job_id=job_id, after=after, limit=_LINES, wait=wait
        )

    while True:
        with about_job(job_id):
            page = absence.insist(read)
        if page is not None:
            for line in page["lines"]:
                quiet.heard()
                yield _line(line)
            after = page["next"]
            if page["ended"]:
                yield None
            if page["ended"] or not (follow or page["lines"]):
                return
            if page["lines"]:
                continue
        with about_job(job_id):
            absence.insist(quiet.pass_on)


def _line(line: Mapping[str, Any]) -> LogLine:
    cursor: str = line["cursor"]
    return LogLine(
        cursor=cursor.removesuffix("+"),
        at=from_ms(line["at"]),
        stream=Stream(line["stream"]),
        text=line["text"],
        ends_line=not cursor.endswith("+"),
    )
