"""The actor `job.create`: a job that a script signs by a key of the node, and submits.

A script holds no key. It names secrets that its own job lists, of which the runner made
files; whoever signed the job may have them read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from horus_celery.errors import HorusError
from workers.actors.actor import (
    BOOL,
    LIST,
    SECONDS,
    TEXT,
    Actor,
    ActorError,
    Kind,
    Wanted,
)
from workers.heroscript.names import SPACES

_KEY_SIZE: Final = 32  # bytes
_USUAL_TIMEOUT: Final = timedelta(seconds=60)


def job_actors(
    find_secrets: Callable[[], Path | None],
    client: Callable[..., Any] | None = None,
) -> Iterator[Actor]:
    """Yield the actors that reach a supervisor.

    Args:
        find_secrets: Returns the directory of the job's own secrets, if it lists any.
        client: Makes the client of a URL, a secret, a key's seed and the client's own
            options; that of Horus by default.
    """
    client = client or _client

    def create(
        key: str,
        secret: str,
        url: str,
        payload: str,
        executor: str,
        args: tuple[str, ...],
        context: str,
        caller: str,
        aud: str,
        root: bytes | None,
        timeout: timedelta,
        wait: bool,  # noqa: FBT001 - as above
    ) -> str:
        secrets = find_secrets()
        seed, api_secret = _seed_of(key, secrets), _secret(secret, secrets)
        try:
            with client(
                url,
                api_secret,
                seed,
                root=root,
                verify=root is not None,
                context=context,
                caller=caller,
                aud=aud,
            ) as horus:
                job = horus.submit(
                    payload, executor=executor, args=args, timeout=timeout
                )
                return str(horus.result(job) if wait else job.id)
        except HorusError as error:
            raise ActorError(str(error)) from None

    yield Actor(
        name="job.create",
        doc=(
            "Sign a job and submit it; the result is that of the job, or its id if"
            " `wait` is false. Needs `net: host`."
        ),
        wanted=(
            Wanted(name="key", kind=TEXT, doc="the secret with the caller's key"),
            Wanted(name="secret", kind=TEXT, doc="the secret with the API's secret"),
            Wanted(name="url", kind=TEXT, doc="where the supervisor is"),
            Wanted(name="payload", kind=TEXT, doc="the script"),
            Wanted(name="executor", kind=TEXT, doc="what runs it", default="python"),
            Wanted(name="args", kind=LIST, doc="its arguments", default=()),
            Wanted(name="context", kind=TEXT, doc="whose data", default="default"),
            Wanted(name="caller", kind=TEXT, doc="who asks", default="default"),
            Wanted(name="aud", kind=TEXT, doc="the deployment", default="hero"),
            Wanted(
                name="root",
                kind=_PUBLIC_KEY,
                doc="the root's public key; without it the supervisor is believed",
                default=None,
            ),
            Wanted(
                name="timeout",
                kind=SECONDS,
                doc="how long it may run",
                default=_USUAL_TIMEOUT,
            ),
            Wanted(name="wait", kind=BOOL, doc="for its end", default=True),
        ),
        call=create,
    )


def _client(url: str, secret: str, seed: bytes, **options: Any) -> Any:  # noqa: ANN401 - as the client takes them; and it is imported late
    try:
        # 0.3 s, and seldom needed.
        from horus_celery.client import Horus as Client  # noqa: PLC0415 - as above
        from horus_celery.statements.keys import KeyPair  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ActorError(
            f"the client of Horus cannot be imported here ({error.name}): list the"
            " directories that it is installed in as sandbox_paths"
        ) from None
    return Client(url, secret, key=KeyPair.from_seed(seed), **options)


def _seed_of(name: str, secrets: Path | None) -> bytes:
    seed = _key_bytes(_secret(name, secrets))
    if seed is None:
        raise ActorError(f"the secret {name} is no key: 64 hex digits")
    return seed


def _secret(name: str, secrets: Path | None) -> str:
    """Return what a secret of the job holds."""
    remedy = "sign the job with it in `secrets`, and with a grant that lists it"
    if secrets is None or not name or "/" in name or name.startswith("."):
        raise ActorError(f"the job has no secret {name!r}: {remedy}")
    try:
        return (secrets / name).read_text("ascii").strip(SPACES)
    except FileNotFoundError:
        raise ActorError(f"the job has no secret {name!r}: {remedy}") from None
    except (OSError, ValueError):
        raise ActorError(f"the secret {name} cannot be read as a text") from None


def _key_bytes(text: str) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return None
    return key if len(key) == _KEY_SIZE and len(text) == 2 * _KEY_SIZE else None


def _public_key(text: str) -> bytes:
    key = _key_bytes(text)
    if key is None:
        raise ValueError("a public key: 64 hex digits")
    return key


_PUBLIC_KEY: Final = Kind(name="key", read=_public_key)
