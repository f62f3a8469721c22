"""The executor `system`: a script for bash."""

from __future__ import annotations

import shutil
from typing import Final

from workers.launch import SYSTEM_PATH

#: Looked up where scripts look up their commands; the plain name if it is not there,
#: so that a job says what is missing.
INTERPRETER: Final = (shutil.which("bash", path=SYSTEM_PATH) or "bash",)
