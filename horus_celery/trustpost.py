"""How a new trust bundle reaches every node: taken in, hung out on Redis, taken up.

What hangs there is believed by nobody as it is: each node checks that its own root key
signed it, that it is for this deployment, and that it is newer than what it has.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Protocol

import redis
import structlog

from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    DamagedError,
    HorusError,
    UnavailableError,
)
from horus_celery.rounds import Rounds
from horus_celery.statements import dsse
from horus_celery.statements.trust import Trust
from horus_celery.store.connection import ask
from horus_celery.store.keys import Keys

#: How often a node looks for a new bundle: within half a minute each has it.
ROUND: Final = timedelta(seconds=15)
#: More is no bundle: its body has at most `dsse.MAX_BODY` bytes.
_MAX_TEXT: Final = 2 * dsse.MAX_BODY
_logger: Final = structlog.get_logger(__name__)


class Bundles(Protocol):
    """Where a node keeps its bundle; on disk that is a `TrustFile`."""

    def envelope(self) -> str:
        """Return the bundle's envelope as JSON text.

        Raises:
            ConfigurationError: if there is none that can be believed.
        """
        ...

    def install(self, text: str | bytes, *, aud: str) -> Trust:
        """Put a newer bundle in place of the present one, and believe it from now on.

        Raises:
            RefusedError: if it is no bundle, the root did not sign it (`sig.none`), or
                it is for another deployment (`bind.aud`).
            ConflictError: if it is not newer than every one that was believed here.
            ConfigurationError: if it cannot be written.
        """
        ...


class Noticeboard(Protocol):
    """Where the newest bundle hangs out; anybody may have hung it there.

    Every method raises `UnavailableError` as `RecordStore` does.
    """

    def read(self) -> bytes | None:
        """Return what hangs there."""
        ...

    def hang(self, text: str) -> None:
        """Put this bundle in place of whatever hangs there."""
        ...

    def replace(self, found: bytes | None, text: str) -> None:
        """Put this bundle in place of what was read, if that still hangs there."""
        ...


#: Stands for what is no text at all; it is no bundle either.
_NO_TEXT: Final = b"\0"
#: What was read is compared as it was read: without what is too long of it.
_REPLACE: Final = """
local found = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[1])
if type(found) == 'table' then found = '\\0' end
if found == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[3])
end
"""


class RedisNoticeboard:
    """A `Noticeboard` on Redis: one string."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._key = Keys.of(namespace).trust

    def read(self) -> bytes | None:
        try:
            # The byte more tells what is too long, which is not read to its end.
            text: bytes = ask(self._client, "GETRANGE", self._key, 0, _MAX_TEXT)
        except DamagedError:
            # Junk like any other: else a bundle could not be hung out over it.
            return _NO_TEXT
        return text or None

    def hang(self, text: str) -> None:
        ask(self._client, "SET", self._key, text)

    def replace(self, found: bytes | None, text: str) -> None:
        was = found or b""
        ask(self._client, "EVAL", _REPLACE, 1, self._key, _MAX_TEXT, was, text)


class MemoryNoticeboard:
    """A `Noticeboard` within this process."""

    def __init__(self) -> None:
        #: Set it to see what others do when the board does not answer.
        self.is_away = False
        self.text: bytes | None = None

    def read(self) -> bytes | None:
        self._answer()
        return self.text

    def hang(self, text: str) -> None:
        self._answer()
        self.text = text.encode()

    def replace(self, found: bytes | None, text: str) -> None:
        self._answer()
        if self.text == found:
            self.text = text.encode()

    def _answer(self) -> None:
        if self.is_away:
            raise UnavailableError("the board in memory was told to be away")


class TrustPost:
    """Brings trust bundles to this node, and from it to the others."""

    def __init__(self, bundles: Bundles, board: Noticeboard, *, aud: str) -> None:
        self._bundles = bundles
        self._board = board
        self._aud = aud
        #: What was read last, so that it is judged, and told of, once.
        self._seen: bytes | None = None

    def install(self, bundle: object) -> Trust:
        """Take in a bundle that somebody brings, and hang it out for the other nodes.

        Args:
            bundle: The envelope, as parsed JSON.

        Raises:
            RefusedError: if it is no bundle, if the root did not sign it (`sig.none`),
                or if it is for another deployment (`bind.aud`).
            ConflictError: if it is not newer than what this node has believed.
            ConfigurationError: if it cannot be written here.
        """
        envelope = dsse.from_wire(bundle, dsse.TRUST)
        trust = self._bundles.install(dsse.to_json(envelope), aud=self._aud)
        _logger.info("trust bundle installed", version=trust.version)
        # If it cannot be hung out now, the next `share` does it.
        self._hang_out()
        return trust

    def adopt(self) -> bool:
        """Take up what hangs out, if it is newer and the root signed it.

        Never raises because of what hangs there, nor because nothing can be read.

        Returns:
            Whether this node believes a newer bundle now.
        """
        try:
            text = self._board.read()
        except UnavailableError:
            return False
        if text is None or text == self._seen:
            return False
        try:
            trust = self._bundles.install(text, aud=self._aud)
        except ConflictError:
            self._seen = text  # it is what this node has, or older
            return False
        except ConfigurationError as error:
            # Of this node, not of the bundle: so it is tried again.
            _logger.warning("trust bundle not taken up", detail=error.detail)
            return False
        except HorusError as error:
            self._seen = text
            _logger.warning("no trust bundle of ours in Redis", reason=error.reason)
            return False
        self._seen = text
        _logger.info("trust bundle taken up", version=trust.version)
        return True

    def share(self) -> None:
        """Hang out what this node believes, in place of what `adopt` did not take up.

        So a bundle that was signed on this node reaches the others, and one that is
        missing there, or was never one, does no harm for long.
        """
        try:
            found = self._board.read()
            ours = self._bundles.envelope()
            # What nobody here has judged may be newer than ours, and so may be what
            # was hung out since.
            if found is None or (found == self._seen and found != ours.encode()):
                self._board.replace(found, ours)
        except (ConfigurationError, UnavailableError):
            return  # whoever needs the one or the other says so

    def _hang_out(self) -> None:
        try:
            self._board.hang(self._bundles.envelope())
        except (ConfigurationError, UnavailableError) as error:
            _logger.warning("trust bundle not hung out", detail=error.detail)


class PostRounds(Rounds):
    """Takes up and hangs out bundles every few seconds until it is closed."""

    def __init__(self, post: TrustPost, *, every: timedelta = ROUND) -> None:
        super().__init__(
            self._once, name="horus-trust", every=every, begins_at_once=True
        )
        self._post = post

    def _once(self) -> None:
        self._post.adopt()
        self._post.share()
