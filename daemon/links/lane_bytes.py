"""Payload that links have carried since the start, by lane and direction, for metrics.

Links count their bytes without a lane, and may change lanes: what they have counted is put down
to the lane they were on whenever that changes, when they go, and when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol.swarm.vocabulary import Lane


@dataclass
class _Seen:
    """A link as it was looked at last."""

    link: Link
    lane: Lane
    bulk: Lane
    down: int = 0
    up: int = 0
    up_direct: int = 0


@dataclass
class LaneTotal:
    """Bytes that one lane brought and took."""

    down: int = 0
    up: int = 0


class LaneBytes(LinkListener):
    """All links of a node; one of it listens in every room."""

    def __init__(self) -> None:
        self._links: dict[int, _Seen] = {}
        self._totals = {lane: LaneTotal() for lane in (Lane.DIRECT, Lane.WEBRTC, Lane.RELAY)}

    def totals(self) -> dict[Lane, LaneTotal]:
        """Return the bytes up to now."""
        for seen in self._links.values():
            self._look(seen)
        return self._totals

    def standing(self) -> dict[Lane, int]:
        """Return how many links stand, by the lane that their blocks go over."""
        counts = dict.fromkeys(self._totals, 0)
        for seen in self._links.values():
            counts[seen.link.lane] += 1
        return counts

    def spent(self) -> int:
        """Return how many links may carry no blocks, as the relay below has no budget left."""
        return sum(seen.link.spent for seen in self._links.values())

    def link_up(self, link: Link) -> None:
        """Take note of a link."""
        self._links[link.number] = _Seen(link, link.lane, link.lane_of(direct=False))

    def link_down(self, link: Link, reason: str) -> None:
        """Keep what a link has carried."""
        if (seen := self._links.pop(link.number, None)) is not None:
            self._look(seen)

    def lane_changed(self, link: Link) -> None:
        """Put down what came before to the lane before."""
        if (seen := self._links.get(link.number)) is not None:
            self._look(seen)
            seen.lane, seen.bulk = link.lane, link.lane_of(direct=False)

    def _look(self, seen: _Seen) -> None:
        total, link = self._totals[seen.lane], seen.link
        total.down += link.bytes_down - seen.down
        # What is given goes over the carrier that the peer asked for, whatever ours is meanwhile.
        direct = link.bytes_up_direct - seen.up_direct
        self._totals[Lane.DIRECT].up += direct
        self._totals[seen.bulk].up += link.bytes_up - seen.up - direct
        seen.down, seen.up, seen.up_direct = link.bytes_down, link.bytes_up, link.bytes_up_direct
