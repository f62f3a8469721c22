"""`horus config show`: what counts here, where it was chosen, and never a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from horus_celery.settings import Settings

SECRET = "an0ther-secret-that-nobody-guesses"  # noqa: S105 - opens nothing


def rows(told):
    head, *lines = told.out.splitlines()
    assert head.split("\t") == ["setting", "value", "origin"]
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines}


def test_every_setting_is_shown_with_its_origin(horus, state_dir, monkeypatch):
    Path("horus.toml").write_text('namespace = "file"\nport = 1\nmax_batch = 2')
    monkeypatch.setenv("HORUS_PORT", "3")
    told = horus("config", "show", "--state-dir", state_dir)
    assert told.code == 0
    shown = rows(told)
    assert shown.keys() == Settings.model_fields.keys()
    path = Path("horus.toml").absolute()
    assert shown["namespace"] == ["file", f"{path} line 1"]
    assert shown["max_batch"] == ["2", f"{path} line 3"]
    assert shown["port"] == ["3", "HORUS_PORT"]
    assert shown["state_dir"] == [str(state_dir), "--state-dir"]
    assert shown["executors"] == ["python,system", "default"]
    assert shown["insecure_http"] == ["false", "default"]
    assert shown["concurrency"] == ["", "default"]


def test_json_holds_values_and_origins_apart(horus):
    Path("horus.toml").write_text(
        '\n[[actors]]\nid = "osis_1"\nexecutor = "osis"\ncontexts = ["a"]'
    )
    shown = json.loads(horus("config", "show", "--json").out)
    assert shown.keys() == Settings.model_fields.keys()
    assert shown["port"] == {
        "value": 3030,
        "source": "default",
        "name": None,
        "line": None,
    }
    path = str(Path("horus.toml").absolute())
    assert (
        shown["actors"].items() >= {"source": "file", "name": path, "line": 2}.items()
    )
    (actor,) = shown["actors"]["value"]
    assert (actor["name"], actor["contexts"]) == ("osis_1", ["a"])


def test_names_among_tables_of_executors_have_a_line_too(horus, tmp_path):
    one = '{ name = "perl", command = ["perl", "{script}"] }'
    file = tmp_path / "mixed.toml"
    file.write_text(f'port = 1\nexecutors = ["osis", {one}]\n')
    shown = json.loads(horus("config", "show", "--config", file, "--json").out)
    assert shown["executors"]["line"] == 2
    assert shown["executor_commands"]["line"] == 2


def test_another_file_may_be_named(horus):
    Path("other.toml").write_text("port = 5")
    told = horus("config", "show", "--config", "other.toml")
    assert rows(told)["port"] == ["5", "other.toml line 1"]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_no_secret_is_shown(horus, flags):
    Path("horus.toml").write_text(
        f"""
        admin_secrets = ["{SECRET}1"]
        user_secrets = ["{SECRET}2", {{secret = "{SECRET}3", contexts = ["billing"]}}]
        register_secrets = ["{SECRET}4"]
        flower_basic_auth = "me:{SECRET}5"
        redis_url = "rediss://worker:{SECRET}6@redis.lan:1/2"
        herodb_url = "redis://keeper:{SECRET}8@redis.lan:3/4"
        [node_secrets]
        token = {{file = "token"}}
        """
    )
    Path("token").write_text(f"{SECRET}7")
    Path("token").chmod(0o600)
    told = horus("config", "show", *flags)
    assert told.code == 0
    assert SECRET not in told.out + told.err
    for shown in ("billing", '/token"', "me:***", "rediss://worker:***@redis.lan:1"):
        assert shown in told.out
    assert "redis://keeper:***@redis.lan:3/4" in told.out


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:7/1", "redis://127.0.0.1:7/1"),
        (f"redis://:{SECRET}@h", "redis://:***@h:6379/0"),
        ("redis://user@h", "redis://user:***@h:6379/0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock"),
        (
            f"sentinel://a,b/main?sentinel_password={SECRET}",
            "sentinel://a:26379,b:26379/main",
        ),
    ],
)
def test_the_address_of_a_redis_is_shown_without_its_password(
    horus, monkeypatch, url, shown
):
    monkeypatch.setenv("HORUS_REDIS_URL", url)
    assert rows(horus("config", "show"))["redis_url"] == [shown, "HORUS_REDIS_URL"]


def test_a_wrong_setting_is_told_with_its_line(horus):
    Path("horus.toml").write_text("\n\nport = 'x'")
    told = horus("config", "show")
    assert told.code == 1
    assert "horus.toml line 3: port must be a whole number" in told.err
