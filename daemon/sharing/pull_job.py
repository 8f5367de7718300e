"""One pull under way: drives the planner with what the links, the origin and the disk report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from dreamer.daemon.costs.account import Accounts
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.ports import Progress
from dreamer.daemon.sharing.lane_clock import LaneClock
from dreamer.daemon.sharing.lanes import BlockLane
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.listening_clock import ListeningClock
from dreamer.daemon.sharing.moved import Moved
from dreamer.daemon.sharing.origin_lane import ORIGIN, OriginLane
from dreamer.daemon.sharing.peer_lanes import PeerLanes, source_named
from dreamer.daemon.sharing.torrent_lane import TORRENT, TorrentLane
from dreamer.daemon.store.download import Download as StoredDownload
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DiskError, DreamerError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import TORRENT_SETTLE_S
from dreamer.protocol.link.messages import Message
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.asking import DownPace
from dreamer.protocol.swarm.download import NAMELESS, Download
from dreamer.protocol.swarm.gathering import Named
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlocksFound,
    BlockVerified,
    Cancel,
    Command,
    Complete,
    CrowdSeen,
    Drop,
    Event,
    Fetch,
    FileFinished,
    FinishFile,
    GiveUp,
    Lane,
    Share,
    SourceId,
    SourceJoined,
    Tick,
)

LANES_NOTED_EVERY_S = 0.05


@dataclass(frozen=True)
class PullContext:
    """What a pull needs of its node and room."""

    room: RoomId
    links: RoomLinks
    library: Library
    origin: Origin | None
    punish: Callable[[NodeId, str], None]
    numbers: Iterator[int]
    rng: Random
    tasks: TaskSet
    own: SourceId = NAMELESS
    pace: DownPace | None = None
    accounts: Accounts | None = None


class PullJob(LinkListener):
    """Moves one model into the store; a listener of its room's links while it runs."""

    def __init__(
        self, context: PullContext, manifest_id: ManifestId, download: StoredDownload
    ) -> None:
        self._context = context
        self._manifest_id = manifest_id
        self._download = download
        self._layout = download.manifest.layout
        self._now = ListeningClock()
        self._core = Download(
            *(self._layout, download.present, context.numbers, context.rng, self._now()),
            own=context.own,
            pace=context.pace,
        )
        self._clock = LaneClock(self._now())
        self._meter = RateMeter()
        self._blamed: list[str] = []
        self._asked: dict[SourceId, None] = {}
        accounts = context.accounts
        self._account = accounts.of(context.room, manifest_id) if accounts else None
        self.lacks = ""
        """Why the planner gave up, if it did, for a person."""
        self._peers = PeerLanes(manifest_id, download, self._core, self.feed, self._fail)
        self._origin: OriginLane | None = None
        # Sources that are not members; all others are asked over their links.
        self._lanes: dict[SourceId, BlockLane] = {}
        if context.origin is not None:
            self._origin = OriginLane(
                context.origin,
                download,
                self._core.is_open,
                self.feed,
                self._fail,
                context.tasks,
            )
            self._lanes[ORIGIN] = self._origin
        download.on_lost = self._fail
        self._torrent: TorrentLane | None = None
        # Until a swarm has answered, or has had its time, the origin waits for it.
        self._swarm_until = self._now() + TORRENT_SETTLE_S
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._noted_at = float("-inf")

    async def run(self) -> None:
        """Fetch what is missing; return when every file is whole and in the store.

        Raises:
            RemoteError: nobody can give what is missing; what is here stays for the next try.
            LocalError: the disk is full or failed; likewise.
        """
        manifest = self._download.manifest
        self._context.library.offer(
            self._context.room, self._manifest_id, manifest, self._core.present
        )
        try:
            self._perform(self._core.start(self._now()))
            if self._origin is not None:
                everything = bitfield.full(manifest.block_count)
                self.feed(SourceJoined(ORIGIN, Lane.ORIGIN, everything))
            for link in self._context.links.links:
                self.link_up(link)
            await self._keep_time()
        finally:
            self._release()
            if self._torrent is not None:
                # What it has in hand must not be written into files that are somebody else's next.
                await self._torrent.closed()
            self._tell_account()

    def feed(self, event: Event) -> None:
        """Give the planner an event and do what it says."""
        if self._torrent is not None and self._torrent.holds_back(event):
            return
        if not self._ended.done():
            now = self._now()
            if isinstance(event, BlockVerified):
                self._count(event.block, now)
            commands = self._core.handle(event, now)
            self._perform(commands)
            if commands and now >= self._noted_at + LANES_NOTED_EVERY_S:
                self._note_lanes(now)

    def _count(self, block: int, now: float) -> None:
        self._meter.add(self._layout.block_size(block), now)
        self._download.landed(block, self._core.present)
        if same := self._download.same(block):
            # Files with the same bytes lie at one place: their blocks came along. Said first,
            # so that nobody is asked for them meanwhile.
            found = BlocksFound(sum(1 << other for other in same))
            self._perform(self._core.handle(found, now))

    @property
    def present(self) -> int:
        """The set of blocks that are verified and on disk."""
        return self._core.present

    @property
    def has_origin(self) -> bool:
        """Whether there is an origin to turn to."""
        return self._origin is not None

    @property
    def asking(self) -> bool:
        """Whether somebody is being waited for at this moment."""
        return bool(self._core.busy_lanes())

    @property
    def alone(self) -> bool:
        """Whether no member that is linked has said what it holds."""
        return not any(self._peers.answered(link) for link in self._context.links.links)

    @property
    def helped(self) -> bool:
        """Whether anybody was any good: a member that was asked and sent nothing wrong, or the
        origin, if blocks came from it.
        """
        members = (one for one in self._asked if one not in self._lanes)
        return any(one not in self._blamed for one in members) or any(
            self._core.bytes_by_source.values()
        )

    def unanswered(self) -> bool:
        """Return whether a linked member, or a swarm, has yet to say what it holds."""
        if any(not self._peers.answered(link) for link in self._context.links.links):
            return True
        waits = self._now() < self._swarm_until
        return waits and not (self._torrent is not None and self._torrent.settled)

    def named(self, found: Named) -> None:
        """Take the names of those that hold the model or fetch it."""
        committee = found.committee
        chosen = None if committee is None else tuple(map(source_named, committee))
        self.feed(CrowdSeen(tuple(map(source_named, found.nodes)), chosen))

    def concerns(self, link: Link) -> bool:
        """Return whether a member holds or fetches the model, or has yet to say."""
        return not self._peers.idle(link)

    def whole(self) -> list[NodeId]:
        """Return the linked members that hold everything."""
        return self._peers.whole()

    def deserted(self) -> bool:
        """Return whether those who fetch for a large crowd have brought nothing for long."""
        return self._core.deserted

    def join_swarm(self, lane: TorrentLane) -> None:
        """Ask the model's public swarm, too."""
        self._torrent = self._lanes[TORRENT] = lane
        if self._ended.done():
            lane.close()

    def without_swarm(self) -> None:
        """Wait for no swarm: there is none, or it can't be joined."""
        self._swarm_until = 0.0

    def progress(self, phase: str) -> Progress:
        """Return how far the pull is."""
        total = self._download.manifest.size_bytes
        done = total - self._core.missing_bytes
        return Progress(phase, done, total, self._meter.bytes_per_s, self.moved().by_lane)

    def moved(self) -> Moved:
        """Return what was moved so far."""
        moved = Moved(seconds=self._clock.seconds(), blamed=list(self._blamed))
        for lane, size in self._core.bytes_by_lane.items():
            moved.by_lane[lane.value] += size
        moved.by_lane["cache"] = self._download.cached_bytes
        if self._origin is not None:
            # A block that somebody else brought meanwhile is counted as theirs.
            moved.saved = min(self._origin.saved_bytes, moved.by_lane["origin"])
            moved.by_lane["origin"] -= moved.saved
        moved.by_peer = {
            str(source): size
            for source, size in self._core.bytes_by_source.items()
            if source not in self._lanes
        }
        return moved

    def gave_to_swarm(self, size_bytes: int) -> None:
        """Count what the swarm was given while the model is fetched from it."""
        if self._account is not None:
            self._account.gave(Lane.TORRENT, size_bytes)

    def _tell_account(self) -> None:
        # Now and at the end, whatever that is: what was moved for a pull that fails is paid for.
        if self._account is not None:
            self._account.moved(self._core.bytes_by_lane)

    def _note_lanes(self, now: float) -> None:
        self._clock.note(self._core.busy_lanes(), now)
        self._noted_at = now

    async def _keep_time(self) -> None:
        # Not woken by events: a thousand blocks a second would each cost a look at the timers.
        while not self._ended.done():
            now = self._now()
            await asyncio.wait([self._ended], timeout=self._core.next_wake(now) - now)
            self.feed(Tick())
            self._tell_account()
        self._note_lanes(self._now())
        self._ended.result()

    def _release(self) -> None:
        if not self._ended.done():
            self._ended.cancel()
        for lane in (*self._lanes.values(), self._peers):
            lane.close()
        self._peers.leave(self._context.links.links)

    def _fail(self, error: DreamerError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    # What links report

    def link_up(self, link: Link) -> None:
        """Ask a member what it holds."""
        self._peers.link_up(link)

    def link_down(self, link: Link, reason: str) -> None:
        """Do without a member."""
        self._peers.link_down(link, reason)

    def waits_on(self, link: Link) -> bool:
        """Return whether blocks that a member was asked for are still to come."""
        return self._peers.waits_on(link)

    def lane_changed(self, link: Link) -> None:
        """Go on over another lane."""
        self._peers.lane_changed(link)

    def message(self, link: Link, message: Message) -> None:
        """Take what concerns this model.

        Raises:
            RemoteProtocolError: what it says can't be.
        """
        self._peers.message(link, message)

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """Take a block's verdict."""
        self._peers.block_done(link, request, block, verdict)

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Note that a member is alive."""
        self._peers.bytes_arrived(link, size_bytes)

    # What the planner wants

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Fetch(source):
                    self._asked[source] = None
                    self._lane(source).fetch(command)
                case Cancel(source):
                    self._lane(source).cancel(command)
                case Blame(source, block):
                    self._blame(source, block)
                case Drop(source) if link := self._link(source):
                    self._context.links.drop(link.peer, "it stopped sending")
                case Share(blocks):
                    self._context.library.offer(
                        self._context.room, self._manifest_id, self._download.manifest, blocks
                    )
                case FinishFile(file_index):
                    self._context.tasks.start(self._finish_file(file_index))
                case Complete() if not self._ended.done():
                    self._ended.set_result(None)
                case GiveUp(reason):
                    self._give_up(reason)

    def _lane(self, source: SourceId) -> BlockLane:
        return self._lanes.get(source, self._peers)

    def _link(self, source: SourceId) -> Link | None:
        if source in self._lanes:
            return None
        return self._context.links.link(NodeId(bytes.fromhex(source)))

    def _blame(self, source: SourceId, block: int) -> None:
        self._blamed.append(source)
        if source not in self._lanes:
            self._context.punish(NodeId(bytes.fromhex(source)), f"sent a bad block {block}")

    async def _finish_file(self, file_index: int) -> None:
        try:
            await asyncio.to_thread(self._download.finish_file, file_index)
        except DreamerError as error:
            self._fail(error)
        except OSError as error:
            self._fail(DiskError(f"can't keep a file of the model: {error}", "pull it again"))
        else:
            self.feed(FileFinished(file_index))

    def _give_up(self, reason: str) -> None:
        self.lacks = reason
        hint = "start a node that has the model and run the pull again; what is here is kept"
        if self._origin is not None and self._origin.last_error:
            reason = f"{reason} ({self._origin.last_error})"
        self._fail(RemoteError(f"{reason}: {hint}"))
