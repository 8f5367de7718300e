"""Where this node can be reached for a direct connection, and which addresses of others to dial."""

from __future__ import annotations

import ipaddress
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import ifaddr

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """Return what is the same for all processes of this machine, and for no other machine's."""
    try:
        return _BOOT_ID.read_bytes()
    except OSError:
        # Other systems: the hardware address, or where there is none a number drawn at start.
        return str(uuid.getnode()).encode()


def ip_of(host: str) -> IPAddress | None:
    """Return an address written as digits; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # What a socket for both versions says of IPv4.
    return getattr(address, "ipv4_mapped", None) or address


def local_addresses(listening: str) -> Iterator[str]:
    """Yield the addresses of this machine at which a socket bound to ``listening`` is reached.

    Loopback comes last: it is of use on this machine only.
    """
    bound = ip_of(listening)
    if bound is not None and not bound.is_unspecified:
        yield str(bound)
        return
    found = [ip for ip in _interfaces() if bound is None or bound.version == 6 or ip.version == 4]
    yield from (str(ip) for ip in sorted(found, key=lambda ip: ip.is_loopback))


def _interfaces() -> Iterator[IPAddress]:
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            ip = ip_of(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            # A link-local address means nothing without the dialler's own interface.
            if ip is not None and not ip.is_link_local:
                yield ip


def endpoint_text(host: str, port: int) -> str:
    """Return HOST:PORT, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def may_dial(ip: IPAddress, same_host: bool) -> bool:
    """Return whether a peer may have us dial an address.

    Loopback only if it runs on this machine, or it could have us knock at our own services; never
    link-local, of which nodes tell none, and where clouds have the service that hands out keys.
    """
    if ip.is_loopback:
        return same_host
    return not (ip.is_unspecified or ip.is_multicast or ip.is_reserved or ip.is_link_local)


def is_lan(sock: socket.socket) -> bool | None:
    """Return whether a connection ends within the local network; None: it was reset meanwhile."""
    try:
        ip = ip_of(sock.getpeername()[0])
    except OSError:
        return None
    return ip is not None and (ip.is_private or ip.is_link_local or ip.is_loopback)
