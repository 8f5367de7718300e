"""A way to get blocks, as a pull sees it: it is asked, and reports to the planner by itself."""

from __future__ import annotations

from typing import Protocol

from dreamer.protocol.swarm.vocabulary import Cancel, Fetch


class BlockLane(Protocol):
    """One lane of one pull. All calls happen on the daemon's loop and return at once.

    What comes of a request is fed to the planner as its events: ``BytesArrived``,
    ``BlockVerified`` once a block is on disk, ``BlockRejected``, ``RequestRefused``.
    """

    def fetch(self, command: Fetch) -> None:
        """Begin a request."""
        ...

    def cancel(self, command: Cancel) -> None:
        """Leave out a block of a request, or all that is left of it."""
        ...

    def close(self) -> None:
        """End every request; nothing is fed to the planner from now on."""
        ...
