"""Scripts of SAL on real servers."""

from __future__ import annotations

from typing import Any

import pytest

from workers import sal
from workers.sal import Net, Session


@pytest.fixture
def script():
    """Call functions as a script with `net: host` does."""
    session = Session(net=Net.HOST)

    def call(name: str, *args: object) -> Any:
        return sal.call(session, name, args)

    call.session = session  # type: ignore[attr-defined]
    return call
