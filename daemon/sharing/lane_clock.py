"""For how long each lane was in use during a pull."""

from __future__ import annotations

from collections.abc import Collection

from dreamer.daemon.ports import LANES
from dreamer.daemon.ports import Lane as LaneName
from dreamer.protocol.swarm.vocabulary import Lane


class LaneClock:
    """Adds up, by lane, the seconds in which at least one request was open."""

    def __init__(self, now: float) -> None:
        self._seconds: dict[LaneName, float] = dict.fromkeys(LANES, 0.0)
        self._busy: tuple[LaneName, ...] = ()
        self._since = now

    def note(self, busy: Collection[Lane], now: float) -> None:
        """Take note of which lanes have open requests from ``now`` on."""
        for lane in self._busy:
            self._seconds[lane] += now - self._since
        self._busy, self._since = tuple(lane.value for lane in busy), now

    def seconds(self) -> dict[LaneName, float]:
        """Return seconds by lane, up to the last note."""
        return dict(self._seconds)
