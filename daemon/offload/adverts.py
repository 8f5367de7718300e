"""What members of a room run for this node, as they tell it, and what this one tells them.

``protocol.offload_adverts`` has the form. Looking costs little, so this looks each second for what
has changed instead of being told; a link that comes up is told at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.room.presence import understands_offload
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.link.messages import Message, Ping
from dreamer.protocol.link.offload_messages import Advert
from dreamer.protocol.offload_adverts import AdvertisedModel, Offering, pack, rounded, unpack
from dreamer.protocol.offload_limits import (
    OFFLOAD_ADVERT_INTERVAL_S,
    OFFLOAD_ADVERTS_MAX_PER_MINUTE,
    OFFLOAD_RTT_INTERVAL_S,
)


class Adverts(LinkListener):
    """One room's adverts; a listener of its links.

    ``offering`` says what this node runs for others, None for one that serves nobody; ``allowed``
    whether a peer may ask it: nobody else learns what runs here.
    """

    def __init__(
        self,
        offering: Callable[[], Offering | None],
        allowed: Callable[[Link], bool],
        links: Callable[[], Iterable[Link]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._offering = offering
        self._allowed = allowed
        self._links = links
        self._clock = clock
        self._heard: dict[int, Offering] = {}
        self._heard_at: dict[int, deque[float]] = {}
        self._told: dict[int, Offering] = {}
        self._pinged_at: dict[int, float] = {}

    def of(self, link: Link, manifest_id: ManifestId) -> tuple[Offering, AdvertisedModel] | None:
        """Return what a peer said of a model; None: it did not name it."""
        offering = self._heard.get(link.number)
        model = offering.of(manifest_id) if offering else None
        return (offering, model) if offering and model else None

    def heard(self, link: Link) -> Offering | None:
        """Return all that a peer said it runs."""
        return self._heard.get(link.number)

    async def run(self) -> None:
        """Tell what changes, until cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(OFFLOAD_ADVERT_INTERVAL_S)

    def tell(self) -> None:
        """Tell every peer that may ask what is not what it was told last."""
        offering = self._offering()
        offering = None if offering is None else rounded(offering)
        for link in self._links():
            self._tell(link, offering)

    def link_up(self, link: Link) -> None:
        """Tell a new peer."""
        offering = self._offering()
        self._tell(link, None if offering is None else rounded(offering))

    def link_down(self, link: Link, reason: str) -> None:
        """Forget what was said over a link."""
        for known in (self._heard, self._heard_at, self._told, self._pinged_at):
            known.pop(link.number, None)

    def message(self, link: Link, message: Message) -> None:
        """Hear an advert."""
        if not isinstance(message, Advert):
            return
        times = self._heard_at.setdefault(link.number, deque())
        now = self._clock()
        times.append(now)
        while now - times[0] > 60.0:
            times.popleft()
        if len(times) > OFFLOAD_ADVERTS_MAX_PER_MINUTE:
            raise RemoteProtocolError(f"it sent {len(times)} adverts in a minute")
        self._heard[link.number] = unpack(message.news)
        if now - self._pinged_at.get(link.number, -OFFLOAD_RTT_INTERVAL_S) > OFFLOAD_RTT_INTERVAL_S:
            # Links in use are not pinged, yet the round trip is part of every estimate.
            self._pinged_at[link.number] = now
            link.send(Ping(int(now * 1e6)))

    def _tell(self, link: Link, offering: Offering | None) -> None:
        if not understands_offload(link.capabilities):
            return
        # One that may ask no more is told that there is nothing.
        mine = offering if offering is not None and self._allowed(link) else Offering()
        if mine != self._told.get(link.number, Offering()):
            self._told[link.number] = mine
            link.send(Advert(pack(mine)))
