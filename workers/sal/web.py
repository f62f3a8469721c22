"""How SAL speaks HTTP: bounded in time and size, its failures plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from workers.sal.session import SalError

if TYPE_CHECKING:
    import httpx

#: Seconds without a byte after which a server is given up.
SILENCE: Final = 30.0
#: Bytes of the largest answer of an API.
LARGEST_ANSWER: Final = 16 * 2**20


@contextmanager
def answering(
    method: str,
    url: str,
    *,
    follow: bool = False,
    silence: float = SILENCE,
    params: Mapping[str, str] | None = None,
    body: object = None,
) -> Iterator[httpx.Response]:
    """Ask a server, and have its answer while it arrives.

    Raises:
        SalError: if it cannot be reached, or speaks no HTTP.
    """
    import httpx

    given: dict[str, Any] = {} if body is None else {"json": body}
    try:
        with httpx.stream(
            *(method, url),
            follow_redirects=follow,
            timeout=silence,
            params=params,
            **given,
        ) as response:
            yield response
    except httpx.InvalidURL:
        raise SalError(f"{url} is no address of the web") from None
    except httpx.TimeoutException:
        raise SalError(f"{url} does not answer") from None
    except httpx.HTTPError as error:
        raise SalError(f"{url} cannot be reached: {error}") from None


def ask(
    method: str,
    url: str,
    *,
    silence: float = SILENCE,
    params: Mapping[str, str] | None = None,
    body: object = None,
) -> tuple[int, Any]:
    """Ask an API, and return the status with the JSON of its answer, None without any.

    Raises:
        SalError: if it cannot be reached, or answers what no API would.
    """
    with answering(method, url, silence=silence, params=params, body=body) as response:
        data = bytearray()
        for part in response.iter_bytes():
            data += part
            if len(data) > LARGEST_ANSWER:
                raise SalError(f"{url} answers with more than {LARGEST_ANSWER} bytes")
    return response.status_code, _parsed(bytes(data), url, response.status_code)


def _parsed(data: bytes, url: str, status: int) -> Any:  # noqa: ANN401 - JSON of others
    import json

    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        raise SalError(f"{url} answers {status} with what is no JSON") from None
