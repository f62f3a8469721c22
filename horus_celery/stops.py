"""How a stop is made to hold: both this node's journal and the store remember it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from horus_celery.admission import CLOCK_SKEW
from horus_celery.journal import Journal
from horus_celery.record import Record
from horus_celery.statements.fields import MAX_LIFETIME
from horus_celery.store.base import RecordStore

#: Stops that are taken over at once, and how often at a time: the next time goes on.
PAGE: Final = 1000
PAGES: Final = 10
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Stops:
    """The stopped jobs, as far as this node knows of them."""

    def __init__(self, journal: Journal, store: RecordStore) -> None:
        self._journal = journal
        self._store = store
        #: Up to where the store's have been taken over.
        self._place: str | None = None

    def stop(
        self, digest: str, *, at: datetime, expires_at: datetime | None
    ) -> Record | None:
        """Stop a job for good, and return its record, if there is one.

        Args:
            digest: The job's digest.
            at: The present.
            expires_at: When the job expires; None if nobody can tell.

        Raises:
            UnavailableError: if journal or store does not take it. It may be in force
                all the same, and the same call may be made again.
            ConfigurationError: if somebody has to mend the journal; likewise.
        """
        until = expires_at or _latest_end(at)
        try:
            self._journal.stop(digest, until)
        finally:
            # Also if this node cannot remember it: the others shall hear of it.
            record = self._store.stop(digest, at=at, expires_at=until)
        return record

    def recall(self, digest: str, *, at: datetime, expires_at: datetime) -> None:
        """Tell the store again of a job that was stopped, as far as this node knows.

        Raises:
            UnavailableError: if journal or store does not answer.
        """
        if self._journal.is_stopped(digest):
            self._store.stop(digest, at=at, expires_at=expires_at)

    def take_over(self, *, at: datetime) -> int:
        """Remember in the journal what the store says was stopped since the last time.

        Returns how many stops were read; of many the next time reads the rest.

        Raises:
            UnavailableError: if journal or store does not answer.
        """
        count = 0
        for _ in range(PAGES):
            page = self._store.stops(after=self._place, limit=PAGE)
            # Others write there: what is no digest is no stop, and their word on when
            # a job expires would make us forget too early.
            digests = [one for one in page.digests if _DIGEST.fullmatch(one)]
            if digests:
                self._journal.stop_all(digests, _latest_end(at))
            self._place = page.next
            count += len(page.digests)
            if len(page.digests) < PAGE:
                break
        return count


def _latest_end(at: datetime) -> datetime:
    """Return when the last job expires that can have been made by now."""
    return at + CLOCK_SKEW + MAX_LIFETIME
