"""`docs/api.md` is what `rpc.discover` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


def test_the_page_is_the_one_that_the_command_writes():
    written = subprocess.run(
        [sys.executable, "-m", "api.reference"],
        cwd=PAGE.parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert PAGE.read_text() == written, "python -m api.reference > docs/api.md"
