"""What a person sees of a deployment at a glance: is it ready, its runners, its jobs.

No context, caller or job is named, as in the metrics, and nothing has to be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Final

from werkzeug.wrappers import Request

from api.readiness import Readiness
from horus_celery.errors import HorusError
from horus_celery.fleet import Fleet
from horus_celery.supervisor import Supervisor

_HIDDEN: Final = (
    "<p>How the deployment does is shown here to this machine's own browsers; from"
    " elsewhere ask <code>list_runners</code> and <code>get_supervisor_info</code>.</p>"
)
#: Looks again by itself, after as many seconds.
_SHOWN: Final = '<meta http-equiv="refresh" content="10">\n<h2>Dashboard</h2>'
_RUNNERS: Final = ("runner", "executor", "status", "running", "at most", "queued")


class Dashboard:
    """Looks at a deployment whenever somebody who may see it looks at the page."""

    def __init__(
        self,
        *,
        jobs: Supervisor,
        runners: Fleet,
        readiness: Readiness,
        may_see: Callable[[Request], bool],
    ) -> None:
        self._jobs = jobs
        self._runners = runners
        self._readiness = readiness
        self._may_see = may_see

    def html(self, request: Request) -> str:
        """Return what the page shows to whoever sent this request."""
        if not self._may_see(request):
            return _HIDDEN
        missing = self._readiness.missing()
        state = f"Not ready: {'; '.join(missing.values())}" if missing else "Ready"
        parts = [_SHOWN, f"<p>{escape(state)}.</p>"]
        if not {"redis", "trust"}.intersection(missing):
            parts += self._tables()
        return "\n".join(parts)

    def _tables(self) -> list[str]:
        try:
            runners = self._runners.list()
            counts = self._jobs.info().counts
        except HorusError:
            # Gone since it was ready; the next look says what is missing.
            return []
        rows = [
            (
                one.name,
                one.executor,
                one.status,
                one.running,
                one.concurrency,
                one.queued,
            )
            for one in runners
        ]
        return [_table(_RUNNERS, rows), _table(("jobs", ""), counts.items())]


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return "\n".join(['<table border="1">', *lines, "</table>"])


def _row(kind: str, cells: Iterable[object]) -> str:
    shown = "".join(f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells)
    return f"<tr>{shown}</tr>"
