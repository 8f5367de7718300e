"""What each link, and all of them together, have shown that they can carry, both ways.

Looked at once a second rather than told of every report: a thousand blocks a second should cost
nothing here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol.limits import PEAK_RATE_SAMPLE_S
from dreamer.protocol.swarm.peak_rate import PeakRate
from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.protocol.topology import Measured


@dataclass
class _Ways:
    """The peaks of one link, or of the node; ``over``: the lane when the last one was seen."""

    down: PeakRate = field(default_factory=PeakRate)
    up: PeakRate = field(default_factory=PeakRate)
    over: Lane | None = None

    def note(self, down: int, up: int, lane: Lane | None, now: float) -> None:
        faster = (self.down.note(down, now), self.up.note(up, now))
        if any(faster):
            self.over = lane

    @property
    def measured(self) -> Measured:
        return Measured(round(self.down.bytes_s), round(self.up.bytes_s))


class LinkRates(LinkListener):
    """All links of a node; one of it listens in every room. What is gone is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[int, tuple[Link, _Ways]] = {}
        self._node = _Ways()
        self._gone = [0, 0]

    async def run(self) -> None:
        """Look every ``PEAK_RATE_SAMPLE_S`` until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PEAK_RATE_SAMPLE_S)

    def look(self) -> None:
        """Take a sample of every link."""
        now = self._clock()
        down, up = self._gone
        for link, ways in self._links.values():
            ways.note(link.bytes_down, link.bytes_up, link.lane, now)
            down += link.bytes_down
            up += link.bytes_up
        self._node.note(down, up, None, now)

    def link_up(self, link: Link) -> None:
        """Take note of a link, as it is before anything has passed."""
        ways = _Ways()
        # A small model may have come before the first look.
        ways.note(link.bytes_down, link.bytes_up, link.lane, self._clock())
        self._links[link.number] = (link, ways)

    def link_down(self, link: Link, reason: str) -> None:
        """Forget a link; what it moved still counts for the node."""
        if self._links.pop(link.number, None) is not None:
            self._gone[0] += link.bytes_down
            self._gone[1] += link.bytes_up

    def of_node(self) -> Measured:
        """Return what all links together have carried at the most."""
        return self._node.measured

    def of_link(self, link: Link) -> tuple[Measured, Lane | None]:
        """Return what a link has carried at the most, and over which lane."""
        found = self._links.get(link.number)
        return (found[1].measured, found[1].over) if found else (Measured(), None)
