"""The one port that every surface (REST, CLI, Python client) stands on: what a node can do.

``app.py`` provides it with real parts; the tests of the surfaces provide a small one of their own.
All calls are coroutines or async iterators on the daemon's event loop; long work yields progress
and ends with its receipt. Closing an iterator cancels the work, which can be taken up again later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from dreamer.daemon.surfaces.caches import Caches, VerifyReceipt
from dreamer.daemon.surfaces.catalogue import Catalogue, ModelInfo
from dreamer.daemon.surfaces.costs import Costs
from dreamer.daemon.surfaces.inference import Inference
from dreamer.daemon.surfaces.offload_rules import OffloadRules
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.daemon.surfaces.readiness import Readiness
from dreamer.daemon.surfaces.retention import Retention

Lane = Literal["cache", "direct", "webrtc", "relay", "torrent", "origin"]
LANES: tuple[Lane, ...] = ("cache", "direct", "webrtc", "relay", "torrent", "origin")


@dataclass(frozen=True)
class TrackerInfo:
    """A tracker of a room; ``error`` says why this node is not connected to it, if it tried."""

    url: str
    connected: bool
    error: str | None = None


@dataclass(frozen=True)
class RoomInfo:
    """A room this node belongs to. ``origin`` is ``s3://bucket/prefix`` or None.

    ``connected`` says whether any tracker is; ``tracker_states`` how each of them stands.
    ``advice`` is what has yet to be done before a room just made can be used in full; else empty.
    ``registry`` is where its registry is kept: ``tracker``, ``origin``, or by all ``members``.
    """

    name: str
    room_id: str
    roles: tuple[str, ...]
    trackers: tuple[str, ...]
    origin: str | None
    endpoint_url: str | None
    connected: bool
    tracker_states: tuple[TrackerInfo, ...] = ()
    advice: str = ""
    registry: str = "tracker"


@dataclass(frozen=True)
class PeerInfo:
    """A member of a room that is present or linked. Bytes are payload of the bulk lanes.

    ``spent``: the relay below its link has used up a budget, and carries no blocks.
    ``ephemeral``: it gives nothing to others, and goes when its work is done.
    """

    node_id: str
    name: str
    room: str
    present: bool
    linked: bool
    lane: str | None
    bytes_down: int
    bytes_up: int
    serves: tuple[str, ...]
    rtt_ms: float | None
    spent: bool = False
    ephemeral: bool = False


@dataclass(frozen=True)
class MeetingText:
    """A text to carry to another machine, by which two nodes link with no tracker.

    ``node`` is for whom an answer is (hex); an offer is for anybody in the room, None.
    """

    kind: Literal["offer", "answer"]
    text: str
    room: str
    node: str | None
    expires_s: float


@dataclass(frozen=True)
class Progress:
    """How far a push or pull is: ``done`` of ``total`` bytes in this ``phase``.

    Phases of a push: ``hash``, ``torrent`` (only of a public model), ``publish``, ``upload``; of a
    pull: ``resolve``, ``verify``, ``fetch``, ``finish``, and ``paused`` while it can't go on: then
    ``note`` says why and what would help; of making a torrent file: ``torrent``.
    ``by_lane`` holds bytes fetched so far. An upload counts parts, too, of which each is sent and
    checked by itself.
    """

    phase: str
    done: int
    total: int
    rate_bytes_s: float = 0.0
    by_lane: dict[Lane, int] = field(default_factory=dict)
    note: str = ""
    parts_done: int = 0
    parts_total: int = 0


@dataclass(frozen=True)
class PullInfo:
    """A pull under way, as ``status`` shows it."""

    name: str
    manifest_id: str
    room: str
    progress: Progress


@dataclass(frozen=True)
class PushReceipt:
    """What a push published. ``uploaded`` counts bytes sent to the origin by this push.

    ``saved`` is by how much files were larger that were sent compressed. ``origin_state`` is
    ``stored`` once the origin has all of it, ``queued`` while it does not: then ``origin_error``
    says why, if an attempt has failed, and the node goes on by itself. Empty without an origin.

    ``expires_at`` (epoch seconds) is when a temporary upload ends. Of a public model: its magnet
    link, and where its torrent file is on this machine, and both of the companion for clients that
    can't read hybrid torrents; else empty.
    """

    manifest_id: str
    short_id: str
    name: str
    room: str
    size_bytes: int
    files: int
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    seconds: float
    uploaded: int
    origin: str | None
    magnet: str = ""
    torrent: str = ""
    magnet_v1: str = ""
    torrent_v1: str = ""
    saved: int = 0
    origin_state: str = ""
    origin_error: str = ""
    expires_at: float | None = None


@dataclass(frozen=True)
class PullReceipt:
    """What a pull moved, bytes and seconds by lane; ``resumed`` bytes were on disk already.

    ``saved``: so many bytes fewer than the files have came from the origin, which keeps text
    compressed.
    """

    manifest_id: str
    short_id: str
    name: str
    path: str
    size_bytes: int
    seconds: float
    bytes: dict[Lane, int]
    lane_seconds: dict[Lane, float]
    resumed: int
    peers: dict[str, int]
    blamed: tuple[str, ...] = ()
    saved: int = 0


@dataclass(frozen=True)
class TorrentReceipt:
    """The torrent of a model that is whole here; ``path`` is where its torrent file was written.

    Hashes are hex, of the hybrid torrent. Of a model that is not ``public`` neither the magnet link
    nor the file names a tracker.
    """

    manifest_id: str
    short_id: str
    name: str
    room: str
    public: bool
    info_hash_v1: str
    info_hash_v2: str
    magnet: str
    path: str


PushEvent = Progress | PushReceipt
PullEvent = Progress | PullReceipt
TorrentFileEvent = Progress | TorrentReceipt
VerifyEvent = Progress | VerifyReceipt


class Node(Protocol):
    """What a running node does for its user. Every call raises a DreamerError on failure."""

    @property
    def readiness(self) -> Readiness:
        """Whether it is ready for its work."""
        ...

    @property
    def inference(self) -> Inference:
        """Models run here, or on peers."""
        ...

    @property
    def offload_rules(self) -> OffloadRules:
        """Who in its rooms may have whom run models."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """What its rooms' registries tell beyond their lists of models."""
        ...

    @property
    def caches(self) -> Caches:
        """Its store: what is kept, why, and what may go."""
        ...

    @property
    def costs(self) -> Costs:
        """What it moved and paid."""
        ...

    @property
    def retention(self) -> Retention:
        """What its rooms keep, and the garbage at their origins."""
        ...

    async def status(self) -> dict[str, Any]:
        """Return id, name, version, uptime, rooms, store, lanes, inference: ready for JSON."""
        ...

    async def metrics(self) -> str:
        """Return what is counted, in Prometheus' text format."""
        ...

    def rooms(self) -> list[RoomInfo]:
        """Return the rooms this node is a member of, by name."""
        ...

    async def create_room(
        self,
        name: str,
        trackers: list[str],
        origin: str | None,
        endpoint_url: str | None,
        no_tracker: bool = False,
        registry: str = "tracker",
    ) -> RoomInfo:
        """Make a room whose key this node holds, and register it with its trackers, if any."""
        ...

    async def invite(self, room: str, roles: list[str], expires_s: float, uses: int) -> str:
        """Return a join token."""
        ...

    async def join_room(self, token: str) -> RoomInfo:
        """Redeem a join token at the room's tracker and become a member."""
        ...

    async def leave_room(self, room: str) -> None:
        """Forget a room; content stays in the store."""
        ...

    async def remove_member(self, room: str, node: str) -> str:
        """End the membership of a node, by its id or the start of it; return the whole id."""
        ...

    async def offer_link(self, room: str | None) -> MeetingText:
        """Return an offer for another machine, and wait for its answer."""
        ...

    async def take_meeting_text(self, text: str) -> MeetingText | PeerInfo:
        """Answer an offer; or link to the node that answered ours, and return who it is."""
        ...

    def push(self, room: str | None, request: PushRequest) -> AsyncIterator[PushEvent]:
        """Hash, store, sign and publish a file or directory; upload it to the room's origin."""
        ...

    def pull(self, ref: str, room: str | None, output: Path | None) -> AsyncIterator[PullEvent]:
        """Fetch a model and lay it out as a directory."""
        ...

    def torrent(
        self, ref: str, room: str | None, output: Path | None
    ) -> AsyncIterator[TorrentFileEvent]:
        """Write the torrent file of a model that is whole here; nothing is seeded or published."""
        ...

    async def models(self, room: str | None, query: str = "") -> list[ModelInfo]:
        """Return what the rooms' registries name, or what of it a query means."""
        ...

    async def peers(self, room: str | None) -> list[PeerInfo]:
        """Return members present or linked."""
        ...

    async def topology(self, room: str | None) -> dict[str, Any]:
        """Return a room as this node knows it, for the simulator (``protocol.topology``)."""
        ...

    async def set_alias(
        self, room: str | None, alias: str, ref: str, expected: str | None = None
    ) -> ModelInfo:
        """Point an alias at a model, moving it if it exists.

        ``expected`` says what it must mean now: a reference, or ``none``; None: anything.
        """
        ...

    async def remove_alias(self, room: str | None, alias: str) -> None:
        """Remove an alias."""
        ...

    async def change_tags(
        self, room: str | None, ref: str, add: list[str], remove: list[str]
    ) -> ModelInfo:
        """Add and remove tags of a model."""
        ...

    async def remove(self, ref: str, room: str | None) -> int:
        """Remove this node's copy of a model; return the bytes freed. The registry is unchanged."""
        ...
