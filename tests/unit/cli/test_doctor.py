"""`horus doctor` finds what is wrong, and changes nothing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import trustme

from horus_celery import kernel
from horus_celery.journal import process_mark
from horus_celery.statedir import StateDirectory


def findings(horus):
    told = horus("doctor", "--json")
    found = {each["name"]: each for each in json.loads(told.out)}
    return told.code, found


def test_the_doctor_finds_a_healthy_deployment_healthy(horus):
    horus("init")
    code, found = findings(horus)
    assert code == 0
    assert {
        "versions",
        "files",
        "keys",
        "trust bundle",
        "clock",
        "redis",
        "ports",
    } <= set(found)
    assert all(each["verdict"] != "wrong" for each in found.values())


def test_the_doctor_takes_nobody_for_a_deployment_that_was_killed(
    horus, state_dir, monkeypatch
):
    monkeypatch.setenv("HORUS_PORT", "0")
    monkeypatch.setenv("HORUS_FLOWER_PORT", "0")
    horus("init")
    somebody_else = replace(process_mark(), started=0)
    left = {
        "process": asdict(somebody_else),
        "url": "http://127.0.0.1:1",
        "flower_url": None,
        "tls_cert": None,
    }
    (state_dir / "run").mkdir(exist_ok=True)
    (state_dir / "run" / "up.json").write_text(json.dumps(left))
    code, found = findings(horus)
    assert code == 0
    assert "is free for the API" in found["ports"]["detail"]
    assert found["redis"]["verdict"] == "ok"
    (state_dir / "run" / "up.json").write_text(
        json.dumps({**left, "process": asdict(process_mark())})
    )
    code, found = findings(horus)
    assert code == 1
    assert found["ports"]["detail"] == "Horus is up: http://127.0.0.1:1"
    assert "cannot be used: no connection" in found["redis"]["detail"]
    assert f"look into {state_dir}/logs/redis.log" in found["redis"]["remedy"]


@pytest.mark.parametrize(
    ("config", "remedy"),
    [("/etc/h.toml", "HORUS_CONFIG=/etc/h.toml horus doctor"), (None, "HORUS_REDIS_")],
)
def test_the_doctor_looks_for_nothing_in_another_redis_than_what_is_up_uses(
    horus, state_dir, config, remedy
):
    horus("init")
    up = {
        "process": asdict(process_mark()),
        "url": "http://127.0.0.1:1",
        "flower_url": None,
        "redis": "redis://127.0.0.1:7/2",
        "config": config,
    }
    (state_dir / "run").mkdir(exist_ok=True)
    (state_dir / "run" / "up.json").write_text(json.dumps(up))
    code, found = findings(horus)
    assert code == 1
    assert "uses redis://127.0.0.1:7/2, these settings" in found["redis"]["detail"]
    assert remedy in found["redis"]["remedy"]


@pytest.mark.parametrize(
    ("disk", "detail"),
    [
        ({"f_bfree": 0, "f_bavail": 0}, "is full: no job starts"),
        ({"f_files": 10, "f_favail": 0}, "is full: no job starts"),
        ({"f_flag": os.ST_RDONLY}, "is read-only: no job starts"),
    ],
    ids=["no room", "no file", "read-only"],
)
def test_the_doctor_knows_a_disk_that_cannot_be_written(
    horus, state_dir, monkeypatch, disk, detail
):
    horus("init")
    usual = {"f_bfree": 1, "f_bavail": 1, "f_files": 0, "f_favail": 0, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**usual, **disk}))
    code, found = findings(horus)
    assert code == 1
    assert found["state directory"]["verdict"] == "wrong"
    assert found["state directory"]["detail"].endswith(f"{state_dir} {detail}")


def test_the_doctor_makes_nothing(horus, state_dir):
    code, found = findings(horus)
    assert code == 0
    assert found["state directory"]["remedy"] == "horus init"
    assert not state_dir.exists()


def test_the_doctor_names_what_is_wrong(horus, state_dir):
    horus("init")
    (state_dir / "keys" / "default.key").chmod(0o644)
    code, found = findings(horus)
    assert code == 1
    assert found["files"]["verdict"] == "wrong"
    assert "chmod 600" in found["files"]["detail"]


def test_the_doctor_names_a_key_that_may_sign_nothing(horus):
    horus("init")
    horus("key", "new", "alice")
    told = horus("doctor")
    assert "horus trust grant --context alice --caller alice --key alice" in told.out


def test_the_doctor_knows_a_bundle_of_another_namespace(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_NAMESPACE", "other")
    code, found = findings(horus)
    assert code == 1
    assert found["trust bundle"]["verdict"] in {"wrong", "ok"}


def test_the_doctor_knows_a_runner_that_nobody_would_believe(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_ACTORS", '[{"id": "spare", "executor": "python"}]')
    state = horus("doctor")
    assert state.code == 1
    assert "the trust bundle has no runner spare" in state.out


def test_the_doctor_misses_no_runner_of_what_was_never_up_here(
    horus, state_dir, monkeypatch
):
    # As `horus supervisor` leaves it.
    StateDirectory(state_dir).initialise(
        namespace="hero", runners=(), now=datetime.now(UTC)
    )
    told = horus("doctor")
    assert told.code == 0
    for name in ("python_runner_1", "system_runner_1"):
        assert f"has no runner {name}, which `horus up` starts" in told.out
    monkeypatch.setenv("HORUS_ACTORS", '[{"id": "spare", "executor": "python"}]')
    assert horus("doctor").code == 1


def test_where_keys_are_brought_the_doctor_misses_no_runner_of_other_machines(
    horus, state_dir, monkeypatch
):
    monkeypatch.setenv("HORUS_ACTORS", '[{"id": "spare", "executor": "python"}]')
    horus("init")
    (state_dir / "root.key").unlink()
    (state_dir / "runners" / "system_runner_1.key").unlink()
    code, found = findings(horus)
    assert (code, found["files"]["verdict"]) == (0, "ok")
    (state_dir / "runners" / "spare.key").unlink()
    code, found = findings(horus)
    assert code == 1
    assert "spare.key is missing" in found["files"]["detail"]


def test_the_doctor_knows_a_secret_that_is_not_here_or_cannot_be_used(
    horus, monkeypatch, tmp_path
):
    horus("init")
    grant = ("trust", "grant", "--context", "a", "--caller", "a", "--key", "default")
    horus(*grant, "--secrets", "token,other")
    file = tmp_path / "token"
    file.write_text("correct horse")
    file.chmod(0o600)
    monkeypatch.setenv("HORUS_NODE_SECRETS", json.dumps({"token": {"file": str(file)}}))
    told = horus("doctor")
    assert told.code == 0
    assert "other is granted, but it is not on this node" in told.out
    assert "scripts may be given token" in told.out
    file.write_text("   short     ")
    told = horus("doctor")
    assert told.code == 1
    assert f"token lies in {file}, which holds a value of less than 8" in told.out


def test_the_doctor_says_when_secrets_pass_in_the_open(horus, monkeypatch):
    horus("init")
    _, found = findings(horus)
    assert found["tls"]["verdict"] == "ok"
    monkeypatch.setenv("HORUS_BIND_ADDRESS", "::")
    monkeypatch.setenv("HORUS_INSECURE_HTTP", "true")
    _, found = findings(horus)
    assert found["tls"]["verdict"] == "note"
    assert "in the open" in found["tls"]["detail"]


def test_the_doctor_knows_a_certificate_that_is_none(horus, monkeypatch, tmp_path):
    horus("init")
    for name in ("tls_cert", "tls_key"):
        (tmp_path / name).write_text("nothing")
        monkeypatch.setenv(f"HORUS_{name.upper()}", str(tmp_path / name))
    code, found = findings(horus)
    assert code == 1
    assert "tls_cert" in found["tls"]["detail"]


def test_the_doctor_knows_a_certificate_whose_time_is_over(
    horus, monkeypatch, tmp_path
):
    horus("init")
    leaf = trustme.CA().issue_cert(
        "localhost", not_after=datetime(2025, 1, 1, tzinfo=UTC)
    )
    paths = {name: tmp_path / name for name in ("tls_cert", "tls_key")}
    leaf.cert_chain_pems[0].write_to_path(str(paths["tls_cert"]))
    leaf.private_key_pem.write_to_path(str(paths["tls_key"]))
    for name, path in paths.items():
        monkeypatch.setenv(f"HORUS_{name.upper()}", str(path))
    code, found = findings(horus)
    assert code == 1
    assert "certificate has expired" in found["tls"]["detail"]


def told_of(check, horus):
    told = horus("doctor", "--json")
    found = [one for one in json.loads(told.out) if one["name"] == check]
    return told.code, found


def containment(horus):
    return told_of("containment", horus)


def test_the_doctor_says_what_a_wanted_executor_lacks(horus, monkeypatch):
    horus("init")
    mine = [{"name": "mine", "command": ["/nowhere/mine", "{script}"]}]
    monkeypatch.setenv("HORUS_EXECUTOR_COMMANDS", json.dumps(mine))
    monkeypatch.setenv("HORUS_EXECUTORS", "python")
    code, found = told_of("executors", horus)
    assert (code, found[0]["detail"][:34]) == (0, "can be served here: python, system")
    monkeypatch.setenv("HORUS_EXECUTORS", "python,mine")
    horus("init")
    code, found = told_of("executors", horus)
    assert code == 1
    assert found[-1]["verdict"] == "wrong"
    assert "/nowhere/mine" in found[-1]["detail"]


def test_the_doctor_says_at_which_level_scripts_run(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_SANDBOX", "plain")
    code, found = containment(horus)
    assert code == 0
    assert found[0]["detail"].startswith("scripts run at the level plain (works here: ")
    assert "a runner started here gives" in found[-1]["detail"]


def test_the_doctor_knows_what_a_demand_would_refuse(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_SANDBOX", "plain")
    monkeypatch.setenv("HORUS_SANDBOX_REQUIRED", "true")
    code, found = containment(horus)
    assert code == 1
    assert found[1]["verdict"] == "wrong"
    assert "a job without a network is refused here" in found[1]["detail"]


def test_the_doctor_says_whether_there_is_landlock(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_SANDBOX", "plain")
    try:
        expected = f"Landlock is here, version {kernel.landlock_version()}"
    except OSError:
        expected = "this kernel has no Landlock"
    _, found = containment(horus)
    assert expected in [one["detail"] for one in found]


def test_the_doctor_knows_that_no_runner_would_start(horus, monkeypatch):
    horus("init")
    monkeypatch.setenv("HORUS_SANDBOX", "bwrap")
    monkeypatch.setenv("PATH", "/nowhere")
    code, found = containment(horus)
    assert code == 1
    assert [one["verdict"] for one in found[:2]] == ["wrong", "wrong"]
    assert "bwrap does not work here" in found[1]["detail"]
    assert found[1]["remedy"]
