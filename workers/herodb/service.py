"""HeroDB for the jobs of a runner: which of them has it, and as whom it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from horus_celery import wiring
from horus_celery.clock import Clock, SystemClock
from horus_celery.herodb import layout
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.scripts import Script
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory
from horus_celery.store.address import read_address
from workers.herodb.backend import PATIENCE, Backend, Login
from workers.herodb.budget import Budget
from workers.herodb.conversation import Conversation, Desk
from workers.herodb.front import Talk, front


def make_herodb(
    settings: Settings,
    *,
    scripts: Mapping[str, Script],
    clock: Clock | None = None,
) -> HeroDb:
    """Return what serves the jobs of a runner; nothing is connected before it is used.

    Args:
        settings: What the deployment chose.
        scripts: Those that `OSIS` runs, by name.
        clock: Tells the time; the machine's clock by default.

    Raises:
        ConfigurationError: if its secret cannot be read.
    """
    url = wiring.herodb_url(settings)
    return HeroDb(
        url=url,
        database=read_address(url).database,
        layout=Layout(namespace=settings.namespace),
        master=StateDirectory(settings.state_dir).herodb_master(),
        keyring=wiring.make_keyring(settings),
        clock=clock or SystemClock(),
        scripts=scripts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeroDb:
    """What is needed to serve jobs, of whatever context."""

    #: Where the Redis is; a login in it is not used.
    url: str
    database: int
    layout: Layout
    master: bytes
    keyring: Keyring
    clock: Clock
    #: Those that `OSIS` runs, by name.
    scripts: Mapping[str, Script]
    #: How long a script waits for a Redis that does not let us in.
    patience: timedelta = PATIENCE

    @contextmanager
    def serving(
        self, context: str, name: str, folder: int, *, owner: int | None
    ) -> Iterator[None]:
        """Serve one job until the block ends.

        Args:
            context: The context that it works in.
            name: What its socket is called.
            folder: A descriptor of the folder that it is in.
            owner: The user that its script is, if that is not this process's own.

        Raises:
            OSError: if there can be no socket.
        """
        desk = Desk(
            context=context,
            prefix=self.layout.prefix(context).encode(),
            data=self.layout.data(context).encode(),
            keyring=self.keyring,
            scripts=self.scripts,
        )
        budget = Budget()
        begin = partial(self._begin, desk, budget)
        with front(name, folder, owner=owner, begin=begin):
            yield

    def _begin(self, desk: Desk, budget: Budget, ended: threading.Event) -> Talk:
        backend, lister = (
            Backend(
                self._login(user),
                ended,
                account=budget.open(),
                patience=self.patience,
            )
            for user in (self.layout.jobs_user(desk.context), self.layout.lister)
        )

        def interrupt() -> None:
            backend.interrupt()
            lister.interrupt()

        def close() -> None:
            backend.close()
            lister.close()

        return Talk(
            conversation=Conversation(desk, backend, lister, ended=ended),
            requests=budget.open(),
            answers=budget.open(),
            interrupt=interrupt,
            close=close,
        )

    def _login(self, user: str) -> Login:
        def password() -> str:
            generation = layout.generation_at(self.clock.now())
            return layout.password(self.master, user, generation)

        return Login(url=self.url, user=user, password=password, database=self.database)
