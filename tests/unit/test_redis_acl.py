"""The users of a Redis keep step with what is done there, and with the docs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

import horus_celery
from horus_celery.errors import ConfigurationError
from horus_celery.redis_acl import ACCESS, CHANNELS, COMMANDS, User, hashed, user_lines
from horus_celery.store.keys import Keys

HOME = Path(horus_celery.__file__).parent
PAGE = HOME.parent / "docs" / "redis.md"
PASSWORD = "a-password-that-nobody-guesses"  # noqa: S105 - opens nothing
PLACEHOLDER = r"#SHA256-OF-THE-PASSWORD-OF-[A-Z]+"
#: What Redis calls dangerous, but for ROLE, which every connection to a master asks.
DANGEROUS = set(
    re.findall(
        r"\w+",
        """
        acl bgrewriteaof bgsave client cluster config debug failover flushall flushdb
        function info keys latency migrate module monitor psync pfdebug pfselftest
        replconf replicaof restore save shutdown slaveof slowlog sort sort_ro swapdb
        sync script scan rename copy dump object unlink
        """,
    )
)


def lines_of(**changes):
    usual = {"namespace": "hero", "executors": ["python", "system"], "database": 0}
    return user_lines(passwords={}, **{**usual, **changes})


def in_scripts():
    """Return every command that a script of ours gives."""
    texts = [path.read_text() for path in (HOME / "store" / "lua").rglob("*.lua")]
    texts += [path.read_text() for path in HOME.rglob("*.py")]
    return {
        command.lower()
        for text in texts
        for command in re.findall(r"(?:call|ask)\('([A-Z]+)'", text)
    }


def given():
    """Return every command that the program gives, wherever it does."""
    return {
        command.lower()
        for path in HOME.rglob("*.py")
        for command in re.findall(
            r'ask(?:_all)?\([\w.]+,\s+"([A-Z]+)"', path.read_text()
        )
    }


def test_it_is_decided_of_every_key_who_does_what_to_it():
    assert {*ACCESS, *CHANNELS} == {field.name for field in fields(Keys)}
    assert {may for both in ACCESS.values() for may in both} <= {"RW", "R", "W", ""}


def test_every_command_that_is_given_is_allowed_to_whoever_gives_it():
    assert {"hset", "zadd", "publish"} <= in_scripts()
    assert {"lpush", "evalsha", "hgetall"} <= given()
    assert in_scripts() | given() <= COMMANDS[User.SUPERVISOR] | {"brpop"}
    only_the_supervisor = {"incr", "incrby", "set", "setrange", "lset", "lpop"}
    assert in_scripts() <= COMMANDS[User.RUNNER] | only_the_supervisor


def test_no_command_is_allowed_that_nobody_gives():
    ours = in_scripts() | given() | {"auth", "hello", "ping", "role", "select", "del"}
    assert COMMANDS[User.SUPERVISOR] <= ours | {"subscribe"}
    assert COMMANDS[User.RUNNER] <= ours | {"subscribe", "brpop", "multi", "exec"}


def test_nothing_dangerous_is_allowed_to_anybody():
    for commands in COMMANDS.values():
        assert not commands & DANGEROUS
        others = commands - {"script|load", "script|exists"}
        assert all(re.fullmatch(r"[a-z]+", command) for command in others)


def test_nobody_comes_in_as_the_default_user():
    first, *others = lines_of().splitlines()
    assert first == "user default reset off"
    assert [line.split()[1] for line in others] == list(User)


def test_a_runner_has_nothing_to_do_with_secrets_and_only_reads_the_trust_bundle():
    (runner,) = [line for line in lines_of().splitlines() if "user runner" in line]
    assert "hero:secrets" not in runner
    assert "%R~hero:trust" in runner.split()
    assert "~hero:trust" not in runner.split()


def test_without_a_password_stands_a_word_that_redis_refuses():
    for line in lines_of().splitlines()[1:]:
        assert re.fullmatch(PLACEHOLDER, line.split()[4])


def test_lines_can_be_shown_and_copied():
    text = lines_of(namespace="a.b", executors=["x-y_z", "a@b"], database=3)
    assert text.replace("\n", "").isprintable()
    assert "&/3.celeryev/*" in text


@pytest.mark.parametrize("executor", ["hero", "hero:secrets", "hero:job:1"])
def test_an_executor_has_no_queue_among_the_keys(executor):
    with pytest.raises(ConfigurationError, match="among the keys"):
        lines_of(executors=["python", executor])


def test_the_docs_show_the_lines():
    assert f"```text\n{lines_of()}```" in PAGE.read_text()


def test_a_password_is_hashed_as_redis_does():
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    assert hashed(PASSWORD) == f"#{digest}"
    with pytest.raises(ConfigurationError, match="22 characters"):
        hashed("short")
