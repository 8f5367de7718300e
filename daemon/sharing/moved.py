"""What a pull has moved, for its receipt and for whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.daemon.ports import LANES
from dreamer.daemon.ports import Lane as LaneName


@dataclass
class Moved:
    """What a pull has moved so far; bytes are of verified blocks."""

    by_lane: dict[LaneName, int] = field(default_factory=lambda: dict.fromkeys(LANES, 0))
    seconds: dict[LaneName, float] = field(default_factory=lambda: dict.fromkeys(LANES, 0.0))
    by_peer: dict[str, int] = field(default_factory=dict)
    blamed: list[str] = field(default_factory=list)
    # Of the origin ``by_lane`` has what came over the wire, which is so much less than the blocks.
    saved: int = 0

    def add(self, more: Moved) -> None:
        """Count what another job of the same pull has moved."""
        self.saved += more.saved
        for lane in LANES:
            self.by_lane[lane] += more.by_lane[lane]
            self.seconds[lane] += more.seconds[lane]
        for peer, size in more.by_peer.items():
            self.by_peer[peer] = self.by_peer.get(peer, 0) + size
        self.blamed += more.blamed
