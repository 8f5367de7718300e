"""Members that are linked tell one another of their copies of the room's registry.

Where the room has a tracker and it can be reached, that one counts and nothing is learned here.
Where it keeps the registry in its bucket, which tells nobody, it is read again; a member's copy is
taken only while the bucket is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from blake3 import blake3

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import Digest, short
from dreamer.protocol.link.gossip import GOSSIP
from dreamer.protocol.link.messages import Message, RegistryIs
from dreamer.protocol.registry_limits import (
    REGISTRY_LEARN_INTERVAL_MAX_S,
    REGISTRY_LEARN_INTERVAL_S,
    REGISTRY_MAX_BYTES,
)

log = logging.getLogger(__name__)


class RegistryExchange(LinkListener):
    """One room's exchange. ``learn`` takes a copy (``RegistryClient.learn``), when ``wanted``.

    ``look`` reads the registry where it is kept and returns whether it has changed, None if it
    can't be reached.
    """

    def __init__(
        self,
        objects: ObjectFetcher,
        learn: Callable[[bytes], Awaitable[bool]],
        wanted: Callable[[], bool],
        tasks: TaskSet,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        look: Callable[[], Awaitable[bool | None]] | None = None,
    ) -> None:
        self._look = look
        self._objects = objects
        self._learn = learn
        self._wanted = wanted
        self._tasks = tasks
        self._sleep = sleep
        self._links: dict[int, Link] = {}
        # The copy before is still being fetched by somebody while the next one is told of.
        self._held: list[tuple[Digest, bytes]] = []
        self._fetching: dict[int, Digest | None] = {}

    def hold(self, document: bytes) -> None:
        """Tell all members of this copy, which is now ours, and give it to who asks."""
        digest = Digest(blake3(document).digest())
        if self._held and self._held[-1][0] == digest:
            return
        self._held = [*self._held[-1:], (digest, document)]
        for link in self._links.values():
            link.send(RegistryIs(digest))

    def get(self, digest: Digest) -> bytes | None:
        """Return a copy that others were told of."""
        return next((data for known, data in self._held if known == digest), None)

    def link_up(self, link: Link) -> None:
        """Tell the new neighbour of our copy."""
        # A node of an older version takes an unknown message for a fault.
        if GOSSIP in link.capabilities:
            self._links[link.number] = link
            if self._held:
                link.send(RegistryIs(self._held[-1][0]))

    def link_down(self, link: Link, reason: str) -> None:
        """Forget it."""
        self._links.pop(link.number, None)

    def message(self, link: Link, message: Message) -> None:
        """Fetch a neighbour's copy if it is not the same as ours."""
        if not isinstance(message, RegistryIs) or not self._wanted():
            return
        digest = Digest(message.digest)
        if self.get(digest) is not None:
            return
        # One at a time from each: of what it tells meanwhile only the last is worth fetching.
        busy = link.number in self._fetching
        self._fetching[link.number] = digest
        if not busy:
            self._tasks.start(self._fetch(link))

    async def _fetch(self, link: Link) -> None:
        pause_s = REGISTRY_LEARN_INTERVAL_S
        try:
            while (digest := self._fetching.get(link.number)) is not None:
                self._fetching[link.number] = None
                news = await self._fetch_one(link, digest)
                # A document takes a while to judge, and a member may tell of any number: whoever
                # goes on telling of what is no news, or no document, is heard ever more seldom.
                pause_s = REGISTRY_LEARN_INTERVAL_S if news else 2 * pause_s
                await self._sleep(min(pause_s, REGISTRY_LEARN_INTERVAL_MAX_S))
        finally:
            del self._fetching[link.number]

    async def _fetch_one(self, link: Link, digest: Digest) -> bool:
        """Return whether a neighbour's copy had anything new."""
        try:
            if self._look is not None and (news := await self._look()) is not None:
                return news
            data = await self._objects.fetch(link, digest, REGISTRY_MAX_BYTES)
            learned = await self._learn(data)
        except DreamerError as error:
            log.info("nothing learned of the registry of %s: %s", short(link.peer), error)
            return False
        if learned:
            log.info("learned of changes of the registry from %s", short(link.peer))
        return learned
