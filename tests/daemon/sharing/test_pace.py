"""The node's one queue of uploads, and its limits, whoever looks at which clock."""

from __future__ import annotations

from dreamer.daemon.sharing.pace import Pace
from dreamer.protocol.limits import MIB
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.swarm.vocabulary import Lane


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_pulls_whose_clocks_differ_share_one_limit() -> None:
    clock = Clock()
    pace = Pace(Limits(Rates(down=1e6)), clock=clock)
    taken = 0
    for _ in range(100):
        clock.now += 0.1
        # One was there before this machine was halted for a quarter of an hour, one was not.
        for now in (clock.now, clock.now - 900.0):
            if pace.grant(Lane.WEBRTC, False, now) > 0:
                pace.take(Lane.WEBRTC, False, MIB, now)
                taken += MIB
    assert 9 * MIB <= taken <= 1e6 * 10.0 + 2 * MIB
