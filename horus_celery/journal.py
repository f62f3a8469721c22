"""What a node remembers on its own disk, so that nobody else can make it forget.

How often each job was started, which jobs never start, the chain of receipts per
runner, the receipts that the store does not have yet, and which secrets of the API were
removed. All runners of a node share the file (SQLite, WAL). A journal that cannot be
written starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from horus_celery.audit import Head, Kept
from horus_celery.errors import (
    ClaimError,
    ConfigurationError,
    HorusError,
    UnavailableError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.statements import dsse

#: Entries stay this long after the job has expired.
KEPT_AFTER_EXPIRY: Final = timedelta(hours=24)
#: How long one step waits for the steps of other processes.
PATIENCE: Final = timedelta(seconds=5)
#: How long to wait before the file is opened, or written, once more: at most, and at
#: first.
_PAUSE: Final = timedelta(milliseconds=5)
_SHORTEST: Final = timedelta(microseconds=100)
#: So many deliveries are noted at once at most.
_MOST_DELIVERED: Final = 100
_FORMAT: Final = 1

# A claim whose `pid` is null is not running. A claim with `starts` 0 was released
# before its first start; it still binds its id to its digest.
_TABLES: Final = """
CREATE TABLE claims (
    digest TEXT PRIMARY KEY,
    context_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    starts INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    pid INTEGER,
    pid_started INTEGER,
    boot TEXT,
    UNIQUE (context_id, job_id)
) WITHOUT ROWID;
CREATE TABLE stopped (
    digest TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE receipts (
    runner TEXT NOT NULL,
    seq INTEGER NOT NULL,
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (runner, seq)
);
CREATE INDEX undelivered ON receipts (runner, seq) WHERE outcome IS NOT NULL;
CREATE TABLE chains (
    runner TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE numbers (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: What journals of before it lack, which are of the same format.
_ADDED: Final = (
    # Few of many starts run: those are looked at every two seconds.
    "CREATE INDEX IF NOT EXISTS running ON claims (digest) WHERE pid IS NOT NULL",
    (
        "CREATE TABLE IF NOT EXISTS removed_secrets (serial TEXT PRIMARY KEY)"
        " WITHOUT ROWID"
    ),
)


class AlreadyRunning(Exception):
    """The latest attempt has not ended and its process is alive; no refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    #: Clock ticks from the machine's start to the process's.
    started: int
    #: The id of the machine's start.
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A start that nobody settled, whose process is dead."""

    digest: str
    #: The number of the start.
    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A receipt in its runner's chain."""

    seq: int
    #: The receipt as JSON text.
    envelope: str
    #: The digest of the job and the number of its start.
    digest: str
    attempt: int
    #: What the store has to be told along with the receipt, as it was given.
    outcome: str


class Journal:
    """The one file that all runners of a node share, safe across processes and threads.

    Every method raises `UnavailableError` if the file cannot be used at the moment, and
    `ConfigurationError` if somebody has to mend it; both name it. Each process opens
    the file for itself, at its first use.
    """

    def __init__(self, path: Path | str, *, patience: timedelta = PATIENCE) -> None:
        self.path = str(path)
        self._patience = patience
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        #: Runner and number of receipts that the store has, which is not written yet.
        self._delivered: list[tuple[str, int]] = []
        _journals.add(self)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._delivered:
            # What cannot be noted now is delivered again.
            with contextlib.suppress(HorusError):
                self._write_deliveries()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def claim(
        self,
        *,
        digest: str,
        context_id: str,
        job_id: str,
        attempts: int,
        expires_at: datetime,
        now: datetime,
        process: ProcessMark | None,
    ) -> int:
        """Note one more start of a job, before it happens, and return its number.

        The start counts as ended once it is settled or released, or once `process`
        is dead; without a process it counts as ended at once.

        Raises:
            ClaimError: `claim.floor`, `claim.stopped`, `claim.id_conflict` or
                `claim.replay`.
            AlreadyRunning: if the start before this one has not ended.
        """
        with self._transaction() as db:
            _require_startable(db, digest, to_ms(expires_at))
            _require_same_digest(db, digest, context_id, job_id)
            starts = _starts_after_the_last(db, digest, attempts) + 1
            mark = (
                (None, None, None)
                if process is None
                else (process.pid, process.started, process.boot)
            )
            db.execute(
                "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET starts = excluded.starts,"
                " started_at = excluded.started_at, pid = excluded.pid,"
                " pid_started = excluded.pid_started, boot = excluded.boot",
                (
                    digest,
                    context_id,
                    job_id,
                    starts,
                    to_ms(now),
                    to_ms(expires_at),
                    *mark,
                ),
            )
        return starts

    def release(self, digest: str, attempt: int) -> None:
        """Take a claim back whose start never happened."""
        with self._transaction() as db:
            db.execute(
                "UPDATE claims SET starts = starts - 1, pid = NULL"
                " WHERE digest = ? AND starts = ?",
                (digest, attempt),
            )

    def orphans(self) -> list[Orphan]:
        """Return the starts that ended with their process, and were not `ended`."""
        with self._open() as db:
            rows = db.execute(
                "SELECT digest, starts, started_at, pid, pid_started, boot FROM claims"
                " WHERE pid IS NOT NULL"
            ).fetchall()
        return [
            Orphan(digest=digest, attempt=starts, started_at=from_ms(started_at))
            for digest, starts, started_at, *mark in rows
            if not _is_running(*mark)
        ]

    def ended(self, orphan: Orphan) -> None:
        """Note that a start of a dead process was given up."""
        with self._transaction() as db:
            db.execute(
                "UPDATE claims SET pid = NULL WHERE digest = ? AND starts = ?",
                (orphan.digest, orphan.attempt),
            )

    def touch(self) -> None:
        """Write what means nothing, to see whether it can be written.

        Raises:
            UnavailableError: if nothing would start now.
        """
        with self._open() as db:
            # Not worth waiting for the disk.
            db.execute("PRAGMA synchronous = NORMAL")
            try:
                db.execute(
                    "INSERT INTO numbers VALUES ('touched', 1) ON CONFLICT (name)"
                    " DO UPDATE SET value = 1 - value"
                )
            finally:
                db.execute("PRAGMA synchronous = FULL")

    def stop(self, digest: str, expires_at: datetime) -> None:
        """See to it that a job never starts here again; doing so twice is fine."""
        self.stop_all([digest], expires_at)

    def stop_all(self, digests: Iterable[str], expires_at: datetime) -> None:
        """Do as `stop` with many jobs, all of which have expired by `expires_at`."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO stopped VALUES (?, ?)",
                [(digest, to_ms(expires_at)) for digest in digests],
            )

    def is_stopped(self, digest: str) -> bool:
        """Tell whether a job was stopped, as far as this node knows and remembers."""
        with self._open() as db:
            return _is_stopped(db, digest)

    def settle(
        self,
        *,
        runner: str,
        make: Callable[[int, str | None], str],
        digest: str,
        attempt: int,
        outcome: str,
    ) -> Entry:
        """End an attempt, or record a refusal, with the next receipt of the runner.

        `make` is given the receipt's number and the digest of the one before it, and
        returns the signed envelope as JSON text. `outcome` is kept until `delivered`.
        """
        with self._transaction() as db:
            head = db.execute(
                "SELECT seq, digest FROM chains WHERE runner = ?", (runner,)
            ).fetchone()
            seq, prev = (1, None) if head is None else (head[0] + 1, head[1])
            envelope = make(seq, prev)
            db.execute(
                "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)",
                (runner, seq, digest, attempt, envelope, outcome),
            )
            db.execute(
                "INSERT OR REPLACE INTO chains VALUES (?, ?, ?)",
                (runner, seq, dsse.read(envelope, dsse.RECEIPT).digest),
            )
            db.execute(
                "UPDATE claims SET pid = NULL WHERE digest = ? AND starts = ?",
                (digest, attempt),
            )
        return Entry(
            seq=seq, envelope=envelope, digest=digest, attempt=attempt, outcome=outcome
        )

    def undelivered(self, runner: str) -> list[Entry]:
        """Return the receipts that the store does not have yet, in their order."""
        if self._delivered:
            self._write_deliveries()
        with self._open() as db:
            rows = db.execute(
                "SELECT seq, envelope, job, attempt, outcome FROM receipts"
                " WHERE runner = ? AND outcome IS NOT NULL ORDER BY seq",
                (runner,),
            ).fetchall()
        return [
            Entry(seq=seq, envelope=text, digest=job, attempt=attempt, outcome=outcome)
            for seq, text, job, attempt, outcome in rows
        ]

    def delivered(self, runner: str, seq: int) -> None:
        """Note that the store has a receipt, with whatever is written next.

        A delivery that is forgotten is made again.
        """
        with self._lock:
            self._delivered.append((runner, seq))
        if len(self._delivered) >= _MOST_DELIVERED:
            self._write_deliveries()

    def highest_trust_version(self) -> int:
        """Return the highest version of a trust bundle that was remembered, or 0."""
        with self._open() as db:
            return _number(db, "trust_version")

    def remember_trust_version(self, version: int) -> None:
        """Remember a version, unless a higher one is remembered already."""
        with self._transaction() as db:
            _raise_number(db, "trust_version", version)

    def remember_removed(self, serials: Collection[str]) -> None:
        """Remember for good that these additions of secrets of the API were removed."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO removed_secrets VALUES (?)",
                [(serial,) for serial in serials],
            )

    def removed_among(self, serials: Collection[str]) -> frozenset[str]:
        """Return which of these additions of secrets were removed."""
        with self._open() as db:
            return frozenset(
                serial
                for serial in serials
                if db.execute(
                    "SELECT 1 FROM removed_secrets WHERE serial = ?", (serial,)
                ).fetchone()
            )

    def sweep(self, now: datetime) -> None:
        """Drop what expired a day ago, and refuse whatever is as old from now on.

        Receipts stay for good: in a chain without its old ones nobody could tell what
        was dropped from what was taken out.
        """
        limit = to_ms(now - KEPT_AFTER_EXPIRY)
        with self._transaction() as db:
            old_claims = [
                (digest, expires_at)
                for digest, expires_at, *mark in db.execute(
                    "SELECT digest, expires_at, pid, pid_started, boot FROM claims"
                    " WHERE expires_at <= ?",
                    (limit,),
                )
                if not _is_running(*mark)
            ]
            old_stops = db.execute(
                "SELECT digest, expires_at FROM stopped WHERE expires_at <= ?", (limit,)
            ).fetchall()
            for _, expires_at in (*old_claims, *old_stops):
                _raise_number(db, "floor", expires_at)
            db.executemany(
                "DELETE FROM claims WHERE digest = ?",
                [(digest,) for digest, _ in old_claims],
            )
            db.execute("DELETE FROM stopped WHERE expires_at <= ?", (limit,))

    @contextlib.contextmanager
    def trail(self) -> Iterator[Trail]:
        """Show the chains of receipts as they lie here now, whatever is added then."""
        with self._open() as db:
            db.execute("BEGIN")
            try:
                yield Trail(db)
            finally:
                db.execute("ROLLBACK")

    def _write_deliveries(self) -> None:
        with self._transaction():
            pass

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            _begin(db, self._patience)
            try:
                _note_delivered(db, self._delivered)
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._delivered.clear()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path, self._patience)
                yield self._connection
            except sqlite3.Error as error:
                raise _translate(error, self.path) from None

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._delivered = []
        if self._connection is not None:
            # It belongs to the parent: SQLite forbids us to use it or to close it.
            self._inherited.append(self._connection)
            self._connection = None


class Trail:
    """The chains of receipts in a journal, at one moment."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def runners(self) -> list[str]:
        """Return the names of all runners of which anything is kept, in their order."""
        names = self._db.execute(
            "SELECT runner FROM chains UNION SELECT DISTINCT runner FROM receipts"
            " ORDER BY runner"
        )
        return [str(name) for (name,) in names]

    def head(self, runner: str) -> Head | None:
        """Return what is noted of the end of a runner's chain."""
        row = self._db.execute(
            "SELECT seq, digest FROM chains WHERE runner = ?", (runner,)
        ).fetchone()
        if row is None or type(row[0]) is not int:
            return None
        return Head(seq=row[0], digest=str(row[1]))

    def receipts(self, runner: str) -> Iterator[Kept]:
        """Yield a runner's receipts by their number, as they lie there."""
        rows = self._db.execute(
            "SELECT seq, job, attempt, envelope FROM receipts WHERE runner = ?"
            " ORDER BY seq",
            (runner,),
        )
        for seq, job, attempt, envelope in rows:
            yield Kept(seq=seq, job=job, attempt=attempt, envelope=envelope)


def process_mark(pid: int | None = None) -> ProcessMark:
    """Return the mark of a process, by default our own.

    Raises:
        ProcessLookupError: if there is none.
    """
    return _own_mark(os.getpid()) if pid is None else _mark_of(pid)


@lru_cache(maxsize=1)
def _own_mark(pid: int) -> ProcessMark:
    return _mark_of(pid)


def _mark_of(pid: int) -> ProcessMark:
    started = _start_of(pid)
    if started is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return ProcessMark(pid=pid, started=started, boot=_boot_id())


def is_alive(mark: ProcessMark) -> bool:
    """Tell whether this very process still runs."""
    return mark.boot == _boot_id() and mark.started == _start_of(mark.pid)


#: Those of this process, so that a child can let go of what it inherits.
_journals: Final[weakref.WeakSet[Journal]] = weakref.WeakSet()


def _forget_inherited() -> None:
    for journal in tuple(_journals):
        journal._after_fork()  # noqa: SLF001 - the class is of this module


os.register_at_fork(after_in_child=_forget_inherited)


def _require_startable(db: sqlite3.Connection, digest: str, expires_at: int) -> None:
    if expires_at <= _number(db, "floor"):
        raise ClaimError(
            "claim.floor",
            "the job is as old as entries that this node dropped",
            digest=digest,
        )
    if _is_stopped(db, digest):
        raise ClaimError(
            "claim.stopped",
            "the job was stopped and never starts again",
            digest=digest,
        )


def _is_stopped(db: sqlite3.Connection, digest: str) -> bool:
    found = db.execute("SELECT 1 FROM stopped WHERE digest = ?", (digest,))
    return found.fetchone() is not None


def _require_same_digest(
    db: sqlite3.Connection, digest: str, context_id: str, job_id: str
) -> None:
    other = db.execute(
        "SELECT 1 FROM claims WHERE context_id = ? AND job_id = ? AND digest <> ?",
        (context_id, job_id, digest),
    ).fetchone()
    if other:
        raise ClaimError(
            "claim.id_conflict",
            "another job of that context has already this id",
            digest=digest,
        )


def _starts_after_the_last(db: sqlite3.Connection, digest: str, attempts: int) -> int:
    row = db.execute(
        "SELECT starts, started_at, pid, pid_started, boot FROM claims"
        " WHERE digest = ?",
        (digest,),
    ).fetchone()
    if row is None:
        return 0
    starts, started_at, *mark = row
    if _is_running(*mark):
        raise AlreadyRunning(
            f"attempt {starts} of the job {digest} has run since {from_ms(started_at)}"
        )
    if starts >= attempts:
        raise ClaimError(
            "claim.replay",
            f"the job was already started {starts} of {attempts} times",
            digest=digest,
        )
    return int(starts)


def _is_running(pid: int | None, started: int, boot: str) -> bool:
    return pid is not None and is_alive(
        ProcessMark(pid=pid, started=started, boot=boot)
    )


def _number(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def _raise_number(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute(
        "INSERT INTO numbers VALUES (?, ?) ON CONFLICT (name)"
        " DO UPDATE SET value = max(value, excluded.value)",
        (name, value),
    )


def _start_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name, which may hold blanks and brackets.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _connect(path: str, patience: timedelta) -> sqlite3.Connection:
    _create(path)
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        db = sqlite3.connect(
            path,
            timeout=patience.total_seconds(),
            isolation_level=None,
            # Our own lock keeps the threads apart.
            check_same_thread=False,
        )
        try:
            _prepare(db, path)
        except sqlite3.OperationalError as error:
            db.close()
            # Two processes that change to WAL at once do not wait for each other.
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE.total_seconds())
        except BaseException:
            db.close()
            raise
        else:
            return db


def _create(path: str) -> None:
    if path == ":memory:":
        return
    # Created by us for its mode; never opened by us when it is there, since closing
    # it again would drop the locks that SQLite holds in this process.
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigurationError(
            f"the journal {path} cannot be created: {error.strerror}"
        ) from None


def _begin(db: sqlite3.Connection, patience: timedelta) -> None:
    """Begin to write, as soon as nobody else does.

    Others take less than a millisecond; SQLite by itself looks again after one, then
    after two, five, ten.
    """
    deadline = time.monotonic() + patience.total_seconds()
    pause = _SHORTEST.total_seconds()
    db.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE.total_seconds())
            else:
                return
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience // timedelta(milliseconds=1)}")


def _note_delivered(
    db: sqlite3.Connection, receipts: Iterable[tuple[str, int]]
) -> None:
    db.executemany(
        "UPDATE receipts SET outcome = NULL WHERE runner = ? AND seq = ?", receipts
    )


def _prepare(db: sqlite3.Connection, path: str) -> None:
    db.execute("PRAGMA synchronous = FULL")
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode not in ("wal", "memory"):
        raise ConfigurationError(
            f"the journal {path} must lie on a local disk: its file system has no WAL"
        )
    if _format(db) == 0:
        db.execute("BEGIN IMMEDIATE")
        if _format(db) == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        db.execute("COMMIT")
    if _format(db) == _FORMAT:
        for statement in _ADDED:
            db.execute(statement)
    else:
        raise ConfigurationError(
            f"the journal {path} was written by another version of Horus"
        )


def _format(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _is_busy(error: sqlite3.Error) -> bool:
    return _name_of(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _name_of(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", "SQLITE_MISUSE"))


def _translate(error: sqlite3.Error, path: str) -> HorusError:
    name = _name_of(error)
    if _is_busy(error) or name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return UnavailableError(
            f"the journal {path} cannot be written now ({name}); nothing starts"
        )
    return ConfigurationError(
        f"the journal {path} cannot be used ({name}); nothing starts:"
        " check its owner, mode and disk"
    )
