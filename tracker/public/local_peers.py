"""The peers of this process, for the rest of the cluster: see ``elsewhere.Here``."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

from dreamer.protocol.ids import InfoHash
from dreamer.tracker.public import wire
from dreamer.tracker.public.elsewhere import Bundle, ProcessId
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.public.wire import Answer, Counts
from dreamer.tracker.stats import Tally

Deliver = Callable[[int, Hashable, bytes], None]
"""Hands a message to the socket of that number, in the name of a sender."""


class LocalPeers:
    """Draws peers for the offers of others, and finds who waits for their answers."""

    def __init__(
        self,
        swarms: Swarms,
        tally: Tally,
        deliver: Deliver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._swarms = swarms
        self._tally = tally
        self._deliver = deliver
        self._clock = clock

    def counts(self, info_hash: InfoHash) -> Counts:
        """Return a swarm's counts in this process."""
        return self._swarms.counts(info_hash)

    def info_hashes(self) -> Iterable[InfoHash]:
        """Return the swarms that this process has peers of."""
        return (swarm.info_hash for swarm in self._swarms)

    def take_offers(self, origin: ProcessId, bundle: Bundle) -> None:
        """Hand each offer on to another peer, as far as there are peers."""
        for target, offer in self._swarms.route_from(origin, bundle, self._clock()):
            self._tally.offers += 1
            text = wire.offer_to(bundle.info_hash, bundle.sender, offer)
            self._deliver(target.owner, bundle.sender, text)

    def take_answer(self, answer: Answer) -> None:
        """Hand an answer on to the peer that offered, if it is still there."""
        target = self._swarms.find(answer.info_hash, answer.to_peer_id)
        if target is not None:
            self._tally.answers += 1
            self._deliver(target.owner, answer.peer_id, wire.answer_to(answer))
