"""The executor `python`: a script for the Python that runs the runner.

It is run as `python -I -u` would: neither the environment nor the working directory
adds modules, and lines come while the script runs.
"""

from __future__ import annotations

from typing import Final

#: None: the zygote is one already, and needs no other program.
INTERPRETER: Final = None
