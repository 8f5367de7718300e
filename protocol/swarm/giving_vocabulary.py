"""What the serving side of a node sees of a link and of the queue, and what it has others do."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.link.messages import Message
from dreamer.protocol.shaping.uploads import Key, Slice
from dreamer.protocol.swarm.vocabulary import Lane


class LinkView(Protocol):
    """A link as it is at the moment; looked at again whenever something depends on it."""

    @property
    def number(self) -> int:
        """Names the link; no other of this node, in any room, has the same."""
        ...

    @property
    def peer(self) -> Hashable:
        """Who is at the other end: a member of several rooms is one peer."""
        ...

    @property
    def bulk_spent(self) -> bool:
        """Whether the link's own channel may carry no blocks."""
        ...

    @property
    def direct_up(self) -> object:
        """True, or an object, while a direct connection takes blocks to the peer."""
        ...

    @property
    def lan(self) -> bool:
        """Whether the direct connection runs within the local network."""
        ...

    def lane_of(self, *, direct: bool) -> Lane:
        """Return the lane of blocks that are asked for in one of the two ways."""
        ...


class UploadQueue(Protocol):
    """What ``Uploads`` does for one room."""

    def admits(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether a peer may ask for something now."""
        ...

    def slot_free(self, now: float) -> bool:
        """Return whether one of those that were not admitted might be told to come."""
        ...

    def calls(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether to tell a peer that was not admitted to come now."""
        ...

    def ask(
        self,
        key: Key,
        peer: Hashable,
        lane: Lane,
        blocks: Sequence[int],
        now: float,
        *,
        lan: bool = False,
    ) -> None:
        """Queue a request of a peer that was admitted."""
        ...

    def stop(self, key: Key, block: int | None) -> bool:
        """Leave out a block that was not handed out yet, or the rest; True if nothing is left."""
        ...

    def sent(self, key: Key) -> bool:
        """Note that a slice has gone; return True if it was the last of its request."""
        ...

    def forget(self, key: Key) -> None:
        """Drop a request."""
        ...

    def next(self, now: float) -> Iterable[Slice]:
        """Hand out what is to be sent now."""
        ...

    def ready_at(self, now: float) -> float:
        """Return when a limit lets go what waits only for it; infinity: nothing does."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """An open request for blocks of a model."""

    link: LinkView
    model: ManifestId
    blocks: range
    direct: bool


class Failure(Enum):
    """Why a slice could not be read; the value is what the peer is told."""

    LOST = "this node does not have these blocks"
    MOVED = "ask again"
    """The file was finished, and lies elsewhere now."""
    DAMAGED = "the blocks are damaged here"


# Commands


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message on the control channel of a link."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Tell:
    """Send the same message on the control channels of several links.

    A gain has many followers: most of what a node in a crowd says is of this kind.
    """

    links: tuple[int, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class SendBlocks:
    """Send a slice of a request; ``Giving.sent`` is to be called once it has gone, or failed."""

    link: int
    request: int
    model: ManifestId
    blocks: tuple[int, ...]
    direct: bool


@dataclass(frozen=True, slots=True)
class StopSending:
    """Leave out a block of a slice under way, or with None all that is left of it.

    ``Giving.sent`` is still to be called for the slice.
    """

    link: int
    request: int
    block: int | None


Command = Say | Tell | SendBlocks | StopSending
