"""What a script sent is answered for as long as its job runs, and no longer."""

from __future__ import annotations

import threading

import pytest

from horus_celery.herodb.keyring import Keyring
from workers.herodb.backend import Answer, Backend, Login
from workers.herodb.budget import Budget
from workers.herodb.conversation import Conversation, Desk

PREFIX = b"ns:herodb:{a}:d:"


class Lister(Backend):
    """A Redis that knows names, and in which the job ends while it is asked."""

    def __init__(self, ended):
        login = Login(url="", user="", password=str)
        super().__init__(login, ended, account=Budget().open())

    def ask(self, words, *, again=False):
        self._ended.set()
        if words[0] == b"SCAN":
            return Answer(b"", [b"0", [PREFIX + b"k"]])
        return Answer(b"", [b"0", [b"k"]])


@pytest.mark.parametrize("text", ["KEYS a*", "DBSIZE", "SCAN 0 MATCH a*", "SSCAN k 0"])
def test_names_are_compared_for_nobody_when_the_job_is_over(tmp_path, text):
    ended = threading.Event()
    desk = Desk(
        context="a",
        prefix=PREFIX.removesuffix(b"d:"),
        data=PREFIX,
        keyring=Keyring(tmp_path),
        scripts={},
    )
    redis = Lister(ended)
    conversation = Conversation(desk, redis, redis, ended=ended)
    assert not conversation.is_over
    answer = conversation.answer([word.encode() for word in text.split()])
    assert answer == b"-IOERR the job is over\r\n"
    assert conversation.is_over
