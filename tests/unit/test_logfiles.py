"""supervisord goes on, and its programs with it, when a log cannot be written."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import contextmanager, suppress

import pytest
from supervisor import loggers

from horus_celery.processes import logfiles
from horus_celery.processes.logfiles import LogFile

SMALL = 20


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log as supervisord makes it for a program."""
    monkeypatch.setattr(loggers, "RotatingFileHandler", loggers.RotatingFileHandler)
    logfiles.put_in_place()
    logger = loggers.getLogger(loggers.LevelsByName.INFO)
    loggers.handle_file(
        logger,
        filename=str(tmp_path / "api.log"),
        fmt="%(message)s",
        rotating=True,
        maxbytes=SMALL,
        backups=1,
    )
    yield logger
    for handler in logger.handlers:
        with suppress(OSError):
            handler.close()


@contextmanager
def full_disk():
    """Let no file of this process grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_supervisord_makes_its_logs_of_our_kind(log):
    assert [type(handler) for handler in log.handlers] == [LogFile]


def test_a_full_disk_is_told_once_for_each_time_and_the_log_goes_on(
    log, tmp_path, capsys
):
    said = []
    for time in ("1", "2"):
        with full_disk():
            log.info(f"lost {time}\n".encode())
            log.info(f"more {time}\n".encode())
        log.info(b"room\n")
        log.info(b"room\n")
        said += capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert f"{tmp_path}/api.log cannot be written (File too large)" in said[0]
    assert (tmp_path / "api.log.1").read_text().endswith("room\n")


def test_who_cannot_be_told_of_it_ends_nothing(log, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    gone = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", gone)
    with full_disk():
        log.info(b"lost\n")
    with suppress(BrokenPipeError):
        gone.close()


def test_a_log_that_cannot_be_put_aside_grows_until_it_can(log, tmp_path, capsys):
    in_the_way = tmp_path / "api.log.1"
    in_the_way.mkdir()
    for number in range(4):
        line = b"%s%d" % (b"x" * SMALL, number)
        log.info(line)
    assert (tmp_path / "api.log").read_text().endswith("x3")
    assert capsys.readouterr().err.count("\n") == 1
    in_the_way.rmdir()
    log.info(b"y")
    log.info(b"z")
    assert in_the_way.read_text().endswith("x3y")
    assert (tmp_path / "api.log").read_text() == "z"
