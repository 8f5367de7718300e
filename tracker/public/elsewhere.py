"""What a tracker process knows of the peers that other processes of its cluster serve.

A process keeps its own peers (``swarms``) and answers for them; through this port it learns how
many are elsewhere and sends offers and answers there. A tracker without a cluster has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from dreamer.protocol.ids import InfoHash
from dreamer.tracker.public.wire import Answer, Counts, Offer, PeerId

ProcessId = NewType("ProcessId", str)
"""The name of one run of a tracker process; a new run takes a new one."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Offers of one peer for as many different peers of one swarm at another process."""

    info_hash: InfoHash
    sender: PeerId
    seeding: bool
    offers: tuple[Offer, ...]


class Elsewhere(Protocol):
    """The rest of the cluster, as one process sees it."""

    @property
    def joined(self) -> bool:
        """Whether this process has the others; False while it goes on alone."""
        ...

    def processes(self) -> Sequence[ProcessId]:
        """Return the other processes that live."""
        ...

    async def started(self) -> None:
        """Return once this process has joined the others, or has found that it can't now."""
        ...

    async def run(self, here: Here) -> None:
        """Take part until cancelled; then leave the cluster."""
        ...

    def changed(self, info_hash: InfoHash) -> None:
        """Note that a swarm's counts in this process aren't what the others know."""
        ...

    def when_known(self, info_hashes: Sequence[InfoHash], then: Callable[[], None]) -> None:
        """Call ``then``, at once or soon: as soon as it is known who else is in these swarms.

        It is called even if that can't be learnt: then the process goes on alone.
        """
        ...

    def total(self, info_hash: InfoHash, here: Counts) -> Counts:
        """Return a swarm's counts over all processes; ``here`` are this one's."""
        ...

    def send_offers(
        self, info_hash: InfoHash, sender: PeerId, seeding: bool, offers: Sequence[Offer], here: int
    ) -> tuple[Offer, ...]:
        """Send away what by chance falls to peers elsewhere; return the offers for those here.

        ``here`` is how many peers this process has that the sender could be given.
        """
        ...

    def send_answer(self, to: ProcessId, answer: Answer) -> None:
        """Send an answer to the process that the offer came from."""
        ...


class Here(Protocol):
    """The peers of this process, as the rest of the cluster sees them."""

    def counts(self, info_hash: InfoHash) -> Counts:
        """Return a swarm's counts in this process; zeros for a swarm that nobody is in."""
        ...

    def info_hashes(self) -> Iterable[InfoHash]:
        """Return the swarms that this process has peers of."""
        ...

    def take_offers(self, origin: ProcessId, bundle: Bundle) -> None:
        """Hand each offer on to another peer, as far as there are peers."""
        ...

    def take_answer(self, answer: Answer) -> None:
        """Hand an answer on to the peer that offered, if it is still there."""
        ...
