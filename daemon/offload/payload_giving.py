"""The payloads that one room's members may fetch from this node, and the fetching of them.

What a node sends is bounded by ``[network]``, tensors included: somebody waits for them, so they
go before blocks of models, which wait until the rate has made up for it (``ByteBucket``). Blocks
are handed to the lane as the rate lets them go, and all at once where there is none.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.daemon.links.link import Giver, Link
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.transport.vocabulary import ServeFailed, Span
from dreamer.protocol.link.offload_messages import WantPayload
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOAD_REQUESTS_MAX
from dreamer.protocol.swarm.vocabulary import Lane


@dataclass
class _Serving:
    """One request for an offered payload; ``waiting`` are its blocks that the rate holds back.

    They are found by their number, as a peer may leave out one after another.
    """

    request: int
    giver: Giver
    way: tuple[Lane, bool]
    waiting: OrderedDict[int, Span]
    under_way: tuple[int, ...] = ()
    """Blocks that the lane has; it takes the next ones when all of these have gone."""

    @property
    def over(self) -> bool:
        return not self.waiting and not self.under_way


@dataclass
class _Offer:
    """A payload that may be fetched, by the requests under which it is."""

    link: Link
    payload: Payload
    path: Path
    servings: list[_Serving] = field(default_factory=list)


class PayloadGiving:
    """Offers payloads over links, each over one and to nobody else."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._offers: dict[tuple[int, int], _Offer] = {}
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, link: Link, payload: Payload, path: Path) -> None:
        """Let the peer fetch what lies in a file."""
        self._offers[link.number, payload.number] = _Offer(link, payload, path)

    def withdraw(self, link: Link, number: int) -> Path | None:
        """Offer it no longer; return its file."""
        offer = self._offers.pop((link.number, number), None)
        if offer is None:
            return None
        for serving in list(offer.servings):
            self._stop(offer, serving)
        return offer.path

    def offered(self, link: Link) -> list[int]:
        """Return the payloads that are offered over a link."""
        return [number for at, number in self._offers if at == link.number]

    def sends(self, link: Link) -> bool:
        """Return whether a payload is on its way to the peer."""
        return any(offer.servings for offer in self._of(link))

    def serve(self, link: Link, asked: WantPayload) -> bool:
        """Send a payload from a block on; False: it is not offered, or not over that lane.

        What an earlier request has of the blocks before goes on: it is in the middle of these.
        """
        offer = self._offers.get((link.number, asked.payload))
        giver: Giver | None = link.direct_up if asked.direct else link.bulk
        if offer is None or giver is None:
            return False
        first = max(0, asked.first)
        for serving in list(offer.servings):
            self._leave_out(offer, serving, first)
        while len(offer.servings) >= OFFLOAD_PAYLOAD_REQUESTS_MAX:
            self._stop(offer, offer.servings[0])
        spans = offer.payload.spans(offer.path)[first:]
        if not spans:
            # Nothing will ever end that has no blocks.
            return True
        way = (link.lane_of(direct=asked.direct), link.lan and asked.direct)
        serving = _Serving(
            asked.request, giver, way, OrderedDict((span[0], span) for span in spans)
        )
        offer.servings.append(serving)
        self._pace.promise(*way, _bytes_of(spans))
        # Not at once: what is to be left out of it is said right behind the request.
        self._send_soon(0.0)
        return True

    def cancel(self, link: Link, request: int, block: int) -> None:
        """Leave out a block of a request, or with -1 all that is left."""
        for offer in self._of(link):
            for serving in [one for one in offer.servings if one.request == request]:
                self._drop(serving, list(serving.waiting) if block < 0 else [block])
                if block < 0 or block in serving.under_way:
                    serving.giver.stop_serving(request, block)
                self._end_if_over(offer, serving)

    def ended(self, link: Link, request: int, failed: ServeFailed | None) -> bool:
        """Go on with a request; return whether it was one of these, and failed."""
        for offer in self._of(link):
            for serving in [one for one in offer.servings if one.request == request]:
                serving.under_way = ()
                if failed is not None:
                    self._stop(offer, serving)
                    return True
                self._end_if_over(offer, serving)
        self._send()
        return False

    def _of(self, link: Link) -> Iterator[_Offer]:
        return (offer for (number, _), offer in self._offers.items() if number == link.number)

    # Leaving out

    def _leave_out(self, offer: _Offer, serving: _Serving, first: int) -> None:
        """Send nothing of a request from a block on: another one has it."""
        self._drop(serving, [block for block in serving.waiting if block >= first])
        for block in serving.under_way:
            if block >= first:
                serving.giver.stop_serving(serving.request, block)
        self._end_if_over(offer, serving)

    def _drop(self, serving: _Serving, unwanted: Iterable[int]) -> None:
        waiting = serving.waiting
        dropped = [waiting.pop(block) for block in unwanted if block in waiting]
        if dropped:
            self._pace.take_back(*serving.way, _bytes_of(dropped))

    def _stop(self, offer: _Offer, serving: _Serving) -> None:
        self._drop(serving, list(serving.waiting))
        serving.giver.stop_serving(serving.request, -1)
        offer.servings.remove(serving)

    def _end_if_over(self, offer: _Offer, serving: _Serving) -> None:
        if serving.over and serving in offer.servings:
            offer.servings.remove(serving)

    # Sending, as the rate lets it

    def _send(self) -> None:
        """Hand out what may go now, in the order in which it was asked for."""
        self._stop_what_has_no_lane()
        servings = [one for offer in self._offers.values() for one in offer.servings]
        waiting = [one for one in servings if one.waiting and not one.under_way]
        held_back = [one for one in waiting if not self._send_some(one)]
        if held_back:
            self._send_soon(min(self._pace.promised_wait_s(*one.way) for one in held_back))

    def _stop_what_has_no_lane(self) -> None:
        # A lane that was closed takes blocks and never says that they have gone.
        for offer in self._offers.values():
            lanes = (offer.link.bulk, offer.link.direct_up)
            for serving in [one for one in offer.servings if one.giver not in lanes]:
                self._stop(offer, serving)

    def _send_soon(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._send)

    def _send_some(self, serving: _Serving) -> bool:
        """Hand out blocks of one request; False: none may go now."""
        room = self._pace.promised_room(*serving.way)
        spans: list[Span] = []
        # Blocks go out whole: the last one may overdraw what may go, and is waited for later.
        while serving.waiting and room > 0:
            spans.append(serving.waiting.popitem(last=False)[1])
            room -= spans[-1][3]
        if not spans:
            return False
        self._pace.keep_promise(*serving.way, _bytes_of(spans))
        serving.under_way = tuple(span[0] for span in spans)
        serving.giver.serve(serving.request, spans)
        return True


def _bytes_of(spans: Iterable[Span]) -> int:
    return sum(span[3] for span in spans)
