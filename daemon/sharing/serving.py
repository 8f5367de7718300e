"""Answers what linked members ask for: what we have, blocks of it, manifests and outboards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Protocol

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.sharing.library import Library, Offering
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.store.places import Location
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import ServeFailed, Span
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import DreamerError, RemoteProtocolError
from dreamer.protocol.ids import Digest, ManifestId, RoomId, short
from dreamer.protocol.limits import (
    FOLLOWS_MAX_PER_LINK,
    OBJECT_CACHE_S,
    OBJECT_PIECE_BYTES,
    OBJECT_REQUESTS_MAX_PER_LINK,
    REQUEST_MAX_BLOCKS,
    REQUESTS_QUEUED_PER_PEER,
)
from dreamer.protocol.link.messages import (
    CancelWant,
    Follow,
    Gained,
    GetObject,
    Have,
    Message,
    ObjectPiece,
    Refuse,
    Unfollow,
    Want,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.tidings import flush_delay_s

log = logging.getLogger(__name__)


GAINED_RUNS_MAX = 32
"""A change in more runs than this is told as a whole bitfield."""

NOT_HELD = "this node does not have these blocks"
RELAY_SPENT = "the relay between us has used up its budget"

REQUEST_NUMBERS = range(1 << 32)
"""Request numbers fit the header of a bulk frame."""


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
        self._followers: dict[ManifestId, dict[int, Link]] = {}
        self._followed: dict[int, dict[ManifestId, None]] = {}
        self._requests: dict[int, dict[int, tuple[Offering, range]]] = {}
        self._pace = pace or Pace()
        self._unsaid: dict[ManifestId, int] = {}
        self._said_blocks = 0
        self._objects_asked: dict[int, int] = {}
        self._object: tuple[Digest, bytes] | None = None
        library.listen(self._gained)

    def close(self) -> None:
        """Hear no more of what this node gains."""
        self._library.stop_listening(self._gained)

    # Links

    def link_down(self, link: Link, reason: str) -> None:
        """Forget what a member followed and asked for."""
        gone = self._requests.pop(link.number, {})
        self._pace.forget(*((link.number, request) for request in gone))
        for manifest_id in list(self._followed.get(link.number, {})):
            self._unfollow(link, manifest_id)
        self._followed.pop(link.number, None)

    def lane_changed(self, link: Link) -> None:
        """Refuse what was to go over a relay that may carry no more."""
        if link.bulk_spent and link.direct_up is None:
            gone = self._requests.pop(link.number, {})
            self._pace.forget(*((link.number, request) for request in gone))
            for request in gone:
                link.bulk.stop_serving(request, -1)
                link.send(Refuse(request, True, RELAY_SPENT))

    def message(self, link: Link, message: Message) -> None:
        """Answer a request.

        Raises:
            RemoteProtocolError: it asks for what can't exist.
        """
        match message:
            case Follow(manifest):
                self._follow(link, ManifestId(manifest))
            case Unfollow(manifest):
                self._unfollow(link, ManifestId(manifest))
            case Want():
                self._want(link, message)
            case CancelWant(request, block):
                self._stop(link, request, block)
            case GetObject():
                self._get_object(link, message)

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Go on with the next part of it; tell the peer when we could not keep our word."""
        key = (link.number, request)
        asked = self._requests.get(link.number, {}).get(request)
        if failed is None:
            if self._pace.sent(key):
                self._requests.get(link.number, {}).pop(request, None)
            return
        self._forget(link, request)
        if asked is None:
            return
        offering, wanted = asked
        if self._library.find(self._room, offering.manifest_id) is None:
            # Withdrawn meanwhile: whoever looks after that model knows why.
            link.send(Refuse(request, False, NOT_HELD))
            return
        spans = self._spans(offering, wanted)
        if spans is not None and all(path != failed.path for _, path, _, _ in spans):
            # The file was finished and moved into the store meanwhile.
            link.send(Refuse(request, True, "ask again"))
            return
        log.error("can't serve %s: %s", short(offering.manifest_id), failed.reason)
        link.send(Refuse(request, False, "the blocks are damaged here"))
        self._damaged(offering.manifest_id)

    # Saying what we have

    def _follow(self, link: Link, manifest_id: ManifestId) -> None:
        followed = self._followed.setdefault(link.number, {})
        followed[manifest_id] = None
        if len(followed) > FOLLOWS_MAX_PER_LINK:
            raise RemoteProtocolError(f"it follows more than {FOLLOWS_MAX_PER_LINK} models")
        self._followers.setdefault(manifest_id, {})[link.number] = link
        self._say_have(link, manifest_id)

    def _unfollow(self, link: Link, manifest_id: ManifestId) -> None:
        self._followed.get(link.number, {}).pop(manifest_id, None)
        followers = self._followers.get(manifest_id, {})
        followers.pop(link.number, None)
        if not followers:
            self._followers.pop(manifest_id, None)

    def _say_have(self, link: Link, manifest_id: ManifestId) -> None:
        found = self._library.find(self._room, manifest_id)
        blocks = b""
        if found is not None:
            blocks = bitfield.encode(found.blocks, found.manifest.block_count)
        link.send(Have(manifest_id, blocks))

    def _gained(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        if room != self._room or not self._followers.get(manifest_id):
            return
        if not blocks:
            self._unsaid.pop(manifest_id, None)
            for link in self._followers[manifest_id].values():
                self._say_have(link, manifest_id)
            return
        if not self._unsaid:
            asyncio.get_running_loop().call_later(flush_delay_s(self._said_blocks), self._flush)
        self._unsaid[manifest_id] = self._unsaid.get(manifest_id, 0) | blocks

    def _flush(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        self._said_blocks = sum(blocks.bit_count() for blocks in unsaid.values())
        for manifest_id, blocks in unsaid.items():
            runs = list(islice(bitfield.runs(blocks, blocks.bit_length()), GAINED_RUNS_MAX + 1))
            for link in self._followers.get(manifest_id, {}).values():
                if len(runs) > GAINED_RUNS_MAX:
                    self._say_have(link, manifest_id)
                    continue
                for first, count in runs:
                    link.send(Gained(manifest_id, first, count))

    # Giving it

    def _want(self, link: Link, want: Want) -> None:
        found = self._library.find(self._room, want.manifest)
        if found is None:
            link.send(Refuse(want.request, False, "this node does not have the model"))
            return
        if not _well_formed(want, found.manifest.block_count):
            raise RemoteProtocolError(f"a request for {want.count} blocks from {want.first}")
        open_requests = self._requests.setdefault(link.number, {})
        if want.request in open_requests:
            raise RemoteProtocolError(f"a second request {want.request} beside the first")
        if len(open_requests) >= REQUESTS_QUEUED_PER_PEER:
            link.send(Refuse(want.request, True, "too many requests are open"))
            return
        if bitfield.span(want.first, want.count) & ~found.blocks:
            link.send(Refuse(want.request, False, NOT_HELD))
            return
        if reason := self._busy(link, want.direct):
            link.send(Refuse(want.request, True, reason))
            return
        wanted = range(want.first, want.first + want.count)
        open_requests[want.request] = (found, wanted)
        self._pace.ask(
            (link.number, want.request),
            link.peer,
            link.lane_of(direct=want.direct),
            wanted,
            partial(self._send_slice, link, want),
            lan=link.lan and want.direct,
        )

    def _busy(self, link: Link, direct: bool) -> str:
        """Return why a member can't be served at present; empty if it can."""
        if direct and link.direct_up is None:
            return "there is no direct connection any more"
        if link.bulk_spent and not direct:
            return RELAY_SPENT
        if not self._pace.admits(link.peer, link.lane_of(direct=direct), lan=link.lan and direct):
            return "all upload slots are taken"
        return ""

    def _send_slice(self, link: Link, want: Want, blocks: tuple[int, ...]) -> None:
        offering, _ = self._requests[link.number][want.request]
        # Looked up now: a file may have been finished, and moved, since it was asked for.
        spans = self._spans(offering, blocks)
        carrier = link.direct_up if want.direct else link.bulk
        if spans is None or carrier is None:
            self._forget(link, want.request)
            link.send(Refuse(want.request, carrier is None, NOT_HELD))
            return
        carrier.serve(want.request, spans)

    def _forget(self, link: Link, request: int) -> None:
        self._pace.forget((link.number, request))
        self._requests.get(link.number, {}).pop(request, None)

    def _stop(self, link: Link, request: int, block: int) -> None:
        if self._pace.stop((link.number, request), None if block < 0 else block):
            self._requests.get(link.number, {}).pop(request, None)
        # Whichever of the two has the request; the other one does not know the number.
        link.bulk.stop_serving(request, block)
        if link.direct_up is not None:
            link.direct_up.stop_serving(request, block)

    def _spans(self, asked: Offering, blocks: Sequence[int]) -> list[Span] | None:
        # What was offered when it was asked for may be withdrawn by now, for the disk lost it.
        held = self._library.find(self._room, asked.manifest_id)
        whole_run = bitfield.span(blocks[0], blocks[-1] + 1 - blocks[0])
        if held is None or whole_run & ~held.blocks:
            return None
        places = self._places.locate_all(asked.manifest, blocks)
        if places is None:
            return None
        found = zip(blocks, places, strict=True)
        return [(block, str(place.path), place.offset, place.length) for block, place in found]

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


def _well_formed(want: Want, block_count: int) -> bool:
    return (
        want.request in REQUEST_NUMBERS
        and 0 < want.count <= REQUEST_MAX_BLOCKS
        and 0 <= want.first <= block_count - want.count
    )
