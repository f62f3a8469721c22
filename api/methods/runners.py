"""The methods about runners: who there is, and those that this supervisor manages."""

from __future__ import annotations

from api.methods.values import (
    RegistrationEnvelope,
    RunnerLines,
    RunnerName,
    RunnerObject,
    runner_to_wire,
)
from api.session import Session


def register(session: Session, registration: RegistrationEnvelope) -> RunnerObject:
    """Announce a runner by what it says of itself, signed with its own key.

    The trust bundle must list the runner with that key. Each registration needs a
    nonce of its own. A runner that is heard already stays as it is.
    """
    return runner_to_wire(session.runners.register(registration))


def list_all(session: Session) -> list[RunnerObject]:
    """Return every runner that was heard or that this supervisor manages, by name."""
    return [runner_to_wire(view) for view in session.runners.list()]


def status(session: Session, name: RunnerName) -> RunnerObject:
    """Return a runner and how it does."""
    return runner_to_wire(session.runners.get(name))


def start(session: Session, name: RunnerName) -> RunnerObject:
    """Start a runner that this supervisor manages; one that was removed is back."""
    return runner_to_wire(session.runners.start(name))


def stop(session: Session, name: RunnerName) -> RunnerObject:
    """Stop a runner that this supervisor manages.

    It takes nothing new, finishes what it runs within its `stop_timeout`, and has
    ended when the answer comes.
    """
    return runner_to_wire(session.runners.stop(name))


def remove(session: Session, name: RunnerName) -> RunnerObject:
    """Take a runner off the list; one that this supervisor manages is stopped first.

    It is back as soon as it is started again, or heard.
    """
    return runner_to_wire(session.runners.remove(name))


def logs(session: Session, name: RunnerName, lines: RunnerLines = 200) -> list[str]:
    """Return the last lines that a runner that this supervisor manages wrote."""
    return list(session.runners.logs(name, lines=lines))
