"""SAL's functions for the overlay network Mycelium, by its daemon's HTTP API."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import quote

from workers.sal import web
from workers.sal.kinds import Seconds, WebAddress, Word
from workers.sal.session import SalError, Session
from workers.sal.table import make_module

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
#: Bytes of the longest topic.
_LONGEST_TOPIC: Final = 255
#: Seconds between two looks into the inbox: a call that waits would block the daemon
#: for everybody else on the node.
_FIRST_LOOK: Final = 0.05
_LAST_LOOK: Final = 1.0
_AT_ONCE: Final = timedelta(0)


def mycelium_get_node_info(here: Session, api_url: WebAddress) -> dict[str, object]:
    """Return the subnet, address and key of this node."""
    return _mapping(_call(here, "GET", api_url, "admin"))


def mycelium_list_peers(here: Session, api_url: WebAddress) -> list[object]:
    """Return the peers, each as a map."""
    return _list(_call(here, "GET", api_url, "admin/peers"))


def mycelium_add_peer(here: Session, api_url: WebAddress, endpoint: Word) -> None:
    """Add a peer, as in `tcp://192.0.2.1:9651`."""
    _call(here, "POST", api_url, "admin/peers", body={"endpoint": endpoint})


def mycelium_remove_peer(here: Session, api_url: WebAddress, endpoint: Word) -> None:
    """Remove a peer."""
    _call(here, "DELETE", api_url, f"admin/peers/{quote(endpoint, safe='')}")


def mycelium_list_selected_routes(here: Session, api_url: WebAddress) -> list[object]:
    """Return the routes that are used, each as a map."""
    return _list(_call(here, "GET", api_url, "admin/routes/selected"))


def mycelium_list_fallback_routes(here: Session, api_url: WebAddress) -> list[object]:
    """Return the routes that could be used instead, each as a map."""
    return _list(_call(here, "GET", api_url, "admin/routes/fallback"))


def mycelium_send_message(
    here: Session,
    api_url: WebAddress,
    destination: Word,
    topic: str,
    message: str,
    timeout: Seconds = _AT_ONCE,
) -> dict[str, object]:
    """Send a message to an address of the overlay, or to a public key.

    Returns a map with its `id`. With a timeout, wait that long for the reply, which is
    then returned as `mycelium_receive_messages` does; without one in time there is only
    the `id`.
    """
    body: dict[str, object] = {
        "dst": _destination(destination),
        "payload": _encoded(message),
    }
    if topic:
        body["topic"] = _topic(topic)
    waits = {"reply_timeout": str(round(timeout.total_seconds()))} if timeout else None
    answer = _call(
        *(here, "POST", api_url, "messages"), body=body, params=waits, wait=timeout
    )
    return _readable(answer) if "payload" in answer else _mapping(answer)


def mycelium_receive_messages(
    here: Session, api_url: WebAddress, topic: str, timeout: Seconds = _AT_ONCE
) -> list[dict[str, object]]:
    """Take the messages of a topic out of the inbox: nobody else gets them.

    With a timeout, wait that long for the first one. Each is a map with id, srcIp,
    srcPk, dstIp, dstPk, topic and payload, the last two as text; `payload_base64` is
    what was sent, byte by byte.
    """
    params = {"peek": "false", "timeout": "0"}
    if topic:
        params["topic"] = _topic(topic)
    deadline = monotonic() + timeout.total_seconds()
    look, found = _FIRST_LOOK, list[dict[str, object]]()
    while True:
        while message := _call(here, "GET", api_url, "messages", params=params):
            found.append(_readable(message))
        left = deadline - monotonic()
        if found or left <= 0:
            return found
        sleep(min(look, left))
        look = min(look * 2, _LAST_LOOK)


def _call(
    here: Session,
    method: str,
    api_url: str,
    path: str,
    *,
    body: object = None,
    params: dict[str, str] | None = None,
    wait: timedelta = _AT_ONCE,
) -> Any:  # noqa: ANN401 - JSON of others
    here.require_host()
    url = f"{api_url.rstrip('/')}/api/v1/{path}"
    silence = web.SILENCE + wait.total_seconds()
    status, answer = web.ask(method, url, body=body, params=params, silence=silence)
    if status == 408:  # noqa: PLR2004 - no reply in time
        return _mapping(answer)
    if status >= 400:  # noqa: PLR2004 - where HTTP's errors begin
        said = _FAULTS.get(status, f"status {status}")
        raise SalError(f"Mycelium refuses {method} {path}: {said}")
    return answer


#: By the status of the answer.
_FAULTS: Final = {
    400: "it was given something it does not understand",
    404: "there is no such thing",
    409: "it is there already",
}


def _destination(text: str) -> dict[str, str]:
    if _KEY.fullmatch(text):
        return {"pk": text.lower()}
    try:
        return {"ip": str(ipaddress.IPv6Address(text))}
    except ValueError:
        raise SalError(
            f"{text!r} is neither an address of the overlay nor a key of 64 hex digits"
        ) from None


def _topic(text: str) -> str:
    if len(text.encode()) > _LONGEST_TOPIC:
        raise SalError(f"a topic has at most {_LONGEST_TOPIC} bytes")
    return _encoded(text)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _readable(message: object) -> dict[str, object]:
    """Turn a message as it was received into what a script can read."""
    told = _mapping(message)
    payload = str(told.get("payload", ""))
    return {
        **told,
        "topic": _decoded(str(told.get("topic", ""))),
        "payload": _decoded(payload),
        "payload_base64": payload,
    }


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except binascii.Error:
        raise SalError("Mycelium answers with what is no base64") from None


def _mapping(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise SalError("Mycelium answers with something else than a map")
    return answer


def _list(answer: object) -> list[object]:
    if not isinstance(answer, list):
        raise SalError("Mycelium answers with something else than a list")
    return answer


MODULE: Final = make_module(
    "mycelium",
    """The overlay network Mycelium, with `net: host`.

    `api_url` is that of the node's daemon, as in `http://127.0.0.1:8989`.
    """,
    *(mycelium_get_node_info, mycelium_list_peers, mycelium_add_peer),
    *(mycelium_remove_peer, mycelium_list_selected_routes),
    *(mycelium_list_fallback_routes, mycelium_send_message),
    mycelium_receive_messages,
)
