"""Answers what linked members ask for: what we have, blocks of it, manifests and outboards.

What is said and who is given what is decided in ``protocol/swarm/giving.py``; here are the files.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import Pace, RoomUploads
from dreamer.daemon.store.places import Location
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import ServeFailed, Span
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import Digest, ManifestId, RoomId, short
from dreamer.protocol.limits import (
    OBJECT_CACHE_S,
    OBJECT_PIECE_BYTES,
    OBJECT_REQUESTS_MAX_PER_LINK,
)
from dreamer.protocol.link.messages import GetObject, Message, ObjectPiece, Refuse
from dreamer.protocol.shaping.uploads import Slice
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.giving import Giving
from dreamer.protocol.swarm.giving_vocabulary import (
    Asked,
    Command,
    Failure,
    Say,
    SendBlocks,
    StopSending,
    Tell,
)

log = logging.getLogger(__name__)


class BlockPlaces(Protocol):
    """What serving needs of the store."""

    def locate_all(self, manifest: Manifest, blocks: Iterable[int]) -> list[Location] | None:
        """Return where verified blocks lie, in their order; None if one is nowhere."""
        ...

    def get_object(self, digest: Digest) -> bytes | None:
        """Return a manifest or outboard."""
        ...


class Serving(LinkListener):
    """One room's serving side; a listener of its links."""

    def __init__(
        self,
        room: RoomId,
        library: Library,
        places: BlockPlaces,
        damaged: Callable[[ManifestId], None],
        tasks: TaskSet,
        own_object: Callable[[Digest], bytes | None] = lambda digest: None,
        pace: Pace | None = None,
    ) -> None:
        """``damaged`` is told of a model whose file turned out to be shorter than it was.

        ``own_object`` returns what members may have beside the objects of models. ``pace`` is
        the node's one queue of uploads, for all its rooms.
        """
        self._room = room
        self._library = library
        self._places = places
        self._damaged = damaged
        self._tasks = tasks
        self._own_object = own_object
        self.uploads = RoomUploads(pace or Pace(), self._give)
        self.giving = Giving(self.uploads)
        self._links: dict[int, Link] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._objects_asked: dict[int, int] = {}
        self._object: tuple[Digest, bytes] | None = None
        for found in library.in_room(room):
            self._changed(room, found.manifest_id, found.blocks)
        library.listen(self._changed)

    def close(self) -> None:
        """Hear no more of what this node gains, and say none of it."""
        self._library.stop_listening(self._changed)
        self._stop_timer()

    # What is decided elsewhere

    def uses(self, link: Link) -> bool:
        """Return whether a member waits for blocks."""
        return self.giving.open_requests(link.number) > 0

    def link_down(self, link: Link, reason: str) -> None:
        """Forget what a member followed and asked for."""
        self.giving.link_down(link.number)
        self._links.pop(link.number, None)
        self._carry_out([])

    def lane_changed(self, link: Link) -> None:
        """Refuse what was to go over a relay that may carry no more."""
        self._carry_out(self.giving.lane_changed(link, time.monotonic()))

    def message(self, link: Link, message: Message) -> None:
        """Answer a request.

        Raises:
            RemoteProtocolError: it asks for what can't exist.
        """
        self._links[link.number] = link
        if isinstance(message, GetObject):
            self._get_object(link, message)
            return
        self._carry_out(self.giving.message(link, message, time.monotonic()))

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Go on with the next part of it; tell the peer when we could not keep our word."""
        asked = self.giving.asked(link.number, request)
        failure = self._look_into(asked, failed) if failed is not None else None
        self._carry_out(self.giving.sent(link.number, request, time.monotonic(), failure))
        if failed is not None and asked is not None and failure is Failure.DAMAGED:
            log.error("can't serve %s: %s", short(asked.model), failed.reason)
            self._damaged(asked.model)

    def _changed(self, room: RoomId, manifest_id: ManifestId, gained: int) -> None:
        if room != self._room:
            return
        found, now = self._library.find(room, manifest_id), time.monotonic()
        if found is None:
            said = self.giving.offer(manifest_id, None, 0, now)
        elif self.giving.offers(manifest_id):
            said = self.giving.gained(manifest_id, gained, now)
        else:
            count = found.manifest.block_count
            said = self.giving.offer(manifest_id, found.blocks, count, now)
        self._carry_out(said)

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self.giving.tick(time.monotonic()))

    # Carrying it out

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._perform(command)
        self.uploads.pace.settle()
        self._wake_later()

    def _perform(self, command: Command) -> None:
        if isinstance(command, Tell):
            for number in command.links:
                if (told := self._links.get(number)) is not None:
                    told.send(command.message)
            return
        link = self._links.get(command.link)
        if link is None:
            return
        match command:
            case Say(_, message):
                link.send(message)
            case SendBlocks():
                self._send_blocks(link, command)
            case StopSending(_, request, block):
                # Whichever of the two has the request; the other one does not know the number.
                number = -1 if block is None else block
                link.bulk.stop_serving(request, number)
                if link.direct_up is not None:
                    link.direct_up.stop_serving(request, number)

    def _send_blocks(self, link: Link, send: SendBlocks) -> None:
        # Looked up now: a file may have been finished, and moved, since it was asked for.
        spans = self._spans(send.model, send.blocks)
        carrier = link.direct_up if send.direct else link.bulk
        if spans is not None and carrier is not None:
            carrier.serve(send.request, spans)
            return
        now = time.monotonic()
        for command in self.giving.sent(link.number, send.request, now, Failure.LOST):
            self._perform(command)

    def _give(self, due: Slice) -> None:
        for command in self.giving.give(due):
            self._perform(command)

    def _wake_later(self) -> None:
        now = time.monotonic()
        wake = self.giving.next_wake(now)
        if wake == float("inf"):
            self._stop_timer()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(wake - now, 0.0), self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Files

    def _look_into(self, asked: Asked | None, failed: ServeFailed) -> Failure:
        """Return what has become of a file that could not be read."""
        if asked is None or not self.giving.offers(asked.model):
            return Failure.LOST
        spans = self._spans(asked.model, asked.blocks)
        if spans is not None and all(path != failed.path for _, path, _, _ in spans):
            return Failure.MOVED
        return Failure.DAMAGED

    def _spans(self, model: ManifestId, blocks: Sequence[int]) -> list[Span] | None:
        held = self._library.find(self._room, model)
        whole_run = bitfield.span(blocks[0], blocks[-1] + 1 - blocks[0])
        if held is None or whole_run & ~held.blocks:
            return None
        places = self._places.locate_all(held.manifest, blocks)
        if places is None:
            return None
        found = zip(blocks, places, strict=True)
        return [(block, str(place.path), place.offset, place.length) for block, place in found]

    # Objects

    def _get_object(self, link: Link, asked: GetObject) -> None:
        waiting = self._objects_asked.get(link.number, 0)
        if waiting >= OBJECT_REQUESTS_MAX_PER_LINK:
            link.send(Refuse(asked.request, True, "too many objects are asked for at once"))
            return
        self._objects_asked[link.number] = waiting + 1
        self._tasks.start(self._send_object(link, asked))

    async def _send_object(self, link: Link, asked: GetObject) -> None:
        try:
            data = await self._read_object(Digest(asked.digest))
        finally:
            self._objects_asked[link.number] -= 1
            if not self._objects_asked[link.number]:
                del self._objects_asked[link.number]
        if data is None or not 0 <= asked.offset <= len(data):
            link.send(Refuse(asked.request, False, "this node does not have the object"))
            return
        piece = data[asked.offset : asked.offset + OBJECT_PIECE_BYTES]
        link.send(ObjectPiece(asked.request, len(data), asked.offset, piece))

    async def _read_object(self, digest: Digest) -> bytes | None:
        """Return an object that a model offered here names; the last one is kept for a moment."""
        if (own := self._own_object(digest)) is not None:
            return own
        if self._library.object_owner(self._room, digest) is None:
            return None
        if self._object is not None and self._object[0] == digest:
            return self._object[1]
        try:
            data = await asyncio.to_thread(self._places.get_object, digest)
        except DreamerError as error:
            log.error("can't read object %s: %s", digest.hex(), error)
            return None
        if data is not None:
            self._object = (digest, data)
            asyncio.get_running_loop().call_later(OBJECT_CACHE_S, self._forget_object, digest)
        return data

    def _forget_object(self, digest: Digest) -> None:
        if self._object is not None and self._object[0] == digest:
            self._object = None
