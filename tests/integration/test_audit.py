"""`horus audit verify` over a real journal and Redis, sound and tampered with."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from horus_celery.lifecycle import Status
from horus_celery.statements import dsse
from horus_celery.store.packing import pack

pytestmark = pytest.mark.integration

HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")
RUNNER = "python_runner_1"


class Audited:
    """A deployment with some receipts, and the command that walks them."""

    def __init__(self, deployment, url):
        self._deployment = deployment
        self._url = url
        self.done = [deployment.run(f"print({number})") for number in range(3)]
        self.failed = deployment.run("raise SystemExit(3)")
        assert self.failed.status is Status.FAILED
        deployment.until(self._is_delivered)

    def verify(self, *words, by_url=True):
        """Return the exit code, and what is told."""
        where = ["--url", self._url] if by_url else []
        done = self._run("--json", *where, *words)
        return done.returncode, json.loads(done.stdout)

    def text(self):
        done = self._run()
        return done.returncode, done.stdout

    def found(self, **options):
        code, told = self.verify(**options)
        assert (code, told["ok"]) == ((1, False) if told["findings"] else (0, True))
        return [(found["kind"], found["seq"]) for found in told["findings"]]

    def change(self, statement, *values):
        """Tamper with the journal."""
        with closing(sqlite3.connect(self._deployment.state.journal)) as db, db:
            assert db.execute(statement, values).rowcount

    def put(self, record, **fields):
        """Tamper with a record in Redis."""
        key = f"{self._deployment.namespace}:job:{record.summary.digest}"
        self._deployment.redis.hset(key, mapping=fields)

    def delete(self, record):
        """Have a job forgotten, as anybody may who may see it."""
        done = self._call("job", "delete", record.summary.id, "--url", self._url)
        assert done.returncode == 0, done.stderr

    def envelope_of(self, seq):
        with closing(sqlite3.connect(self._deployment.state.journal)) as db:
            rows = db.execute("SELECT envelope FROM receipts WHERE seq = ?", (seq,))
            return rows.fetchone()[0]

    def _run(self, *words):
        return self._call("audit", "verify", *words)

    def _call(self, *words):
        return subprocess.run(  # noqa: S603 - our own command
            [*HORUS, *words],
            env=self._deployment.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def _is_delivered(self):
        with closing(sqlite3.connect(self._deployment.state.journal)) as db:
            waiting = "SELECT count(*) FROM receipts WHERE outcome IS NOT NULL"
            return db.execute(waiting).fetchone() == (0,)


@pytest.fixture
def audited(private_deployment, api_of):
    private_deployment.start_worker("-Q", "python", "-c", "1")
    return Audited(private_deployment, api_of(private_deployment).url)


def test_all_is_well_until_somebody_tampers_with_the_journal(audited):
    code, told = audited.verify()
    assert (code, told["ok"], told["findings"]) == (0, True, [])
    assert told["chains"] == [{"runner": RUNNER, "first": 1, "last": 4, "receipts": 4}]
    assert told["jobs_compared"] == 4
    third = audited.envelope_of(3)
    audited.change("UPDATE receipts SET envelope = ? WHERE seq = 2", third)
    assert audited.found(by_url=False) == [("altered", 2)]
    text = json.loads(third)
    text["payload"] = json.loads(audited.envelope_of(4))["payload"]
    audited.change("UPDATE receipts SET envelope = ? WHERE seq = 2", json.dumps(text))
    assert audited.found(by_url=False) == [("signature", 2)]
    audited.change("DELETE FROM receipts WHERE seq = 2")
    # From the journal, and by what the store still has of it.
    assert audited.found() == [("missing", 2), ("missing", 2)]
    code, said = audited.text()
    assert code == 1
    assert f"missing: runner {RUNNER}, receipt 2: receipt 2 is not in the" in said
    # Whoever cuts the end off as well is told by the store alone.
    audited.change("DELETE FROM receipts WHERE seq > 1")
    audited.change("UPDATE chains SET seq = 1, digest = ?", digest_of(audited, 1))
    assert audited.found(by_url=False) == []
    assert sorted(audited.found()) == [("missing", seq) for seq in (2, 3, 4)]
    assert audited.verify("--runner", "nobody", by_url=False)[0] == 1


def test_a_job_of_which_nothing_is_shown_is_not_said_to_be_compared(audited):
    audited.delete(audited.failed)
    code, told = audited.verify()
    assert (code, told["findings"], told["jobs_compared"]) == (0, [], 3)


def digest_of(audited, seq):
    return dsse.read(audited.envelope_of(seq), dsse.RECEIPT).digest


def test_a_record_that_was_tampered_with_is_named(audited):
    first, second, third = audited.done
    audited.put(first, result=pack("forged"))
    audited.put(second, exit_code="1")
    audited.put(third, status="failed", reason="timeout")
    audited.put(audited.failed, receipt=pack(audited.envelope_of(1)))
    _, told = audited.verify()
    found = {each["job_id"]: each for each in told["findings"]}
    for record in audited.done:
        assert found[record.summary.id]["kind"] == "record"
        assert "receipt_mismatch" in found[record.summary.id]["detail"]
    kinds = sorted(each["kind"] for each in told["findings"])
    assert kinds == ["foreign", "record", "record", "record"]
    assert audited.found(by_url=False) == []
