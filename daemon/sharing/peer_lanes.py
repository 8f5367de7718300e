"""The linked members as sources of one pull, whatever carries their blocks.

Requests go over ``control``; the blocks come over the link's own bulk channel or a direct
connection beside it. Which of the two is said in each request, so that both ends agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dreamer.daemon.links.link import Link, LinkListener, Taker
from dreamer.daemon.store.download import Download as StoredDownload
from dreamer.daemon.transport.vocabulary import REJECTED, VERIFIED
from dreamer.protocol.errors import DiskError, DreamerError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.link.messages import (
    CancelWant,
    Follow,
    Gained,
    Have,
    Message,
    Refuse,
    Unfollow,
    Want,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Event,
    Fetch,
    RequestRefused,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
    SourceMoved,
)


def source_named(node: NodeId) -> SourceId:
    """Return how the planner names a member."""
    return SourceId(node.hex())


def source_of(link: Link) -> SourceId:
    """Return how the planner names a linked member."""
    return source_named(link.peer)


class PeerLanes(LinkListener):
    """All members that one pull asks; it hears of their links from the pull."""

    def __init__(
        self,
        manifest_id: ManifestId,
        download: StoredDownload,
        core: Download,
        feed: Callable[[Event], None],
        failed: Callable[[DreamerError], None],
    ) -> None:
        self._manifest_id = manifest_id
        self._download = download
        self._layout = download.manifest.layout
        self._core = core
        self._feed = feed
        self._failed = failed
        self._links: dict[SourceId, Link] = {}
        self._asked: dict[tuple[SourceId, int], tuple[Link, Taker]] = {}
        self._answered: set[int] = set()
        self._idle: set[int] = set()
        self._whole: dict[int, NodeId] = {}

    def answered(self, link: Link) -> bool:
        """Return whether a member has said what it holds."""
        return link.number in self._answered

    def idle(self, link: Link) -> bool:
        """Return whether a member has said that it neither holds nor fetches any of it."""
        return link.number in self._idle

    def whole(self) -> list[NodeId]:
        """Return the linked members that have said that they hold everything."""
        return list(self._whole.values())

    def fetch(self, command: Fetch) -> None:
        """Ask a member; one that is gone meanwhile has been reported as lost."""
        link = self._links.get(command.source)
        if link is None:
            return
        link.want_direct()
        carrier = link.carrier
        if carrier is None:
            return
        self._asked[command.source, command.request] = (link, carrier)
        spans = []
        for block in range(command.first, command.first + command.count):
            place = self._download.target(block)
            digest = self._download.outboard.hash_of(block)
            spans.append((block, str(place.path), place.offset, place.length, bytes(digest)))
        carrier.expect(command.request, spans)
        numbers = (command.request, self._manifest_id, command.first, command.count)
        link.send(Want(*numbers, carrier is link.direct))

    def cancel(self, command: Cancel) -> None:
        """Take back a request or a block of it."""
        asked = self._asked.get((command.source, command.request))
        if asked is None:
            return
        link, carrier = asked
        block = -1 if command.block is None else command.block
        if not self._core.is_open(command.source, command.request):
            # The planner has called off all that was left, of which this may be the first block.
            block = -1
            del self._asked[command.source, command.request]
        carrier.stop_expecting(command.request, block)
        link.send(CancelWant(command.request, block))

    def close(self) -> None:
        """Take back every request."""
        for (_, request), (link, carrier) in self._asked.items():
            carrier.stop_expecting(request, -1)
            link.send(CancelWant(request, -1))
        self._asked.clear()

    def leave(self, links: Iterable[Link]) -> None:
        """Tell members that we need not know any more what they hold."""
        for link in links:
            link.send(Unfollow(self._manifest_id))

    def link_up(self, link: Link) -> None:
        """Ask a member what it holds."""
        link.send(Follow(self._manifest_id))

    def link_down(self, link: Link, reason: str) -> None:
        """Do without a member."""
        self._links.pop(source_of(link), None)
        self._whole.pop(link.number, None)
        self._idle.discard(link.number)
        self._feed(SourceLost(source_of(link)))
        self._asked = {key: asked for key, asked in self._asked.items() if asked[0] is not link}

    def waits_on(self, link: Link) -> bool:
        """Return whether blocks that a member was asked for are still to come."""
        return any(asked is link for asked, _ in self._asked.values())

    def lane_changed(self, link: Link) -> None:
        """Ask a member over its new lane from now on; what was asked over the old one is void."""
        source = source_of(link)
        if source not in self._links:
            return
        for (asked, request), (_, carrier) in list(self._asked.items()):
            if asked == source:
                carrier.stop_expecting(request, -1)
                link.send(CancelWant(request, -1))
                del self._asked[asked, request]
        self._feed(SourceMoved(source, link.asked_over, link.carrier is not None, link.lan))

    def message(self, link: Link, message: Message) -> None:
        """Take what concerns this model.

        Raises:
            RemoteProtocolError: what it says can't be.
        """
        source = source_of(link)
        match message:
            case Have(manifest, blocks) if manifest == self._manifest_id:
                held = bitfield.decode(blocks, self._layout.block_count) if blocks else 0
                self._answered.add(link.number)
                self._links[source] = link
                if held:
                    link.want_direct()
                everything = bitfield.full(self._layout.block_count)
                # Only who pulls a model offers a part of it, be it none yet.
                fetching = bool(blocks) and held != everything
                self._note(link, idle=not blocks, whole=held == everything)
                self._feed(SourceJoined(source, link.asked_over, held, fetching, link.lan))
                if link.carrier is None:
                    self._feed(SourceMoved(source, link.asked_over, False, link.lan))
            case Gained(manifest, first, count) if manifest == self._manifest_id:
                if first < 0 or count < 1 or first + count > self._layout.block_count:
                    raise RemoteProtocolError("it gained blocks that the model does not have")
                self._feed(SourceGained(source, bitfield.span(first, count)))
            case Refuse(request, busy, _) if asked := self._asked.pop((source, request), None):
                asked[1].stop_expecting(request, -1)
                self._feed(RequestRefused(source, request, busy))
            case Refuse(request, False, _):
                # It refused that before because it was busy, and is not any more.
                self._feed(RequestRefused(source, request, busy=False))

    def _note(self, link: Link, *, idle: bool, whole: bool) -> None:
        self._idle.discard(link.number)
        self._whole.pop(link.number, None)
        if idle:
            self._idle.add(link.number)
        if whole:
            self._whole[link.number] = link.peer

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """Take a block's verdict."""
        source = source_of(link)
        if (source, request) not in self._asked:
            return
        if verdict == REJECTED:
            self._feed(BlockRejected(source, request, block))
        elif verdict == VERIFIED or self._core.present >> block & 1:
            # A second copy may come after the file was finished and moved: that is no failure.
            self._feed(BlockVerified(source, request, block))
            self._settle(source, request)
        else:
            self._failed(
                DiskError(verdict, "make room and run the pull again, what is here is kept")
            )

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Note that a member is alive."""
        self._feed(BytesArrived(source_of(link), size_bytes))

    def _settle(self, source: SourceId, request: int) -> None:
        if not self._core.is_open(source, request):
            self._asked.pop((source, request), None)
