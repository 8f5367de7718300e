"""How much a pull asks for ahead, of all its sources together.

Each source is asked for two requests of its own at least, which are little as long as blocks are
small beside what a line carries in a second. Where they are not (a slow line, or a simulation whose
blocks stand for many), twenty sources would owe a pull what it can take in within minutes: whatever
is rare by then was asked for long before, and the last blocks wait in the longest queues.
"""

from __future__ import annotations

from dreamer.protocol.limits import (
    PULL_AHEAD_MIN_BLOCKS,
    PULL_AHEAD_MIN_BYTES,
    PULL_AHEAD_S,
    PULL_SLOW_BYTES_S,
)
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.vocabulary import SourceId


class InFlight:
    """The bound for one pull. ``meter`` counts all that it takes in."""

    def __init__(self, block_bytes: int) -> None:
        self.meter = RateMeter()
        self.owing: dict[SourceId, Source] = {}
        """All that owe something; those that owe nothing any more are left out when counting."""
        self.frees_at = float("inf")
        """When a source stops counting by the passing of time, as of the last count."""
        self._block_bytes = block_bytes
        self._slow_s = max(PULL_AHEAD_S, block_bytes / PULL_SLOW_BYTES_S)
        self._least = max(PULL_AHEAD_MIN_BYTES // block_bytes, PULL_AHEAD_MIN_BLOCKS)

    def asked(self, source: Source, now: float) -> None:
        """Note that something was asked of a source."""
        if not self.owing:
            # Blocks that come together would else make a first sample of any height; and with all
            # asked of everybody at once, nothing is whole for minutes.
            self.meter.begin(now)
        self.owing[source.id] = source

    @property
    def waits(self) -> bool:
        """Whether anything is still to come."""
        return any(source.requests for source in self.owing.values())

    def room(self, now: float) -> int:
        """Return how many blocks more may be asked for now; 0 or less: none.

        A source that has brought no block for some seconds doesn't count: its queue is long, or it
        is slow, and others are asked meanwhile.
        """
        most = max(int(self.meter.bytes_per_s * PULL_AHEAD_S / self._block_bytes), self._least)
        frees_at, since, settled = float("inf"), now - self._slow_s, False
        for source in self.owing.values():
            if not (owed := source.owed):
                settled = True
            elif (waiting := source.waiting_since) > since:
                most -= owed
                if waiting < frees_at:
                    frees_at = waiting
        self.frees_at = frees_at + self._slow_s
        if settled:
            self.owing = {name: source for name, source in self.owing.items() if source.owed}
        return most
