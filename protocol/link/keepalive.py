"""When to ask a linked peer whether it is there, and when to believe that it isn't.

An idle link costs a ping now and then, and its loss may take half a minute to show: nobody
waits. While blocks are expected every second counts, so silence is asked about soon and believed
soon. Silence that nobody was there to hear is none: a machine that slept, or whose daemon was
stopped, first asks everybody anew.
"""

from __future__ import annotations

from enum import Enum

from dreamer.protocol.limits import (
    LINK_PING_INTERVAL_S,
    LINK_SILENCE_TIMEOUT_S,
    LINK_TICK_LATE_S,
    LINK_WAITING_PING_S,
    LINK_WAITING_SILENCE_S,
    LINK_WOKEN_SILENCE_S,
)


class Step(Enum):
    """What to do about a link."""

    LEAVE = "leave"
    ASK = "ask"
    LOSE = "lose"


class Keepalive:
    """The rule for all links of a room. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._ticked_at = float("inf")
        self._woke_at = float("-inf")

    def tick(self, now: float) -> None:
        """Say that links are about to be looked at; to be called every second or so."""
        if now - self._ticked_at > LINK_TICK_LATE_S:
            self.woke(now)
        self._ticked_at = now

    def woke(self, now: float) -> None:
        """Note that nothing could be heard until now, however long that was."""
        self._woke_at = now

    def step(self, heard_at: float, pinged_at: float, waited_on: bool, now: float) -> Step:
        """Return what to do about a link that was last heard and pinged at these times.

        ``waited_on``: something was asked of the peer and has not come.
        """
        silent_s = now - max(heard_at, self._woke_at)
        if heard_at <= self._woke_at:
            limit_s, ask_again_s = LINK_WOKEN_SILENCE_S, LINK_WAITING_PING_S
            if pinged_at < self._woke_at:
                return Step.ASK
        elif waited_on:
            limit_s, ask_again_s = LINK_WAITING_SILENCE_S, LINK_WAITING_PING_S
        else:
            limit_s, ask_again_s = LINK_SILENCE_TIMEOUT_S, LINK_PING_INTERVAL_S
        if silent_s > limit_s:
            return Step.LOSE
        asked_s = now - pinged_at
        due = asked_s > LINK_PING_INTERVAL_S or min(asked_s, silent_s) > ask_again_s
        return Step.ASK if due else Step.LEAVE
