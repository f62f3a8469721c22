"""The executor `python`: a script for the Python that runs the runner."""

from __future__ import annotations

import sys
from typing import Final

#: Isolated, so that neither the environment nor the working directory adds modules;
#: unbuffered, so that lines come while the script runs.
INTERPRETER: Final = (sys.executable, "-I", "-u")
