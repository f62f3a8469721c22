"""The state directory: what lies where, how it is made, how it is kept valid."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from horus_celery.bundle import (
    Body,
    NewRunner,
    default_grant,
    with_grant,
    with_runners,
    without,
)
from horus_celery.errors import ConfigurationError, HorusError, RefusedError
from horus_celery.instants import to_ms
from horus_celery.journal import Journal
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import (
    KeyPair,
    key_id,
    read_key_file,
    read_public_key_file,
    write_key_file,
    write_public_key_file,
)
from horus_celery.statements.trust import Trust, read_trust

SCOPES: Final = ("admin", "user", "register")
#: How long a trust bundle that we sign is valid.
TRUST_LIFETIME: Final = timedelta(days=90)
#: With less than this left, a bundle is signed again where the root key lies.
TRUST_RENEWAL: Final = timedelta(days=30)
#: By how much two clocks may differ (protocol section 3).
CLOCK_SKEW: Final = timedelta(minutes=5)
#: A unix socket's path has 107 bytes at most; servers add a few of their own.
MAX_SOCKET_PATH: Final = 100
#: What mends a secret that is none.
_REMEDY: Final = "remove it to have a new one made by `horus init`"
#: Bytes that are read of a secret, and of a bundle's envelope.
_MAX_SECRET: Final = 4096
_MAX_BUNDLE: Final = 2 * dsse.MAX_BODY
_FOLDERS: Final = ("keys", "runners", "secrets", "redis", "logs", "run")
_FILES: Final = ("root.key", "root.pub", "trust.json", "journal.db", "horus.toml")


def runner_name(executor: str) -> str:
    """Return the name of the runner that `horus up` starts for an executor."""
    return f"{executor}_runner_1"


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """A state directory by its path; nothing is read or made before it is asked for."""

    path: Path

    @property
    def root_key(self) -> Path:
        """The root's private key; a node of many may be without it."""
        return self.path / "root.key"

    @property
    def root_pub(self) -> Path:
        """The pinned public key of the root."""
        return self.path / "root.pub"

    @property
    def trust_file(self) -> Path:
        """The trust bundle."""
        return self.path / "trust.json"

    @property
    def journal(self) -> Path:
        """The journal that the runners of this node share."""
        return self.path / "journal.db"

    @property
    def redis(self) -> Path:
        """The folder of our own Redis."""
        return self.path / "redis"

    @property
    def redis_socket(self) -> Path:
        """Where our own Redis listens."""
        return self.path / "run" / "redis.sock"

    @property
    def run(self) -> Path:
        """Locks, sockets and what else means nothing once all has ended."""
        return self.path / "run"

    @property
    def rooms(self) -> Path:
        """Where running jobs have their private directories."""
        return self.path / "run" / "rooms"

    @property
    def logs(self) -> Path:
        """One log file per program."""
        return self.path / "logs"

    @property
    def keys(self) -> Path:
        """The callers' keys."""
        return self.path / "keys"

    def key_file(self, name: str) -> Path:
        """Return where the caller's key of that name lies."""
        return self.keys / f"{name}.key"

    def runner_key_file(self, name: str) -> Path:
        """Return where the key of the runner of that name lies."""
        return self.path / "runners" / f"{name}.key"

    def secret_file(self, scope: str) -> Path:
        """Return where the secret of that scope lies."""
        return self.path / "secrets" / scope

    # --- read ----------------------------------------------------------------

    def secret(self, scope: str) -> str:
        """Return the secret of a scope.

        Raises:
            ConfigurationError: if it cannot be read, or by others, too.
        """
        path = self.secret_file(scope)
        if not _is_named(path):
            raise ConfigurationError(f"{path} is missing: `horus init` makes it")
        _require_private(path)
        text = _read(path, limit=_MAX_SECRET, remedy=_REMEDY).strip()
        if not (text.isascii() and text.isprintable() and " " not in text and text):
            what = "holds no secret in printable ASCII" if text else "is empty"
            raise ConfigurationError(f"{path} {what}: {_REMEDY}")
        return text

    def root_public(self) -> bytes:
        """Return the pinned root key."""
        return read_public_key_file(self.root_pub)

    def trust(self) -> Trust:
        """Return the trust bundle, signed by the pinned root key; it may be expired.

        Raises:
            ConfigurationError: if there is none, or it cannot be believed.
        """
        text = self._trust_text()
        try:
            return read_trust(text, self.root_public())
        except RefusedError as refusal:
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} cannot be believed"
                f" ({refusal.reason}): {refusal}; put the right one there"
            ) from None

    def is_made(self) -> bool:
        """Whether somebody has made a state directory here."""
        return _exists(self.root_pub) and _exists(self.trust_file)

    def has_root(self) -> bool:
        """Whether it is known here which root key to believe."""
        return _exists(self.root_pub)

    def has_root_key(self) -> bool:
        """Whether trust can be changed here."""
        return _exists(self.root_key)

    def has_key(self, name: str) -> bool:
        """Whether the caller's key of that name is here."""
        return _is_named(self.key_file(name))

    def is_begun(self) -> bool:
        """Whether somebody has put keys here: a client needs no more than those."""
        return _exists(self.root_pub) or _exists(self.keys)

    def is_there(self) -> bool:
        """Whether there is anything at its path."""
        return _exists(self.path)

    # --- check ---------------------------------------------------------------

    def check_place(self) -> None:
        """See that this can be, or become, a state directory; nothing is made.

        Raises:
            ConfigurationError: saying why it cannot, and what to do.
        """
        socket = len(os.fsencode(self.redis_socket))
        if socket > MAX_SOCKET_PATH:
            raise ConfigurationError(
                f"the state directory's path is too long for a unix socket in it by"
                f" {socket - MAX_SOCKET_PATH} bytes: choose a shorter one with"
                f" --state-dir ({self.path})"
            )
        if _exists(self.path):
            self._check_folder()
        elif self.path.is_symlink():
            raise ConfigurationError(
                f"the state directory {self.path} is a link to what is not there:"
                " make that, or choose another with --state-dir"
            )
        else:
            above = next(filter(_exists, self.path.parents))
            if not above.is_dir():
                raise ConfigurationError(
                    f"the state directory {self.path} cannot be made: {above} is no"
                    " directory; choose another with --state-dir"
                )

    def faults(self, executors: Sequence[str]) -> Iterator[str]:
        """Say of every file that is here and cannot be used what is wrong with it.

        What is not here and can be made is no fault. Each names its remedy.
        """
        yield from self._faults_of_the_root()
        for scope in SCOPES:
            if _is_named(self.secret_file(scope)):
                yield from _faults(partial(self.secret, scope))
        for path in sorted(self.keys.glob("*.key")):
            yield from _faults_of_a_key(path, "restore it from a backup, or remove it")
        trust = self._readable_trust()
        yield from self._faults_of_the_runners(trust, executors)
        yield from self._faults_of_the_bundle()

    def _faults_of_the_root(self) -> Iterator[str]:
        has_trust = _exists(self.trust_file)
        has_pub = _is_named(self.root_pub)
        if self.has_root_key():
            remedy = (
                "restore it from a backup"
                if has_pub or has_trust
                else "remove it to have a new one made"
            )
            broken = list(_faults_of_a_key(self.root_key, remedy))
            yield from broken
            if has_pub and not broken:
                yield from _faults(self._require_a_pair)
        elif not has_trust and has_pub:
            yield (
                f"there is no trust bundle {self.trust_file}, and {self.root_key} that"
                " signs one is not here: bring the trust.json from where it is kept"
            )
        elif has_trust and not has_pub:
            yield f"{self.root_pub} is missing: put the root's public key there"
        elif has_pub:
            yield from (
                f"{fault}; restore it from a backup"
                for fault in _faults(self.root_public)
            )

    def _require_a_pair(self) -> None:
        public = read_key_file(self.root_key).public
        try:
            pinned = self.root_public()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error.detail}; remove it to have it made from {self.root_key}"
            ) from None
        if public != pinned:
            raise ConfigurationError(
                f"{self.root_key} does not belong to {self.root_pub}: put the pair back"
            )

    def _readable_trust(self) -> Trust | None:
        with suppress(ConfigurationError):
            return self.trust()
        return None

    def _faults_of_the_runners(
        self, trust: Trust | None, executors: Sequence[str]
    ) -> Iterator[str]:
        listed = {} if trust is None else {one.name: one.key for one in trust.runners}
        wanted = [self.runner_key_file(runner_name(executor)) for executor in executors]
        found = self.path.glob("runners/*.key")
        for path in sorted({*wanted, *found}):
            name = path.stem
            revoke = f"`horus trust revoke {name}` to have a new key made"
            remedy = (
                f"restore it from a backup, or {revoke} at the next start"
                if name in listed or trust is None
                else "remove it to have a new one made"
            )
            if _is_named(path):
                broken = list(_faults_of_a_key(path, remedy))
                yield from broken
                if broken or path not in wanted:
                    continue
                if name in listed and listed[name] != read_key_file(path).keyid:
                    yield (
                        f"{path} is not the key that the trust bundle lists for {name}:"
                        f" put the right one there, or {revoke} at the next start"
                    )
            elif name in listed:
                yield (
                    f"{path} is missing, though the trust bundle knows this runner:"
                    f" put it back, or {revoke} at the next start"
                )
            if trust and name not in listed and not self.has_root_key():
                yield (
                    f"the trust bundle does not know the runner {name}, and"
                    f" {self.root_key} that signs one which does is not here: `horus"
                    f" init` where it is kept, and bring trust.json and {name}.key here"
                )

    def _faults_of_the_bundle(self) -> Iterator[str]:
        if _is_named(self.trust_file) and _exists(self.root_pub):
            yield from _faults(self._require_newest)
        elif _exists(self.journal):
            yield from _faults(self._remembered_version)

    def _require_newest(self) -> None:
        version, remembered = self.trust().version, self._remembered_version()
        if version < remembered:
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} has version {version}, but this"
                f" node has already believed version {remembered}: install that one or"
                " a newer one"
            )

    # --- make ----------------------------------------------------------------

    def initialise(
        self, *, namespace: str, executors: Sequence[str], now: datetime
    ) -> tuple[str, ...]:
        """Make what is missing, keep what is there, and return what was done.

        Two at once are one after the other. A trust bundle that lacks one of the
        runners or soon expires is signed again, where the root key lies.

        Raises:
            ConfigurationError: if the directory cannot be made, is somebody else's, or
                holds what cannot be used: it names the file and what to do.
        """
        self.make_folders()
        with self.locked():
            for fault in self.faults(executors):
                raise ConfigurationError(fault)
            notes = self._make_root()
            self._require_fitting_trust(namespace, now)
            notes += self._make_secrets()
            notes += self._make_runner_keys(executors)
            notes += self._make_trust(namespace, executors, now)
        return tuple(notes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who changes keys and trust.

        Raises:
            ConfigurationError: if there is nothing to change, or no right to.
        """
        path = self.run / "changes.lock"
        try:
            file = path.open("ab")
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {path}: {_words(error)}; `horus init` makes what is"
                " missing"
            ) from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def reissue(self, change: Callable[[Body], Body], *, now: datetime) -> Trust:
        """Change the trust bundle's body and sign it as the next version.

        Raises:
            ConfigurationError: if the root key is not here, or what came of the
                change is no trust bundle.
        """
        with self.locked():
            return self._reissue(change, now=now)

    def revoke(self, name: str, *, now: datetime) -> Trust:
        """Take a key (by its id) or a runner (by its name) out of the trust bundle.

        A runner's key file is put aside, so that the next start does not list it again.

        Raises:
            ConfigurationError: if the bundle knows neither, or the root key is away.
        """
        with self.locked():
            before = self.trust()
            after = self._reissue(lambda body: without(body, name), now=now)
            gone = {one.name: one.key for one in before.runners} | {
                one.name: "" for one in after.runners
            }
            for runner, keyid in gone.items():
                path = self.runner_key_file(runner)
                if keyid and _is_named(path):
                    path.replace(path.with_name(f"{runner}.revoked-{keyid}"))
            return after

    def trust_body(self) -> Body:
        """Return the body of the trust bundle, as it is on the wire."""
        return self.trust().to_wire()

    def make_folders(self) -> None:
        """Make the directory with its folders; one that is there stays as it is.

        Raises:
            ConfigurationError: if it cannot be made, or is somebody else's.
        """
        self.check_place()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.listdir(self.path):  # noqa: PTH208 - only the names matter
                # Only an empty one has its mode mended: others may use another.
                self.path.chmod(0o700)
            for name in _FOLDERS:
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the state directory {self.path}:"
                f" {_words(error)}; choose another with --state-dir"
            ) from None
        if not os.access(self.path, os.W_OK) or not os.access(self.run, os.W_OK):
            raise ConfigurationError(
                f"the state directory {self.path} is not writable for this user:"
                " mend its owner, or choose another with --state-dir"
            )

    # --- steps, each idempotent and under the lock ------------------------------

    def _check_folder(self) -> None:
        """See that the directory is for this user alone, and for nothing else."""
        for path in (self.path, *(self.path / name for name in _FOLDERS)):
            if _is_named(path) and not path.is_dir():
                raise ConfigurationError(
                    f"{path} is no directory: remove it, or choose another state"
                    " directory with --state-dir"
                )
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the state directory {self.path} belongs to another user:"
                " choose another with --state-dir"
            )
        try:
            names = set(os.listdir(self.path))  # noqa: PTH208 - only the names matter
        except OSError as error:
            raise ConfigurationError(
                f"cannot look into the state directory {self.path}: {_words(error)};"
                " mend its mode, or choose another with --state-dir"
            ) from None
        if not _exists(self.root_pub) and names - {*_FOLDERS, *_FILES}:
            raise ConfigurationError(
                f"{self.path} holds other things and is no state directory of Horus:"
                " choose an empty or new one with --state-dir"
            )
        if names and stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigurationError(
                f"others may look into the state directory {self.path}:"
                f" chmod 700 {shlex.quote(str(self.path))}"
            )

    def _make_root(self) -> list[str]:
        if _exists(self.root_pub):
            return []
        notes = []
        if not self.has_root_key():
            write_key_file(self.root_key, KeyPair.generate())
            notes = [f"made the root key {self.root_key}"]
        write_public_key_file(self.root_pub, read_key_file(self.root_key).public)
        return notes

    def _make_secrets(self) -> list[str]:
        notes = []
        for scope in SCOPES:
            path = self.secret_file(scope)
            if not _exists(path):
                text = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
                _write(path, f"{text.rstrip('=')}\n")
                notes.append(f"made the {scope} secret {path}")
        return notes

    def _make_runner_keys(self, executors: Sequence[str]) -> list[str]:
        notes = []
        for name in map(runner_name, executors):
            path = self.runner_key_file(name)
            if _exists(path):
                continue
            write_key_file(path, KeyPair.generate())
            notes.append(f"made the runner key {path}")
        return notes

    def _make_trust(
        self, namespace: str, executors: Sequence[str], now: datetime
    ) -> list[str]:
        if not _exists(self.trust_file):
            return self._make_first_trust(namespace, executors, now)
        body = self.trust_body()
        missing = self._unlisted(body, executors)
        ends = self.trust().expires_at
        if missing:
            self._reissue(lambda body: with_runners(body, missing), now=now)
            return [f"added {', '.join(missing)} to the trust bundle"]
        if ends - now >= TRUST_RENEWAL:
            return []
        if self.has_root_key():
            trust = self._reissue(lambda body: body, now=now)
            renewed = (
                f"signed the trust bundle again (it would have ended on"
                f" {ends:%Y-%m-%d}): version {trust.version}, until"
                f" {trust.expires_at:%Y-%m-%d}"
            )
            return [renewed]
        warning = (
            f"the trust bundle ends on {ends:%Y-%m-%d}: where the root key lies, run"
            " `horus trust renew`, and bring its trust.json here"
        )
        return [warning]

    def _require_fitting_trust(self, namespace: str, now: datetime) -> None:
        """See that the bundle, if there is one, is for this deployment and now."""
        if not _exists(self.trust_file):
            return
        trust = self.trust()
        if trust.aud != namespace:
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} is for the namespace {trust.aud},"
                f" the settings say {namespace}: set namespace = {trust.aud!r},"
                " or choose another --state-dir"
            )
        if trust.issued_at > now + CLOCK_SKEW:
            raise ConfigurationError(
                f"the clock is wrong: it says {now:%Y-%m-%d %H:%M} UTC, and the trust"
                f" bundle was signed at {trust.issued_at:%Y-%m-%d %H:%M} UTC: set the"
                " clock, or `horus trust renew` if the clock is right"
            )
        ends = trust.expires_at
        if ends <= now and not self.has_root_key():
            raise ConfigurationError(
                f"the trust bundle {self.trust_file} expired on {ends:%Y-%m-%d}, so"
                " every job would be refused: where the root key lies, run `horus trust"
                " renew`, and bring its trust.json here"
            )

    def _make_first_trust(
        self, namespace: str, executors: Sequence[str], now: datetime
    ) -> list[str]:
        default = self.key_file("default")
        notes = []
        if not _exists(default):
            write_key_file(default, KeyPair.generate())
            notes.append(f"made the default caller's key {default}")
        body: Body = {
            "v": 1,
            "aud": namespace,
            # Nodes refuse a version older than one they know: a journal that outlived
            # its bundle remembers which that was.
            "version": self._remembered_version(),
            "keys": {},
            "grants": [],
            "runners": [],
        }
        public = read_key_file(default).public
        body = with_grant(body, default_grant(key_id(public)), keys=[public])
        body = with_runners(body, self._unlisted(body, executors))
        self._sign_trust(body, now=now)
        return [*notes, f"signed the trust bundle {self.trust_file}"]

    def _remembered_version(self) -> int:
        if not _exists(self.journal):
            return 0
        with closing(Journal(self.journal)) as journal:
            return journal.highest_trust_version()

    def _unlisted(self, body: Body, executors: Sequence[str]) -> dict[str, NewRunner]:
        """Return the runners of these executors that the bundle does not list."""
        listed = {runner["name"] for runner in body["runners"]}
        return {
            name: NewRunner(
                executor=executor,
                public=read_key_file(self.runner_key_file(name)).public,
            )
            for executor in executors
            if (name := runner_name(executor)) not in listed
        }

    def _reissue(self, change: Callable[[Body], Body], *, now: datetime) -> Trust:
        return self._sign_trust(change(self.trust_body()), now=now)

    def _sign_trust(self, body: Body, *, now: datetime) -> Trust:
        if not self.has_root_key():
            raise ConfigurationError(
                f"a trust bundle is signed with {self.root_key}, which is not here:"
                " do this where it is kept, and bring the new trust.json here"
            )
        self._require_a_pair()
        root = read_key_file(self.root_key)
        body = {
            **body,
            "version": body["version"] + 1,
            "issued_at": to_ms(now),
            "expires_at": to_ms(now + TRUST_LIFETIME),
        }
        try:
            envelope = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
            text = dsse.to_json(envelope)
            trust = read_trust(text, root.public)
        except RefusedError as refusal:
            raise ConfigurationError(
                f"this cannot stand in a trust bundle: {refusal}"
            ) from None
        _write(self.trust_file, f"{text}\n", replace=True)
        return trust

    def _trust_text(self) -> str:
        if not _is_named(self.trust_file):
            raise ConfigurationError(
                f"there is no trust bundle {self.trust_file}: `horus init` makes one"
            )
        return _read(
            self.trust_file, limit=_MAX_BUNDLE, remedy="restore it from a backup"
        )


# --- files -------------------------------------------------------------------


def _exists(path: Path) -> bool:
    """Whether there is something under this name, through links.

    Raises:
        ConfigurationError: if that cannot be told.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigurationError(f"cannot look at {path}: {_words(error)}") from None
    return True


def _is_named(path: Path) -> bool:
    """Whether something has this name, be it a link to what is not there."""
    return _exists(path) or path.is_symlink()


def _faults(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except HorusError as error:
        yield error.detail


def _faults_of_a_key(path: Path, remedy: str) -> Iterator[str]:
    try:
        _require_private(path)
    except ConfigurationError as error:
        yield error.detail
        return
    yield from (f"{fault}; {remedy}" for fault in _faults(partial(read_key_file, path)))


def _require_private(path: Path) -> None:
    if _exists(path) and path.is_file() and path.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"others may read {path}: chmod 600 {shlex.quote(str(path))}"
        )


def _read(path: Path, *, limit: int, remedy: str) -> str:
    """Return the text of a file; what is none is told with the remedy."""
    try:
        # Looked at first, so that a pipe under this name does not hold us up.
        is_file = stat.S_ISREG(path.stat().st_mode)
        with (path if is_file else Path(os.devnull)).open("rb") as file:
            raw = file.read(limit + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {path}: {_words(error)}; {remedy}"
        ) from None
    if not is_file or len(raw) > limit:
        what = f"is larger than {limit} bytes" if is_file else "is not a file"
        raise ConfigurationError(f"{path} {what}: {remedy}")
    return text


def _write(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a private file whole or not at all, and so that it survives a power cut."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {_words(error)}") from None
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _words(error: Exception) -> str:
    """Say what the system said, without a path or content in it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "it is no text"
