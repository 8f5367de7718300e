"""How many rooms one address may bring: keys are free, so a room costs a stranger nothing."""

from __future__ import annotations

from collections import deque

from dreamer.protocol.tracker_limits import (
    TRACKER_NEW_ROOMS_PER_ADDRESS,
    TRACKER_NEW_ROOMS_WINDOW_S,
    TRACKER_PACES_KEPT,
)
from dreamer.tracker.room.refusal import Reason, RefusedError
from dreamer.tracker.sites import site_of


class NewRooms:
    """Counts, by address, the rooms first seen within the last hour. ``now`` is steady time."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def count(self, address: str, now: float) -> None:
        """Count one more new room from an address.

        Raises:
            RefusedError: too many came from there lately.
        """
        times = self._times.setdefault(site_of(address), deque())
        _forget(times, now)
        if len(times) >= TRACKER_NEW_ROOMS_PER_ADDRESS:
            raise RefusedError(
                Reason.FORBIDDEN, "too many new rooms came from this address: try in an hour"
            )
        times.append(now)
        # A provider's customer may have thousands of sites: what is remembered must have an end.
        if len(self._times) > TRACKER_PACES_KEPT:
            del self._times[next(iter(self._times))]

    def prune(self, now: float) -> None:
        """Forget addresses that brought nothing lately."""
        for site, times in list(self._times.items()):
            _forget(times, now)
            if not times:
                del self._times[site]


def _forget(times: deque[float], now: float) -> None:
    while times and times[0] <= now - TRACKER_NEW_ROOMS_WINDOW_S:
        times.popleft()
