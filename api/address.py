"""Where a call really comes from: whom of those who pass calls on is believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Network = IPv4Network | IPv6Network

#: Where the sixth version has the addresses of the fourth: `::ffff:0.0.0.0`.
_MAPPED: Final = 0xFFFF_0000_0000


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return addresses and networks, such as `10.0.0.1` or `10.0.0.0/8`.

    Raises:
        ValueError: if a text is neither.
    """
    return tuple(ip_network(text, strict=False) for text in texts)


def as_seen(networks: Iterable[Network]) -> Iterator[Network]:
    """Return networks also as a socket that serves both families shows them."""
    for network in networks:
        yield network
        if isinstance(network, IPv4Network):
            first = _MAPPED + int(network.network_address)
            yield IPv6Network((first, 96 + network.prefixlen))


def client_address(
    peer: str, forwarded_for: str | None, proxies: Iterable[Network]
) -> str:
    """Return the address that a call comes from.

    Args:
        peer: Who is connected.
        forwarded_for: The header `X-Forwarded-For`. Everybody may send one: it counts
            only if a trusted proxy is connected, and each proxy's entry only as far as
            those behind it are trusted, too.
        proxies: The proxies that are trusted.

    Returns:
        The last address in the header that is no trusted proxy; the first one if all
        are; the peer if there is something else than an address.
    """
    if forwarded_for is None and ":" not in peer:
        return peer  # as it is mostly: every request is asked
    networks = tuple(proxies)
    connected = found = _address(peer)
    if found is None:
        return peer
    entries = [] if forwarded_for is None else forwarded_for.split(",")
    while entries and _is_in(found, networks):
        found = _address(entries.pop())
        if found is None:
            return str(connected)
    return str(found)


def is_this_machine(
    peer: str, forwarded_for: str | None, proxies: Iterable[Network]
) -> bool:
    """Say whether a call comes from this very machine.

    What somebody here passes on for somebody else does not, whether or not that proxy
    is trusted: so a proxy that nobody told us of opens nothing.
    """
    address = _address(peer)
    if address is None or not address.is_loopback:
        return False
    if forwarded_for is None:
        return True
    entries = [_address(entry) for entry in forwarded_for.split(",")]
    return _is_in(address, proxies) and all(
        entry is not None and entry.is_loopback for entry in entries
    )


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        # Without the zone: it names an interface of whoever wrote it.
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    # How a socket that serves both families shows one of the fourth version.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
