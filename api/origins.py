"""By which names the API may be called, and from the pages of which origins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: How long a browser may remember that an origin is allowed, in seconds.
MAX_AGE: Final = 600

#: What a browser is told that asks beforehand.
PREFLIGHT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Access-Control-Max-Age": str(MAX_AGE),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The names under which a server may be called.

    A page of a foreign site that points its own name at our address is refused by
    its name.
    """

    names: frozenset[str] = LOOPBACK_HOSTS
    #: Whether any address will do: nobody can point an address at us.
    has_every_address: bool = False

    @classmethod
    def of(cls, bind_address: str, allowed: Iterable[str] = ()) -> Hosts:
        """Return the names of a server.

        Args:
            bind_address: Where it listens. If that is every address of the machine, it
                may be called by each of them.
            allowed: Further names, without a port.
        """
        names = LOOPBACK_HOSTS | {_plain(name) for name in allowed}
        address = _address(bind_address)
        if address is None:
            return cls(names=names | {_plain(bind_address)})
        return cls(
            names=names | {str(address)}, has_every_address=address.is_unspecified
        )

    def has(self, header: str | None) -> bool:
        """Say whether a `Host` header, with or without a port, names this server."""
        name, colon, port = (header or "").rpartition(":")
        if not colon or not port.isdecimal():
            name = header or ""
        if name.lower() in self.names or _plain(name) in self.names:
            return True
        return self.has_every_address and _address(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """The origins whose pages may call the API from a browser: by default, none."""

    #: As browsers write them, such as `https://example.org`.
    allowed: frozenset[str] = frozenset()

    def may_call(self, origin: str | None, *, scheme: str, host: str | None) -> bool:
        """Say whether a page may call: programs have no origin, our own page ours.

        Args:
            origin: The header `Origin`.
            scheme: How the request came: `http` or `https`.
            host: The header `Host`.
        """
        if origin is None or origin in self.allowed:
            return True
        return origin == f"{scheme}://{host}"

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """Return what a browser is told: whether its page may read this answer."""
        if not self.allowed:
            return {}
        # A cache must not give one origin's answer to another.
        shown = {"Vary": "Origin"}
        if origin is not None and origin in self.allowed:
            shown["Access-Control-Allow-Origin"] = origin
        return shown


def _plain(name: str) -> str:
    """Return a name as all that mean the same are written."""
    address = _address(name)
    return name.lower().removesuffix(".") if address is None else str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
