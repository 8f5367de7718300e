"""How many rooms one address may bring: keys are free, so a room costs a stranger nothing."""

from __future__ import annotations

import ipaddress
from collections import deque

from dreamer.protocol.limits import TRACKER_NEW_ROOMS_PER_ADDRESS, TRACKER_NEW_ROOMS_WINDOW_S
from dreamer.tracker.refusal import Reason, RefusedError

_IPV6_SITE_BITS = 64


class NewRooms:
    """Counts, by address, the rooms first seen within the last hour. ``now`` is steady time."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def count(self, address: str, now: float) -> None:
        """Count one more new room from an address.

        Raises:
            RefusedError: too many came from there lately.
        """
        times = self._times.setdefault(_site(address), deque())
        _forget(times, now)
        if len(times) >= TRACKER_NEW_ROOMS_PER_ADDRESS:
            raise RefusedError(
                Reason.FORBIDDEN, "too many new rooms came from this address: try in an hour"
            )
        times.append(now)

    def prune(self, now: float) -> None:
        """Forget addresses that brought nothing lately."""
        for site, times in list(self._times.items()):
            _forget(times, now)
            if not times:
                del self._times[site]


def _forget(times: deque[float], now: float) -> None:
    while times and times[0] <= now - TRACKER_NEW_ROOMS_WINDOW_S:
        times.popleft()


def _site(address: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    # Whoever has one address of IPv6 has some 2^64 of them.
    site = ipaddress.IPv6Network((int(parsed), _IPV6_SITE_BITS), strict=False)
    return str(site.network_address)
