"""The kinds of NAT that stand between machines (RFC 4787; the old names are those of RFC 3489)."""

from __future__ import annotations

from enum import Enum


class Nat(Enum):
    """How a router maps what goes out, and what it lets in."""

    FULL_CONE = "full cone"
    """Endpoint-independent mapping and filtering: who has sent one packet, everybody reaches."""

    PORT_RESTRICTED = "port-restricted"
    """Endpoint-independent mapping, address- and port-dependent filtering: most homes."""

    SYMMETRIC = "symmetric"
    """Address- and port-dependent mapping and filtering: carriers, many offices."""


# Linux keeps the source port where it is free, so its plain masquerade maps alike for every
# destination; by chance for each connection it is symmetric.
_MASQUERADE = {
    Nat.FULL_CONE: "masquerade",
    Nat.PORT_RESTRICTED: "masquerade",
    Nat.SYMMETRIC: "masquerade fully-random",
}

_RULES = """
table ip nat {{
  chain out {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" {masquerade}
  }}
}}
table ip door {{
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }}
  chain here {{
    # Dropped, not refused: else an early packet of the peer's would take the very port that ours
    # needs, and the mapping would no longer be endpoint-independent.
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state new drop
  }}
}}
"""

# Whoever sent UDP from a port is found again under that port by anybody.
_CONE = """
table ip cone {
  map inside {
    type inet_service : ipv4_addr . inet_service
    flags dynamic,timeout
    timeout 5m
    size 65535
  }
  chain learn {
    type filter hook forward priority filter - 1; policy accept;
    oifname "wan" update @inside { udp sport : ip saddr . udp sport }
  }
  chain in {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "wan" dnat ip to udp dport map @inside
  }
}
"""

NO_UDP = """
table ip no_udp {
  chain through {
    type filter hook forward priority filter - 2; policy accept;
    meta l4proto udp drop
  }
}
"""
"""A network that lets no UDP through, as many offices do."""


def rules(kind: Nat) -> str:
    """Return the nft rules of a router with devices ``wan`` and ``lan``."""
    return _RULES.format(masquerade=_MASQUERADE[kind]) + (_CONE if kind is Nat.FULL_CONE else "")
