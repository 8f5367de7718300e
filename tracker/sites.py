"""The site an address stands for: what one customer of a provider holds."""

from __future__ import annotations

import ipaddress

_IPV6_SITE_BITS = 64


def site_of(address: str) -> str:
    """Return an address of IPv4 as it is, and the /64 of one of IPv6."""
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    # Whoever has one address of IPv6 has some 2^64 of them.
    site = ipaddress.IPv6Network((int(parsed), _IPV6_SITE_BITS), strict=False)
    return str(site.network_address)
