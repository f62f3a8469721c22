"""What a script says keeps its order, however soon the script is over."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

from horus_celery.clock import SystemClock
from horus_celery.store.base import Stream
from workers import capture
from workers.capture import Console, End, Watcher, follow
from workers.meter import Meter

DEADLINE = 5.0  # seconds


class Script:
    """What `follow` sees of a script; its words are the test's."""

    def __init__(self):
        self._pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(4)]
        self.stdout, self.stderr, self.reports, self.stop = (
            ours for ours, _ in self._pipes
        )
        self._ended = threading.Event()
        self.is_killed = False

    def say(self, stream, text):
        os.write(self._pipes[stream is Stream.STDERR][1], text)

    def end(self):
        self._ended.set()
        os.write(self._pipes[2][1], b".")

    def has_ended(self, *, within=timedelta(0)):
        return self._ended.wait(within.total_seconds())

    def kill(self):
        self.is_killed = True

    def close(self):
        for pipe in self._pipes:
            for end in pipe:
                os.close(end)


class Never(Meter):
    """A meter with nothing to look at."""

    def __init__(self):
        self.due = math.inf


def followed(script, hear):
    """Follow a script to its end; return how it ended and what the log gets."""
    chunks = []

    def pass_on(chunk):
        chunks.append((chunk.stream, chunk.data))
        hear(chunk.data)

    console = Console(limit=1000, clock=SystemClock(), pass_on=pass_on)
    watcher = Watcher(
        stop=script.stop,
        timeout=timedelta(seconds=DEADLINE),
        meter=Never(),
        begin=lambda: None,
    )
    return follow(script, console, watcher), chunks


def test_all_that_a_script_said_is_read_when_it_is_over():
    with closing(Script()) as script:
        script.say(Stream.STDOUT, b"one\ntwo\n")
        script.end()
        end, chunks = followed(script, hear=lambda _: None)
        assert script.is_killed
    assert end is End.BY_ITSELF
    assert chunks == [(Stream.STDOUT, b"one\n"), (Stream.STDOUT, b"two\n")]


def test_an_error_keeps_its_place_among_the_words_of_a_short_script(monkeypatch):
    # However long it waits for the end: it does not wait to hear of an error.
    monkeypatch.setattr(capture, "_AT_ONCE", timedelta(seconds=2 * DEADLINE))
    is_heard = threading.Event()

    def speak(script):
        script.say(Stream.STDOUT, b"before\n")
        script.say(Stream.STDERR, b"error\n")
        is_heard.wait(DEADLINE)
        script.say(Stream.STDOUT, b"after\n")
        script.end()

    def hear(data):
        if data == b"error\n":
            is_heard.set()

    with closing(Script()) as script, ThreadPoolExecutor(1) as speaker:
        speaker.submit(speak, script)
        end, chunks = followed(script, hear)
    assert end is End.BY_ITSELF
    assert chunks == [
        (Stream.STDOUT, b"before\n"),
        (Stream.STDERR, b"error\n"),
        (Stream.STDOUT, b"after\n"),
    ]
