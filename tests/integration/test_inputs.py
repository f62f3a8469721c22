"""Inputs reach a script as the very bytes that a runner signed, and only as data."""

from __future__ import annotations

import hashlib
import json
import textwrap

import pytest

from horus_celery.lifecycle import Status
from horus_celery.statements import dsse
from horus_celery.statements.job import InputRef

pytestmark = pytest.mark.integration

#: Means something to bash, Python, templates, formats, HTML, SQL and terminals.
SYNTAX = textwrap.dedent("""\
    $(touch pwned) `touch pwned` ${HOME} $HORUS_INPUTS; touch pwned & exit 1
    '; touch pwned; ' "; touch pwned; " \\ \\n %s %(x)s {0} {{ 7*7 }} {% raw %} <%= 1 %>
    __import__('os').system('touch pwned')
    \"\"\" ''' # -- /* </script> \x1b[31m \r ü 𝄞
    EOF
    """)


@pytest.fixture(scope="module", autouse=True)
def worker(deployment):
    return deployment.start_worker("-Q", "python,system", "-c", "2")


@pytest.fixture(autouse=True)
def no_room_is_left(deployment):
    yield
    deployment.until(lambda: not deployment.rooms())


@pytest.fixture
def said(deployment):
    """Have a job end with a result, and return its record."""

    def say(text):
        script = "import os, sys; open(os.environ['HORUS_RESULT'], 'wb').write({!r})"
        record = deployment.run(script.format(text.encode()))
        assert record.result == text
        return record

    return say


def ref(record, max_bytes=1000):
    digest = record.summary.digest
    return InputRef.from_wire({"from": digest, "max_bytes": max_bytes})


def receipt_of(record):
    return json.loads(dsse.read(record.receipt, dsse.RECEIPT).body)


# --- what a script sees ----------------------------------------------------------


@pytest.mark.parametrize("executor", ["python", "system"])
def test_a_result_full_of_syntax_stays_data(deployment, said, executor):
    before = said(SYNTAX)
    script = {
        "python": """
            import os, shutil
            place = os.path.join(os.environ["HORUS_INPUTS"], "TEXT")
            shutil.copyfile(place, os.environ["HORUS_RESULT"])
            print(sorted(os.listdir(".")))
        """,
        "system": """
            cat "$HORUS_INPUTS/TEXT" > "$HORUS_RESULT"
            ls -A
        """,
    }[executor]
    record = deployment.run(
        textwrap.dedent(script), executor=executor, inputs={"TEXT": ref(before)}
    )
    assert (record.status, record.result) == (Status.COMPLETED, SYNTAX)
    assert not any("pwned" in line.text for line in deployment.lines(record))
    assert receipt_of(record)["inputs"] == [
        {
            "name": "TEXT",
            "from": before.summary.digest,
            "sha256": hashlib.sha256(SYNTAX.encode()).hexdigest(),
        }
    ]


def test_an_input_is_in_no_argument_no_variable_and_no_script(deployment, said):
    before = said("needle-in-a-haystack")
    record = deployment.run(
        textwrap.dedent("""
            import os, pathlib, sys
            told = [pathlib.Path(f"/proc/self/{name}").read_bytes()
                    for name in ("cmdline", "environ")]
            told.append(pathlib.Path(sys.argv[0]).read_bytes())
            print(any(b"needle" + b"-in" in one for one in told))
        """),
        inputs={"A": ref(before)},
    )
    assert record.result == "False\n"


def test_inputs_are_files_for_reading_alone_one_for_each_name(deployment, said):
    first, second = said("one"), said("")
    inputs = {"A_1": ref(first), "_b": ref(second), "C": ref(first)}
    script = 'cd "$HORUS_INPUTS" && stat -c "%a %F %s %n" . *'
    record = deployment.run(script, executor="system", inputs=inputs)
    folder, *files = record.result.splitlines()
    assert folder.startswith("500 directory")
    assert sorted(files) == [
        "400 regular empty file 0 _b",
        "400 regular file 3 A_1",
        "400 regular file 3 C",
    ]


def test_a_chain_of_jobs_hands_its_results_on(deployment, said):
    record = said("1")
    for _ in range(3):
        record = deployment.run(
            "import os; n = int(open(os.environ['HORUS_INPUTS'] + '/N').read());"
            " print(n * 2)",
            inputs={"N": ref(record)},
            needs=[record.summary.digest],
        )
    assert record.result == "8\n"


def test_an_input_of_many_megabytes_arrives(deployment):
    before = deployment.run("print('x' * 2_999_999)", output_kb=4096)
    record = deployment.run(
        'sha256sum < "$HORUS_INPUTS/BIG" | cut -c -64',
        executor="system",
        inputs={"BIG": ref(before, max_bytes=3_000_000)},
    )
    assert record.result == receipt_of(before)["result"]["sha256"] + "\n"


# --- what somebody did to Redis --------------------------------------------------


def key_of(deployment, record):
    return f"{deployment.namespace}:job:{record.summary.digest}"


def refusal(deployment, **facts):
    record = deployment.run("print('ran')", **facts)
    assert record.status is Status.REJECTED
    assert receipt_of(record)["reason"] == record.reason
    return record.reason


def test_a_result_that_was_changed_in_redis_is_not_given(deployment, said):
    before = said("honest")
    deployment.redis.hset(key_of(deployment, before), "result", "forged")
    assert refusal(deployment, inputs={"A": ref(before)}) == "input.hash"


def test_a_result_that_was_removed_from_redis_is_not_given(deployment, said):
    before = said("honest")
    deployment.redis.hdel(key_of(deployment, before), "result")
    assert refusal(deployment, inputs={"A": ref(before)}) == "input.missing"


@pytest.mark.parametrize("fields", [["receipt"], ["receipt", "result"], ["envelope"]])
def test_what_was_exchanged_between_two_records_is_not_given(deployment, said, fields):
    first, second = said("first"), said("second")
    keys = [key_of(deployment, one) for one in (first, second)]
    for field in fields:
        one, other = (deployment.redis.hget(key, field) for key in keys)
        deployment.redis.hset(keys[0], field, other)
        deployment.redis.hset(keys[1], field, one)
    assert refusal(deployment, inputs={"A": ref(first)}) == "input.receipt"
    assert refusal(deployment, needs=[second.summary.digest]) == "input.receipt"


def test_a_whole_record_under_the_digest_of_another_is_not_given(deployment, said):
    first, second = said("first"), said("second")
    deployment.redis.copy(
        key_of(deployment, second), key_of(deployment, first), replace=True
    )
    assert refusal(deployment, inputs={"A": ref(first)}) == "input.receipt"


def test_a_status_that_was_set_in_redis_proves_nothing(deployment):
    failed = deployment.run("import sys; print('out'); sys.exit(1)")
    said_of_it = {"status": "completed", "exit_code": "0"}
    deployment.redis.hset(key_of(deployment, failed), mapping=said_of_it)
    deployment.redis.hdel(key_of(deployment, failed), "reason")
    assert refusal(deployment, inputs={"A": ref(failed)}) == "input.receipt"


def test_a_record_that_was_deleted_is_missing(deployment, said):
    before = said("gone")
    deployment.supervisor.delete(before.summary.id)
    assert refusal(deployment, needs=[before.summary.digest]) == "input.missing"


def test_a_record_that_was_retired_can_be_needed_but_not_read(deployment, said):
    before = said("old")
    assert deployment.store.retire(before.summary.digest)
    record = deployment.run("print('ran')", needs=[before.summary.digest])
    assert record.result == "ran\n"
    assert refusal(deployment, inputs={"A": ref(before)}) == "input.missing"
