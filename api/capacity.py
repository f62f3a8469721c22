"""How many connections there may be, by the files that this process may have open."""

from __future__ import annotations

import resource
from typing import Final

#: So many there are in any case; a machine that allows no files for them is told so
#: by what then fails.
FEWEST: Final = 64


def connections(most: int, *, others: int) -> int:
    """Return how many fit, once as many files as that takes may be open.

    A shell allows 1,024 files unless somebody asks for more, which everybody may.

    Args:
        most: The most that are of use.
        others: Files besides those of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return most
    return max(FEWEST, min(most, soft - others))
