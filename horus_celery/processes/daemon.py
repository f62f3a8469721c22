"""The process that is supervisord, and that ends what its programs leave behind.

`horus up` ends their leftovers itself; this is for the case that it was killed.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from supervisor import supervisord

from horus_celery.processes import logfiles, tmux, tree, watched


def main(configuration: str) -> None:
    """Run supervisord with this configuration file until it is told to end."""
    tree.become_subreaper()
    watched.put_in_place()
    logfiles.put_in_place()
    try:
        supervisord.main(["-c", configuration])
    finally:
        tree.kill_descendants(within=timedelta(seconds=2), but=tmux.servers())


if __name__ == "__main__":
    main(sys.argv[1])
