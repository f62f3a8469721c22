"""Runs a script by a host in a process of its own: `HOST SCRIPT ARGS`.

For where something else than a zygote keeps scripts apart.
"""

from __future__ import annotations

import importlib
import sys


def main() -> int:
    """Return the exit code of the script that the command line names."""
    _, name, path, *args = sys.argv
    sys.argv = [path, *args]
    host = importlib.import_module(name)
    return int(host.run(path, args))


if __name__ == "__main__":
    sys.exit(main())
