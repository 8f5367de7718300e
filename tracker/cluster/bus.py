"""The port to what joins the processes of a cluster: a table of counts, a letterbox for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import InfoHash
from dreamer.tracker.public.elsewhere import ProcessId
from dreamer.tracker.public.wire import Counts


class BusError(RemoteError):
    """What joins the processes can't be reached, or doesn't do its work."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process on the list: how long ago it said a word, and whether its letterbox is open."""

    process: ProcessId
    silent_s: float
    listening: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """The list of processes, and of each swarm asked for what each process has told of it."""

    seen: tuple[Seen, ...]
    swarms: Mapping[InfoHash, Mapping[ProcessId, Counts]]


class Bus(Protocol):
    """Where the processes meet. Every method raises BusError."""

    async def open(self, me: ProcessId) -> None:
        """Connect, and open this process' letterbox; what an earlier connection left is closed."""
        ...

    async def trade(self, tell: Mapping[InfoHash, Counts], ask: Sequence[InfoHash]) -> Reading:
        """Write down this process' own counts, and then read everybody's, in one exchange.

        In that order: of two peers that come to two processes at once, one must see the other.
        It is a sign of life, too, with nothing to tell or ask.
        """
        ...

    async def send(self, envelopes: Sequence[tuple[ProcessId, bytes]]) -> None:
        """Put envelopes into letterboxes; one that nobody empties loses them."""
        ...

    async def hear(self) -> bytes:
        """Return the next envelope for this process."""
        ...

    async def leave(self) -> None:
        """Take this process off the list."""
        ...

    async def close(self) -> None:
        """Let go of the connections, whatever state they are in."""
        ...
