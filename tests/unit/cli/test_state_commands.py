"""Commands that need no supervisor: what they make, and what they say is wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from horus_celery.statements.keys import KeyPair


def test_init_makes_the_state_directory_and_then_has_nothing_to_do(horus, state_dir):
    assert horus("init").code == 0
    assert (state_dir / "trust.json").exists()
    assert horus("init").out == f"{state_dir} is as it must be\n"


def test_a_key_is_made_granted_and_revoked(horus):
    horus("init")
    made = json.loads(horus("key", "new", "alice", "--json").out)
    assert json.loads(horus("key", "show", "alice", "--json").out) == made
    grant = ("trust", "grant", "--context", "billing", "--caller", "alice")
    trust = json.loads(horus(*grant, "--key", "alice", "--json").out)
    assert trust["version"] == 2
    assert trust["keys"][made["keyid"]] == made["public"]
    assert trust["grants"][-1]["context_id"] == "billing"
    assert json.loads(horus("trust", "show", "--json").out) == trust
    trust = json.loads(horus("trust", "revoke", made["keyid"], "--json").out)
    assert made["keyid"] not in trust["keys"]
    assert trust["version"] == 3


def test_a_caller_elsewhere_makes_a_key_beside_the_root_s_public_one(horus, state_dir):
    horus("init")
    for path in state_dir.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "root.pub":
            path.unlink()
    assert horus("key", "new", "alice").code == 0
    assert {path.name for path in state_dir.iterdir()} == {"root.pub", "keys"}
    assert (state_dir / "keys").stat().st_mode & 0o777 == 0o700
    assert "alice" in horus("key", "show", "alice").out


def test_a_grant_may_list_secrets_and_the_default_one_lists_none(horus):
    horus("init")
    grant = ("trust", "grant", "--context", "billing", "--caller", "alice")
    trust = json.loads(
        horus(*grant, "--key", "default", "--secrets", "token, db", "--json").out
    )
    assert [one["secrets"] for one in trust["grants"]] == [[], ["token", "db"]]
    shown = horus("trust", "show").out.splitlines()
    assert any(line.endswith("\ttoken, db") for line in shown)


def test_the_lists_are_for_people_as_well(horus):
    horus("init")
    horus("key", "new", "alice")
    assert [line.split("\t")[0] for line in horus("key", "list").out.splitlines()] == [
        *("name", "alice", "default")
    ]
    assert "python_runner_1" in horus("trust", "show").out


def test_a_public_key_of_somebody_else_is_made_known(horus, tmp_path):
    horus("init")
    public = KeyPair.generate().public.hex()
    (tmp_path / "bob.pub").write_text(f"{public}\n")
    for key in (public, "./bob.pub"):
        trust = json.loads(horus("trust", "add-key", key, "--json").out)
        assert public in trust["keys"].values()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["key", "show", "nobody"], "horus key new nobody"),
        (["key", "new", "default"], "is already there"),
        (["trust", "revoke", "nobody"], "knows no key and no runner"),
        (["trust", "add-key", "f" * 64], "is no valid public key"),
        (["trust", "add-key", "f" * 32], "has no key"),
        (
            *(
                [
                    "trust",
                    "grant",
                    "--context",
                    "a b",
                    "--caller",
                    "c",
                    "--key",
                    "default",
                ],
            ),
            "grants.1.context_id",
        ),
        (["run", "/nowhere.py"], "cannot read the script /nowhere.py"),
        (["job", "list"], "no supervisor answers"),
        (["run", "-c", "1", "--key", "nobody"], "there is no key 'nobody'"),
        (["up", "--executors", "osi"], "there is no executor 'osi' here"),
    ],
)
def test_what_is_wrong_is_one_line(horus, arguments, said):
    horus("init")
    told = horus(*arguments)
    assert told.code == 1
    assert said in told.err
    assert told.err.startswith("horus: ")
    assert told.err.count("\n") == 1


def test_what_is_to_be_done_is_pasted_as_it_is(horus, tmp_path, monkeypatch):
    monkeypatch.delenv("HORUS_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    state = tmp_path / "a place"
    said = horus("key", "list", "--state-dir", state).err
    (made,) = re.findall(r"`horus (.+?)`", said)
    assert horus(*shlex.split(made)).code == 0
    assert (state / "trust.json").is_file()
    assert not (tmp_path / "home").exists()
    # Where a command finds it by itself, nothing is added.
    assert "`horus init` makes one" in horus("key", "list").err


def test_a_script_in_rhai_is_not_taken_for_python(horus, tmp_path):
    horus("init")
    (tmp_path / "sum.rhai").write_text("1 + 1")
    told = horus("run", tmp_path / "sum.rhai")
    assert told.code == 1
    assert "sum.rhai may be for osis or sal: name the executor" in told.err
    told = horus("run", "--executor", "osis", tmp_path / "sum.rhai")
    assert "no supervisor answers" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["key", "new", "../x"],
        ["run"],
        ["run", "-c", "1", "--env", "A"],
        ["run", "-c", "1", "--input", "A"],
        ["run", "-c", "1", "--input", "=B"],
        ["run", "-c", "1", "--timeout", "0"],
        ["job", "check"],
        ["up", "--port", "70000"],
    ],
)
def test_a_wrong_use_says_how_it_is_used(horus, arguments):
    told = horus(*arguments)
    assert told.code == 2
    assert "Usage: horus" in told.err


def test_without_a_state_directory_the_remedy_is_told(horus):
    told = horus("run", "-c", "1")
    assert told.code == 1
    assert "`horus up --state-dir /" in told.err


def test_a_wrong_variable_is_told_by_every_command(horus, monkeypatch):
    monkeypatch.setenv("HORUS_PROT", "1")
    assert "did you mean HORUS_PORT?" in horus("key", "list").err
