"""Deployments that are attacked and broken, and what they promise meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RedisServer
from tests.faults.invariants import Callers
from tests.faults.witness import Witness
from tests.integration.conftest import Deployment, api_of, deployment

__all__ = ["api_of", "deployment"]


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for a unix socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="horus-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server():
    """A Redis of the module's own, which its tests may stop, kill and pause."""
    with short_folder() as folder:
        made = RedisServer(folder)
        made.start()
        yield made
        made.kill()


@pytest.fixture(scope="module")
def town(server):
    """A deployment on it."""
    with short_folder() as folder:
        made = Deployment(server.url, folder)
        yield made
        made.close()


@pytest.fixture(scope="module")
def callers(town, tmp_path_factory):
    """Those who send jobs to it, with a witness of their own."""
    return Callers(town, Witness(tmp_path_factory.mktemp("witness")))
