"""One room's registry at this node: where it is kept, and what other members tell of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dreamer.daemon.room.local_documents import LocalDocuments
from dreamer.daemon.room.registry_client import DocumentStore, RegistryClient
from dreamer.daemon.room.registry_exchange import RegistryExchange
from dreamer.daemon.room.registry_view import RegistryView
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.state import CachedRegistry, State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.registry.changes import Author
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.rooms.card import RoomCard

log = logging.getLogger(__name__)


class RoomRegistry:
    """The registry's client, its view for readers, and its exchange with linked members.

    ``at_trackers`` is where it is kept, if the room has trackers; ``tracker_there`` says whether
    one can be reached now.
    """

    def __init__(
        self,
        card: RoomCard,
        state: State,
        at_trackers: DocumentStore,
        author: Author,
        judge: VerifyMember,
        objects: ObjectFetcher,
        tracker_there: Callable[[], bool],
        tasks: TaskSet,
    ) -> None:
        self._card = card
        self._state = state
        self._loop = asyncio.get_running_loop()
        self.exchange = RegistryExchange(objects, self._learn, lambda: not tracker_there(), tasks)
        store = at_trackers if card.trackers else LocalDocuments(card.room_id, state)
        self.client = RegistryClient(
            *(card.room_id, store, author, judge), seen=self._seen(), keep=self._keep
        )
        self.view = RegistryView(card.name, self.client, tasks)

    def _seen(self) -> Document | None:
        cached = self._state.registry(self._card.room_id)
        if cached is None:
            return None
        try:
            seen = parse(cached.document, self._card.room_id)
        except DreamerError as error:
            log.warning("the cached registry of %s is damaged: %s", self._card.name, error)
            return None
        self.exchange.hold(cached.document)
        return seen

    def _keep(self, document: bytes, etag: str) -> None:
        self._state.put_registry(self._card.room_id, CachedRegistry(etag, document))
        # This is a thread of the registry's client.
        self._loop.call_soon_threadsafe(self.exchange.hold, document)

    async def _learn(self, data: bytes) -> bool:
        learned = await self.client.learn(data)
        if learned:
            self.view.moved()
        return learned
