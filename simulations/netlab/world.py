"""What all scenarios of a run share: one public segment, its relay, its tracker; and numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dreamer.simulations.netlab.internet import Internet
from dreamer.simulations.netlab.lab import Host
from dreamer.simulations.netlab.pair import Outcome, Pair, Place, pair
from dreamer.simulations.netlab.services import Origin, Relay, Tracker

WEBRTC_ALONE = {"DREAMER_NETWORK_DIRECT_LISTEN": "", "DREAMER_NETWORK_RELAY": "never"}
"""For a node that shall show what webrtc does where others could carry.

A relay could: ICE takes the first pair that answers, and one lost check makes that the relay's.
"""

DEFAULT_MIB = 8


class World:
    """The network of one run. Scenarios may run in it at once: each has its own hosts and room."""

    def __init__(self, net: Internet, relay: Relay, tracker: Tracker) -> None:
        self.net = net
        self.relay = relay
        self.tracker = tracker
        self._numbers = itertools.count(1)

    def place(self, host: Host, settings: Mapping[str, str] | None = None) -> Place:
        """Return a place for a node that is told nothing but its tracker, unless by settings."""
        return Place(host, settings or {})

    def pair(
        self,
        giver: Place,
        taker: Place,
        mib: int = DEFAULT_MIB,
        tracker: Tracker | None = None,
        origin: Origin | None = None,
    ) -> AbstractContextManager[Pair]:
        """Start two nodes; the giver has published a model of ``mib`` MiB."""
        # The paths of Unix sockets must be short.
        scratch = self.net.scratch / f"s{next(self._numbers)}"
        return pair(scratch, giver, taker, tracker or self.tracker, mib, origin)


@contextmanager
def world(scratch: Path) -> Iterator[World]:
    """Build what scenarios share."""
    with Internet(scratch) as net:
        relay = net.relay()
        yield World(net, relay, net.tracker(*relay.turns))


@dataclass(frozen=True)
class Scenario:
    """One row of the matrix: what it is called, which lane must carry, and how it is played."""

    name: str
    lane: str
    play: Callable[[World], Outcome]
