"""One room's registry at this node: where it is kept, and what other members tell of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

from dreamer.daemon.room.bucket_documents import BlockingDocument, BucketDocuments
from dreamer.daemon.room.local_documents import LocalDocuments
from dreamer.daemon.room.registry_client import Deliver, DocumentStore, RegistryClient
from dreamer.daemon.room.registry_exchange import RegistryExchange
from dreamer.daemon.room.registry_view import RegistryView
from dreamer.daemon.sharing.objects import ObjectFetcher
from dreamer.daemon.state import CachedRegistry, State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.registry.changes import Author
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.rooms.card import RegistryPlace, RoomCard

log = logging.getLogger(__name__)


class RoomRegistry:
    """The registry's client, its view for readers, and its exchange with linked members.

    ``at_trackers`` is where it is kept, if the room has trackers and no other place;
    ``tracker_there`` says whether one can be reached now. ``at_origin`` returns the document in
    the room's bucket; ``writes`` says whether this node may change the registry, ``deliver`` takes
    reports of one that may not.
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
        at_origin: Callable[[], BlockingDocument] | None = None,
        writes: bool = True,
        deliver: Deliver | None = None,
    ) -> None:
        self._card = card
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self.bucket: BucketDocuments | None = None
        """The registry in the room's bucket, for a room that keeps it there."""
        if card.registry is RegistryPlace.ORIGIN and at_origin is not None:
            self.bucket = BucketDocuments(card.name, at_origin())
        at_bucket = self.bucket is not None
        self.exchange = RegistryExchange(
            *(objects, self._learn, lambda: at_bucket or not tracker_there(), tasks),
            look=self._look if at_bucket else None,
        )
        at_members = LocalDocuments(card.room_id, state)
        store = self.bucket or (at_trackers if card.trackers else at_members)
        self.client = RegistryClient(
            *(card.room_id, store, author, judge),
            seen=self._seen(),
            keep=self._keep,
            writes=writes,
            deliver=deliver,
        )
        self.view = RegistryView(card.name, self.client, tasks)

    def follow(self, rng: Random) -> Callable[[], object]:
        """Look now and then into a bucket, which tells nobody; return what ends all following."""
        if self.bucket is None:
            return self.view.close
        # Where there is a tracker that may sign for this node, its coming up is waited for.
        if not self._card.trackers:
            self.view.moved()
        looking = self._tasks.start(self.bucket.look(self.view.moved, rng))

        def end() -> None:
            looking.cancel()
            self.view.close()

        return end

    async def prove(self) -> None:
        """Make sure that many can write the registry where it is kept; see ``BucketDocuments``."""
        if self.bucket is not None:
            await self.bucket.prove()

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

    async def _look(self) -> bool | None:
        """Read the registry; return whether it has changed, None if its bucket can't be reached."""
        before = self.view.latest
        try:
            verified = await self.view.read()
        except DreamerError:
            # A member's copy is all the more welcome to who has none.
            verified = None
        if self.bucket is not None and self.bucket.away:
            return None
        return verified is not None and (before is None or verified.serial > before.serial)

    async def _learn(self, data: bytes) -> bool:
        learned = await self.client.learn(data)
        if learned:
            self.view.moved()
        return learned
