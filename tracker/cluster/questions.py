"""Who waits to learn of which swarms; no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import CLUSTER_BATCH_SWARMS, CLUSTER_MAX_WAITING


@dataclass(slots=True)
class Round:
    """What is asked at once, for everybody who waits for any of it."""

    asked: dict[InfoHash, None] = field(default_factory=dict)
    then: list[Callable[[], None]] = field(default_factory=list)


class Questions:
    """In the order in which they were asked, so that a client's replies stay in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Sequence[InfoHash], Callable[[], None]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether too many wait already: each holds a message of a client in memory."""
        return len(self._waiting) >= CLUSTER_MAX_WAITING

    def put(self, info_hashes: Sequence[InfoHash], then: Callable[[], None]) -> None:
        """Note that ``then`` is to be called once these swarms are known."""
        self._waiting.append((info_hashes, then))

    def take(self) -> Round:
        """Return the next round; many who ask for one swarm ask once."""
        taken = Round()
        while self._waiting and len(taken.asked) < CLUSTER_BATCH_SWARMS:
            info_hashes, then = self._waiting.popleft()
            taken.asked.update(dict.fromkeys(info_hashes))
            taken.then.append(then)
        return taken
