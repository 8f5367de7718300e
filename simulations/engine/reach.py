"""Which lane two machines get, by what each is behind.

As measured with real daemons behind real NATs (``docs/networks.md``): whoever can be dialled gives
the direct lane; two that can open a hole in their NATs for each other get WebRTC; all others need a
relay (RFC 4787 has the terms, RFC 5128 what can be traversed).
"""

from __future__ import annotations

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.scenario.model import NatKind

_UNPREDICTABLE = ("symmetric",)
_NEEDS_A_PORT = ("port_restricted", "symmetric")


def lane_between(one: NatKind, other: NatKind, *, relay: bool) -> Lane | None:
    """Return the lane of two machines; None: they can't be linked, not even by a ``relay``."""
    if "public" in (one, other):
        # The other one dials, by TCP if it has nothing else.
        return Lane.DIRECT
    if "no_udp" not in (one, other) and _holes_meet(one, other):
        return Lane.WEBRTC
    return Lane.RELAY if relay else None


def _holes_meet(one: NatKind, other: NatKind) -> bool:
    """Return whether both can open a hole for each other's packets."""
    for this, that in ((one, other), (other, one)):
        # A symmetric NAT sends from a port that nobody was told of: only who looks at addresses
        # alone lets its packets in.
        if this in _UNPREDICTABLE and that in _NEEDS_A_PORT:
            return False
    return True
