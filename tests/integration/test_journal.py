"""The journal with real files, several processes, and processes that are killed."""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horus_celery.errors import ClaimError, ConfigurationError, UnavailableError
from horus_celery.journal import (
    AlreadyRunning,
    Journal,
    ProcessMark,
    is_alive,
    process_mark,
)
from horus_celery.statements import dsse
from horus_celery.statements.keys import KeyPair

NOW = datetime(2025, 10, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAIR = KeyPair.from_seed(bytes(32))
#: Seconds until a test gives up on another process.
DEADLINE = 30

# A pool forks its processes while it has threads; here we look at just that.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    journal = Journal(path)
    yield journal
    journal.close()


def job(number, **changes):
    return {
        "digest": f"{number:064x}",
        "context_id": "billing",
        "job_id": f"job-{number}",
        "attempts": 1,
        "expires_at": NOW + HOUR,
        "now": NOW,
        "process": None,
    } | changes


def reason_of(journal, claim):
    with pytest.raises(ClaimError) as refusal:
        journal.claim(**claim)
    return refusal.value.reason


def receipt(seq, prev):
    body = json.dumps({"seq": seq, "prev": prev}).encode()
    return dsse.to_json(dsse.sign(dsse.RECEIPT, body, [PAIR]))


def settle(journal, *, runner="r", number=1, attempt=1, outcome="{}", make=receipt):
    digest = f"{number:064x}"
    return journal.settle(
        runner=runner, make=make, digest=digest, attempt=attempt, outcome=outcome
    )


def body_of(entry):
    return json.loads(dsse.read(entry.envelope, dsse.RECEIPT).body)


def assert_is_chain(entries):
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert [body_of(entry)["seq"] for entry in entries] == [
        entry.seq for entry in entries
    ]
    digests = [dsse.read(entry.envelope, dsse.RECEIPT).digest for entry in entries]
    assert [body_of(entry)["prev"] for entry in entries] == [None, *digests[:-1]]


# --- starts --------------------------------------------------------------------


def test_a_job_is_started_as_often_as_it_may_be_and_no_more(journal):
    claim = job(1, attempts=2)
    assert journal.claim(**claim) == 1
    assert journal.claim(**claim) == 2
    assert reason_of(journal, claim) == "claim.replay"


def test_starts_are_remembered_in_the_file(path):
    before = Journal(path)
    assert before.claim(**job(1)) == 1
    before.close()
    after = Journal(path)
    assert reason_of(after, job(1)) == "claim.replay"
    after.close()


def test_an_id_belongs_to_one_digest_per_context(journal):
    assert journal.claim(**job(1, job_id="x")) == 1
    assert reason_of(journal, job(2, job_id="x")) == "claim.id_conflict"
    assert journal.claim(**job(3, job_id="x", context_id="vault")) == 1


def test_a_refused_claim_leaves_nothing_behind(journal):
    journal.claim(**job(1, job_id="x"))
    assert reason_of(journal, job(2, job_id="x")) == "claim.id_conflict"
    assert journal.claim(**job(2, job_id="y")) == 1


def test_a_released_claim_does_not_count_as_a_start(journal):
    me = process_mark()
    assert journal.claim(**job(1, process=me)) == 1
    journal.release(job(1)["digest"], 1)
    assert journal.claim(**job(1, process=me)) == 1


def test_a_release_of_an_earlier_start_changes_nothing(journal):
    claim = job(1, attempts=2)
    journal.claim(**claim)
    journal.claim(**claim)
    journal.release(claim["digest"], 1)
    assert reason_of(journal, claim) == "claim.replay"


def test_a_released_id_still_belongs_to_its_digest(journal):
    journal.claim(**job(1, job_id="x"))
    journal.release(job(1)["digest"], 1)
    assert reason_of(journal, job(2, job_id="x")) == "claim.id_conflict"


def test_a_stopped_job_never_starts(journal):
    for _ in range(2):
        journal.stop(job(1)["digest"], NOW + HOUR)
    assert reason_of(journal, job(1)) == "claim.stopped"


def test_a_stopped_job_does_not_start_again(journal):
    claim = job(1, attempts=5)
    journal.claim(**claim)
    journal.stop(claim["digest"], NOW + HOUR)
    assert reason_of(journal, claim) == "claim.stopped"


# --- two attempts never overlap ------------------------------------------------


def test_a_start_whose_process_lives_is_not_followed_by_another(journal):
    claim = job(1, attempts=2, process=process_mark())
    assert journal.claim(**claim) == 1
    with pytest.raises(AlreadyRunning, match="2025-10-09"):
        journal.claim(**claim)


def test_the_last_start_counts_as_running_before_it_counts_as_used_up(journal):
    claim = job(1, process=process_mark())
    journal.claim(**claim)
    with pytest.raises(AlreadyRunning):
        journal.claim(**claim)
    settle(journal)
    assert reason_of(journal, claim) == "claim.replay"


def test_a_settled_start_may_be_followed_by_another(journal):
    claim = job(1, attempts=2, process=process_mark())
    journal.claim(**claim)
    settle(journal, attempt=1)
    assert journal.claim(**claim) == 2


def test_settling_an_earlier_start_does_not_end_a_later_one(journal):
    claim = job(1, attempts=3)
    journal.claim(**claim)
    journal.claim(**claim | {"process": process_mark()})
    settle(journal, attempt=1)
    with pytest.raises(AlreadyRunning):
        journal.claim(**claim)


def test_a_start_of_a_process_that_was_killed_may_be_followed_by_another(journal):
    claim = job(1, attempts=2)
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - any program will do
        mark = process_mark(process.pid)
        assert journal.claim(**claim | {"process": mark}) == 1
        with pytest.raises(AlreadyRunning):
            journal.claim(**claim)
        process.kill()
    assert journal.claim(**claim) == 2


def test_starts_of_dead_processes_are_orphans_until_they_are_ended(journal):
    dead = ProcessMark(pid=2**22 - 1, started=1, boot="another")
    journal.claim(**job(1, process=dead, attempts=2))
    journal.claim(**job(2, process=process_mark()))
    journal.claim(**job(3, process=dead))
    settle(journal, number=3)
    (orphan,) = journal.orphans()
    assert (orphan.digest, orphan.attempt) == (job(1)["digest"], 1)
    assert orphan.started_at == NOW
    journal.ended(orphan)
    assert journal.orphans() == []
    assert journal.claim(**job(1, process=dead, attempts=2)) == 2


def test_a_dead_process_that_nobody_waited_for_counts_as_dead():
    process = subprocess.Popen(["sleep", "60"])  # noqa: S607 - any program will do
    mark = process_mark(process.pid)
    assert is_alive(mark)
    process.kill()
    # Waits for its end and leaves it as a zombie.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(mark)
    process.wait()
    assert not is_alive(mark)


def test_another_process_under_the_same_number_is_another_process():
    me = process_mark()
    assert is_alive(me)
    assert not is_alive(ProcessMark(pid=me.pid, started=me.started + 1, boot=me.boot))
    assert not is_alive(ProcessMark(pid=me.pid, started=me.started, boot="another"))


def test_there_is_no_mark_of_a_process_that_is_not_there():
    process = subprocess.Popen(["true"])  # noqa: S607 - any program will do
    process.wait()
    with pytest.raises(ProcessLookupError):
        process_mark(process.pid)


def test_a_name_with_brackets_does_not_confuse_a_mark(tmp_path):
    program = tmp_path / "a) b ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:  # noqa: S603 - our own link
        assert is_alive(process_mark(process.pid))
        process.kill()


# --- receipts ------------------------------------------------------------------


def test_the_receipts_of_a_runner_are_a_chain(journal):
    for number in range(1, 4):
        settle(journal, number=number)
        settle(journal, runner="other", number=number)
    assert_is_chain(journal.undelivered("r"))
    assert_is_chain(journal.undelivered("other"))


def test_the_chain_goes_on_after_all_was_delivered_and_dropped(journal, path):
    for number in (1, 2):
        journal.delivered("r", settle(journal, number=number).seq)
    journal.sweep(NOW)
    journal.close()
    again = Journal(path)
    entry = settle(again, number=3)
    again.close()
    assert entry.seq == 3
    assert body_of(entry)["prev"] is not None


def test_a_settled_entry_is_all_that_has_to_be_delivered(journal):
    entry = settle(journal, number=7, attempt=2, outcome='{"result":"é"}')
    assert entry.digest == f"{7:064x}"
    assert (entry.attempt, entry.outcome) == (2, '{"result":"é"}')
    assert journal.undelivered("r") == [entry]


def test_what_was_delivered_is_not_delivered_again(journal):
    first, second = settle(journal), settle(journal)
    journal.delivered("r", first.seq)
    journal.delivered("r", first.seq)
    journal.delivered("other", second.seq)
    assert journal.undelivered("r") == [second]


def test_a_delivery_is_written_with_whatever_is_written_next(journal, path):
    first = settle(journal)
    journal.delivered("r", first.seq)
    assert Journal(path).undelivered("r") == [first]
    second = settle(journal)
    assert Journal(path).undelivered("r") == [second]


def test_a_delivery_that_could_not_be_written_is_written_later(journal, path):
    journal.claim(**job(1))
    first = settle(journal)
    journal.delivered("r", first.seq)
    with pytest.raises(ClaimError):
        journal.claim(**job(1))
    assert Journal(path).undelivered("r") == [first]
    journal.stop(first.digest, NOW + HOUR)
    assert Journal(path).undelivered("r") == []


def test_what_was_delivered_is_written_at_the_end(journal, path):
    journal.delivered("r", settle(journal).seq)
    journal.close()
    assert Journal(path).undelivered("r") == []


def test_many_deliveries_are_written_without_anything_else(journal, path):
    for entry in [settle(journal) for _ in range(100)]:
        journal.delivered("r", entry.seq)
    assert Journal(path).undelivered("r") == []


def test_a_receipt_that_cannot_be_made_settles_nothing(journal):
    class Broken(Exception):
        pass

    def fail(seq, prev):
        raise Broken

    journal.claim(**job(1, process=process_mark()))
    with pytest.raises(Broken):
        settle(journal, make=fail)
    assert journal.undelivered("r") == []
    with pytest.raises(AlreadyRunning):
        journal.claim(**job(1))
    assert settle(journal).seq == 1


# --- sweep ---------------------------------------------------------------------


def test_entries_stay_a_day_after_expiry(journal):
    journal.claim(**job(1))
    journal.stop(job(2)["digest"], NOW + HOUR)
    journal.sweep(NOW + HOUR + DAY - timedelta(milliseconds=1))
    assert reason_of(journal, job(1)) == "claim.replay"
    assert reason_of(journal, job(2)) == "claim.stopped"


def test_what_went_does_not_start_again_when_the_clock_is_set_back(journal):
    journal.claim(**job(1))
    later = job(2, expires_at=NOW + HOUR + timedelta(seconds=1))
    journal.stop(later["digest"], later["expires_at"])
    journal.sweep(NOW + HOUR + DAY)
    assert reason_of(journal, job(1)) == "claim.floor"
    assert reason_of(journal, later) == "claim.stopped"
    journal.sweep(NOW + HOUR + DAY + timedelta(seconds=1))
    assert reason_of(journal, later) == "claim.floor"


def test_the_floor_ends_at_the_newest_entry_that_went(journal):
    journal.claim(**job(1))
    journal.sweep(NOW + HOUR + DAY)
    assert reason_of(journal, job(3)) == "claim.floor"
    later = NOW + HOUR + timedelta(milliseconds=1)
    assert journal.claim(**job(3, expires_at=later)) == 1


def test_the_floor_never_falls(journal):
    journal.claim(**job(1, expires_at=NOW + HOUR))
    journal.sweep(NOW + 2 * DAY)
    journal.sweep(NOW - DAY)
    assert reason_of(journal, job(2, expires_at=NOW)) == "claim.floor"


def test_a_sweep_of_nothing_raises_no_floor(journal):
    journal.sweep(NOW + 100 * DAY)
    assert journal.claim(**job(1)) == 1


def test_a_job_that_still_runs_is_not_swept_away(journal):
    claim = job(1, attempts=2, process=process_mark())
    journal.claim(**claim)
    journal.sweep(NOW + 3 * DAY)
    with pytest.raises(AlreadyRunning):
        journal.claim(**claim)


def test_a_receipt_goes_when_it_was_delivered_and_its_job_went(journal):
    journal.claim(**job(1))
    delivered, waiting = settle(journal), settle(journal)
    journal.delivered("r", delivered.seq)
    journal.sweep(NOW + HOUR + DAY)
    assert journal.undelivered("r") == [waiting]


# --- trust ---------------------------------------------------------------------


def test_the_highest_trust_version_is_remembered(journal, path):
    assert journal.highest_trust_version() == 0
    for version in (3, 7, 5):
        journal.remember_trust_version(version)
    assert journal.highest_trust_version() == 7
    other = Journal(path)
    assert other.highest_trust_version() == 7
    other.close()


# --- many at once --------------------------------------------------------------


def in_processes(target, count, *args):
    """Run a function in forked processes at once, and return what each put."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    start = context.Barrier(count)
    processes = [
        context.Process(target=target, args=(queue, start, *args)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join(DEADLINE)
        assert process.exitcode == 0
    queue.close()
    return found


def try_to_claim(queue, start, path):
    journal = Journal(path)
    start.wait(DEADLINE)
    try:
        queue.put(journal.claim(**job(1, attempts=3)))
    except ClaimError as refusal:
        queue.put(refusal.reason)
    journal.close()


def test_of_many_processes_exactly_as_many_start_a_job_as_may(path):
    found = in_processes(try_to_claim, 8, path)
    assert sorted(map(str, found)) == ["1", "2", "3", *["claim.replay"] * 5]


def settle_some(queue, start, path):
    journal = Journal(path)
    start.wait(DEADLINE)
    queue.put([settle(journal).seq for _ in range(10)])
    journal.close()


def test_receipts_of_many_processes_are_one_chain(path, journal):
    found = in_processes(settle_some, 4, path)
    assert sorted(itertools.chain(*found)) == list(range(1, 41))
    assert_is_chain(journal.undelivered("r"))


def claim_with_the_inherited(queue, start, journal):
    start.wait(DEADLINE)
    queue.put(journal.claim(**job(os.getpid())))


def test_a_journal_that_was_open_at_a_fork_is_opened_anew(journal):
    journal.claim(**job(1))
    assert in_processes(claim_with_the_inherited, 4, journal) == [1] * 4
    assert journal.claim(**job(2)) == 1


def test_a_fork_while_another_thread_uses_the_journal_is_safe(journal):
    inside, leave = threading.Event(), threading.Event()

    def slowly(seq, prev):
        inside.set()
        leave.wait(DEADLINE)
        return receipt(seq, prev)

    thread = threading.Thread(target=settle, args=(journal,), kwargs={"make": slowly})
    thread.start()
    inside.wait(DEADLINE)
    pid = os.fork()
    if pid == 0:
        # Our parent's thread does not exist here, but its lock did.
        os._exit(journal.highest_trust_version())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave.set()
    thread.join(DEADLINE)
    assert len(journal.undelivered("r")) == 1


def test_threads_share_a_journal(journal):
    def some():
        for _ in range(10):
            settle(journal)

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert_is_chain(journal.undelivered("r"))
    assert len(journal.undelivered("r")) == 40


#: Starts to settle and never comes to an end.
HANGS: str = """
import sys, time
from horus_celery.journal import Journal

def hang(seq, prev):
    print(seq, flush=True)
    time.sleep(600)

Journal(sys.argv[1]).settle(
    runner="r", make=hang, digest="0" * 64, attempt=1, outcome="{}"
)
"""

#: Claims for itself, says so, and waits to be killed.
CLAIMS: str = """
import sys, time
from datetime import UTC, datetime, timedelta
from horus_celery.journal import Journal, process_mark

now = datetime(2025, 10, 9, tzinfo=UTC)
print(
    Journal(sys.argv[1]).claim(
        digest=format(1, "064x"),
        context_id="billing",
        job_id="job-1",
        attempts=2,
        expires_at=now + timedelta(hours=1),
        now=now,
        process=process_mark(),
    ),
    flush=True,
)
time.sleep(600)
"""


def killed_after_its_first_line(code, path):
    command = [sys.executable, "-c", code, path]
    with subprocess.Popen(  # noqa: S603 - code of this module
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return line.strip()


def test_a_process_killed_while_it_settles_leaves_no_gap(journal, path):
    assert settle(journal).seq == 1
    assert killed_after_its_first_line(HANGS, path) == "2"
    assert settle(journal).seq == 2
    assert_is_chain(journal.undelivered("r"))


def test_the_start_of_a_killed_process_still_counts(journal, path):
    assert killed_after_its_first_line(CLAIMS, path) == "1"
    assert journal.claim(**job(1, attempts=2)) == 2
    assert reason_of(journal, job(1, attempts=2)) == "claim.replay"


# --- a file that cannot be used ------------------------------------------------


def test_the_file_is_only_for_its_owner(journal, path):
    journal.claim(**job(1))
    modes = {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {0o600}


def test_every_claim_is_on_the_disk_before_the_start(journal, path):
    journal.claim(**job(1))
    journal.delivered("r", settle(journal).seq)
    db = journal._connection  # noqa: SLF001 - what SQLite is told has no other sign
    assert db is not None
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    path = tmp_path / "none" / "journal.db"
    with pytest.raises(ConfigurationError, match=f"{path} cannot be created: No such"):
        Journal(path).claim(**job(1))


def test_a_file_that_is_no_journal_is_named(path):
    path.write_bytes(b"something else" * 1000)
    journal = Journal(path)
    with pytest.raises(ConfigurationError, match=f"{path} cannot be used .*NOTADB"):
        journal.claim(**job(1))


def test_a_journal_of_another_version_is_left_alone(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="another version"):
        Journal(path).claim(**job(1))


def test_a_folder_in_its_place_is_named(path):
    path.mkdir()
    with pytest.raises(ConfigurationError, match=f"{path} cannot be used"):
        Journal(path).claim(**job(1))


def test_a_full_disk_starts_nothing_and_later_all_goes_on(journal, path):
    journal.claim(**job(1))
    db: Any = journal._connection  # noqa: SLF001 - the limit holds per connection
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    large = {"outcome": "x" * 1_000_000}
    with pytest.raises(UnavailableError, match=f"{path} .*FULL.* nothing starts"):
        settle(journal, **large)
    assert journal.undelivered("r") == []
    db.execute("PRAGMA max_page_count = 1000000")
    assert settle(journal, **large).seq == 1


def test_a_journal_that_another_process_holds_for_long_starts_nothing(journal, path):
    journal.claim(**job(1))
    hasty = Journal(path, patience=timedelta(milliseconds=20))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match=f"{path} .*BUSY.* nothing starts"):
        hasty.claim(**job(2))
    with pytest.raises(UnavailableError, match="nothing starts"):
        hasty.touch()
    holder.execute("ROLLBACK")
    holder.close()
    hasty.touch()
    assert hasty.claim(**job(2)) == 1
    hasty.close()


def test_a_new_file_that_another_process_holds_is_waited_for(path):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    hasty = Journal(path, patience=timedelta(milliseconds=20))
    with pytest.raises(UnavailableError, match="BUSY"):
        hasty.claim(**job(1))
    holder.execute("ROLLBACK")
    holder.close()
    assert hasty.claim(**job(1)) == 1
    hasty.close()


def test_a_closed_journal_opens_again(journal):
    journal.claim(**job(1))
    journal.close()
    journal.close()
    assert reason_of(journal, job(1)) == "claim.replay"


def test_a_journal_in_memory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(":memory:")
    assert journal.claim(**job(1)) == 1
    assert reason_of(journal, job(1)) == "claim.replay"
    journal.close()
    assert list(tmp_path.iterdir()) == []


# --- secrets of the API -----------------------------------------------------------


def test_what_was_removed_is_remembered_for_good(path, journal):
    journal.remember_removed({"a", "b"})
    journal.remember_removed(["b", "c"])
    journal.sweep(NOW + 100 * DAY)
    journal.close()
    again = Journal(path)
    assert again.removed_among(["a", "b", "x"]) == {"a", "b"}
    assert again.removed_among([]) == set()
    again.close()


def test_a_journal_of_before_it_remembers_as_well(path, journal):
    journal.claim(**job(1))
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE removed_secrets")
    assert journal.removed_among(["a"]) == set()
    journal.remember_removed(["a"])
    assert journal.removed_among(["a"]) == {"a"}


# --- the trail -----------------------------------------------------------------


def test_receipts_stay_when_the_claims_of_their_jobs_go(journal):
    journal.claim(**job(1))
    entry = settle(journal)
    journal.delivered("r", entry.seq)
    journal.sweep(NOW + 100 * DAY)
    with journal.trail() as trail:
        assert [one.envelope for one in trail.receipts("r")] == [entry.envelope]


def test_the_trail_shows_each_chain_in_its_order_with_its_end(journal):
    for runner, number in (("a", 1), ("b", 2), ("a", 3)):
        last = settle(journal, runner=runner, number=number)
    with journal.trail() as trail:
        assert trail.runners() == ["a", "b"]
        assert [one.seq for one in trail.receipts("a")] == [1, 2]
        head = trail.head("a")
        assert head is not None
        assert (head.seq, head.digest) == (
            2,
            dsse.read(last.envelope, dsse.RECEIPT).digest,
        )
        assert trail.head("nobody") is None
        assert list(trail.receipts("nobody")) == []


def test_what_is_added_while_the_trail_is_read_is_not_in_it(path, journal):
    settle(journal)
    other = Journal(path)
    with journal.trail() as trail:
        assert trail.runners() == ["r"]
        settle(other)
        assert [one.seq for one in trail.receipts("r")] == [1]
    other.close()
    with journal.trail() as trail:
        assert [one.seq for one in trail.receipts("r")] == [1, 2]
