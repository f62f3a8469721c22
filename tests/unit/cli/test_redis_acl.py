from __future__ import annotations

import pytest

from horus_celery.redis_acl import hashed, user_lines

PASSWORD = "a-password-that-nobody-guesses"  # noqa: S105 - opens nothing


def test_it_prints_the_users_of_the_settings(horus, tmp_path):
    (tmp_path / "horus.toml").write_text(
        'namespace = "acme"\nredis_url = "redis://h/3"\nexecutors = ["python"]\n'
        '[[actors]]\nid = "one"\nexecutor = "osis"\n'
        '[[actors]]\nid = "two"\nexecutor = "python"\n'
    )
    executors = ("python", "osis")
    told = horus("redis-acl")
    assert told.code == 0
    assert told.out == user_lines(
        namespace="acme", executors=executors, database=3, passwords={}
    )


def test_it_prints_the_users_that_it_is_told_of(horus):
    told = horus("redis-acl", "--namespace", "a", "--executors", "x,y", "--database", 1)
    assert told.out == user_lines(
        namespace="a", executors=("x", "y"), database=1, passwords={}
    )


def test_of_a_password_only_its_hash_is_printed(horus, tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    told = horus("redis-acl", "--password", f"runner={path}")
    assert f"user runner reset on {hashed(PASSWORD)} " in told.out
    assert PASSWORD not in told.out + told.err
    assert told.out.count("SHA256-OF") == 5


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("runner", None, "takes USER=FILE"),
        ("default={}", PASSWORD, "takes USER=FILE"),
        ("runner={}", None, "cannot read"),
        ("runner={}", "", "one line"),
        ("runner={}", f"{PASSWORD}\n{PASSWORD}\n", "one line"),
        ("runner={}", "a" * 5000, "one line"),
        ("runner={}", "short", "22 characters"),
    ],
)
def test_a_password_that_cannot_be_used_is_told_and_not_shown(
    horus, tmp_path, option, content, said
):
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    told = horus("redis-acl", "--password", option.format(path))
    assert (told.code, told.out) == (1, "")
    assert said in told.err
    assert not content or content not in told.err


@pytest.mark.parametrize(
    "option",
    [("--namespace", "a b"), ("--namespace", "*"), ("--executors", "python,~*")],
)
def test_no_name_gets_into_a_line_that_is_none(horus, option):
    told = horus("redis-acl", *option)
    assert (told.code, told.out) == (1, "")
    assert "must be" in told.err
