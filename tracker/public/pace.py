"""How fast one socket is read: a token bucket, kept as a single number.

The number is the time at which the bucket will be full again (the "generic cell rate algorithm",
ITU-T I.371), as in ``paces``, where there is one for each of many keys.
"""

from __future__ import annotations

from dreamer.protocol.tracker_limits import TRACKER_MESSAGES_BURST, TRACKER_MESSAGES_PER_S

_TOKEN_S = 1 / TRACKER_MESSAGES_PER_S
_BURST_S = TRACKER_MESSAGES_BURST / TRACKER_MESSAGES_PER_S


class Pace:
    """A token bucket: how long a client's next message must wait. ``now`` is steady time."""

    __slots__ = ("_full_at",)

    def __init__(self, now: float) -> None:
        self._full_at = now

    def delay_s(self, now: float) -> float:
        """Take one token and return the seconds until it is really there; none when not above 0."""
        full_at = self._full_at
        # max() would take longer than all the rest, and this is done for every message.
        self._full_at = full_at = (full_at if full_at > now else now) + _TOKEN_S
        return full_at - now - _BURST_S
