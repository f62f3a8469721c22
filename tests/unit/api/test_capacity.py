"""As many connections as files can be open, and as many files as that takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
import resource, sys
from api.capacity import connections
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(connections(200, others=100), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def asked(soft, hard):
    """Return what fits, and both limits afterwards."""
    words = [sys.executable, "-c", ASK, str(soft), str(hard)]
    said = subprocess.check_output(words, text=True)  # noqa: S603 - our own words
    return tuple(map(int, said.split()))


@pytest.mark.parametrize(
    ("soft", "hard", "fits"),
    [
        pytest.param(128, 500, (200, 300, 500), id="more is asked for"),
        pytest.param(400, 500, (200, 400, 500), id="enough is left alone"),
        pytest.param(128, 250, (150, 250, 250), id="what may be asked for limits it"),
        pytest.param(100, 100, (64, 100, 100), id="there are some in any case"),
    ],
)
def test_connections_are_limited_by_the_files_that_may_be_open(soft, hard, fits):
    assert asked(soft, hard) == fits
