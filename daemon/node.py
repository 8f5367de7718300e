"""A running node behind the port that every surface uses (``ports.Node``)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dreamer.daemon.costs.reading import CostReader
from dreamer.daemon.costs.reporting import NodeReports
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.inference.metrics import pool_metrics
from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.links.lane_bytes import LaneBytes
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.loop_lag import LoopLag
from dreamer.daemon.metrics import Metric, render
from dreamer.daemon.node_metrics import node_metrics
from dreamer.daemon.offload.node_inference import NodeInference
from dreamer.daemon.ports import (
    MeetingText,
    PeerInfo,
    PullEvent,
    PushEvent,
    RoomInfo,
    TorrentFileEvent,
)
from dreamer.daemon.room.catalogue import RoomCatalogue
from dreamer.daemon.room.connecting import make_offer, take_text
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.model_infos import ModelInfos
from dreamer.daemon.room.offload_rules import RoomOffloadRules
from dreamer.daemon.room.presence import serves
from dreamer.daemon.room.retention import RoomRetention
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.caches import NodeCaches
from dreamer.daemon.sharing.held_models import find_held
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.pusher import Pusher
from dreamer.daemon.sharing.uploads import Uploads
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.daemon.topology import TopologyReader
from dreamer.daemon.torrent.seeding import Seeding
from dreamer.daemon.torrent.writing import TorrentWriter
from dreamer.daemon.transport.client import Transport
from dreamer.daemon.version import VERSION
from dreamer.daemon.worker.readiness import NodeReadiness
from dreamer.daemon.worker.starting import EPHEMERAL
from dreamer.protocol import topology
from dreamer.protocol.errors import LocalError, NoMatchError, StaleError
from dreamer.protocol.ids import ManifestId, NodeId, short
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, RemoveAlias
from dreamer.protocol.registry.expectation import ANY, Expected

log = logging.getLogger(__name__)


@dataclass
class DreamerNode:
    """What a node does for its user; see ``ports.Node`` for each call."""

    name: str
    identity: NodeIdentity
    store: Store
    state: State
    library: Library
    rooms_kept: RoomKeeper
    puller: Puller
    pusher: Pusher
    inference: NodeInference
    pool: Pool
    transport: Transport
    relays: Relays
    lane_bytes: LaneBytes
    costs: CostReader
    cost_metrics: Callable[[], Iterable[Metric]]
    reports: NodeReports
    loop_lag: LoopLag
    seeding: Seeding
    uploads: Uploads
    torrent_writer: TorrentWriter
    topologies: TopologyReader
    infos: ModelInfos
    catalogue: RoomCatalogue
    readiness: NodeReadiness
    caches: NodeCaches
    retention: RoomRetention
    offload_rules: RoomOffloadRules
    started_at: float
    tracker_url: str | None
    pushing: int = 0
    """Pushes that are being hashed, published or followed."""

    async def status(self) -> dict[str, Any]:
        """Return the node's state, ready for JSON. Times in seconds, sizes in bytes."""
        usage = await asyncio.to_thread(self.store.usage)
        return {
            "node_id": self.identity.node_id.hex(),
            "name": self.name,
            "version": VERSION,
            "uptime_s": time.time() - self.started_at,
            "worker": asdict(self.readiness.worker),
            "readiness": asdict(self.readiness.info()),
            "tracker": self.tracker_url,
            "rooms": [asdict(room) for room in self.rooms()],
            "store": {"path": str(self.store.root), **asdict(usage)},
            "pulls": [asdict(pull) for pull in self.puller.under_way()],
            "bytes_by_lane": self.costs.moved_by_lane(),
            "links": sum(len(session.links.links) for session in self.rooms_kept.sessions),
            "inference": {"loaded": [asdict(model) for model in self.pool.loaded()]},
            "relay": self.relays.status(self._name_of),
            "torrent": self.seeding.status(),
            "uploads": self.uploads.status(),
            "loop_lag": asdict(self.loop_lag.summary()),
            "cost_alerts": [asdict(alert) for alert in self.costs.alerts.standing()],
            "bans": [short(ban.node_id) for ban in self.state.bans(time.time())],
        }

    async def metrics(self) -> str:
        """Return what is counted, in Prometheus' text format."""
        node = node_metrics(await self.status(), self.lane_bytes)
        models = pool_metrics(
            *(self.inference.pool(), self.inference.statistics()),
            *(self.pool.totals(), self.pool.durations),
        )
        return render([*node, *self.cost_metrics(), *models, *self.inference.metrics()])

    def _name_of(self, node: NodeId) -> str:
        names = (session.name_of(node) for session in self.rooms_kept.sessions)
        return next((name for name in names if name), "")

    def rooms(self) -> list[RoomInfo]:
        """Return this node's rooms."""
        return self.rooms_kept.infos()

    async def create_room(
        self,
        name: str,
        trackers: list[str],
        origin: str | None,
        endpoint_url: str | None,
        no_tracker: bool = False,
        registry: str = "tracker",
    ) -> RoomInfo:
        """Make a room; where no trackers are given, at the one that runs beside this node."""
        if not trackers and not no_tracker and self.tracker_url is not None:
            trackers = [self.tracker_url]
        return await self.rooms_kept.create(
            name, trackers, origin, endpoint_url, no_tracker, registry
        )

    async def invite(self, room: str, roles: list[str], expires_s: float, uses: int) -> str:
        """Return a join token."""
        return self.rooms_kept.invite(room, roles, expires_s, uses)

    async def join_room(self, token: str) -> RoomInfo:
        """Become a member."""
        return await self.rooms_kept.join(token)

    async def leave_room(self, room: str) -> None:
        """Forget a room; content stays."""
        await self.reports.leaving(self.rooms_kept.get(room))
        left = await self.rooms_kept.leave(room)
        self.uploads.forget_room(left)
        self.state.drop_room(left)

    async def remove_member(self, room: str, node: str) -> str:
        """End a membership; return the id of the node that was a member."""
        return (await self.rooms_kept.get(room).remove_member(node)).hex()

    async def offer_link(self, room: str | None) -> MeetingText:
        """Return an offer for another machine."""
        return await make_offer(self.rooms_kept, room)

    async def take_meeting_text(self, text: str) -> MeetingText | PeerInfo:
        """Answer an offer, or link to who answered ours."""
        taken = await take_text(self.rooms_kept, self.identity.node_id, text)
        return taken if isinstance(taken, MeetingText) else self._peer(*taken)

    async def push(self, room: str | None, request: PushRequest) -> AsyncIterator[PushEvent]:
        """Publish a file or directory."""
        session = self.rooms_kept.get(room)
        self.pushing += 1
        try:
            async with aclosing(self.pusher.push(session, request)) as events:
                async for event in events:
                    yield event
        finally:
            self.pushing -= 1

    async def pull(
        self, ref: str, room: str | None, output: Path | None
    ) -> AsyncIterator[PullEvent]:
        """Fetch a model."""
        session, model = await self.rooms_kept.find(ref, room)
        async with aclosing(self.puller.pull(session, model, output)) as events:
            async for event in events:
                yield event

    async def torrent(
        self, ref: str, room: str | None, output: Path | None
    ) -> AsyncIterator[TorrentFileEvent]:
        """Write a model's torrent file."""
        session, model = await self.rooms_kept.find(ref, room)
        async with aclosing(self.torrent_writer.write(session, model, output)) as events:
            async for event in events:
                yield event

    async def models(self, room: str | None, query: str = "") -> list[ModelInfo]:
        """Return the models of the rooms that a query means, the newest first."""
        return await self.infos.list(room, query)

    async def peers(self, room: str | None) -> list[PeerInfo]:
        """Return the members present or linked."""
        return [
            self._peer(session, node)
            for session in self.rooms_kept.some(room)
            for node in dict.fromkeys(
                [*session.present, *(link.peer for link in session.links.links)]
            )
            if node != self.identity.node_id
        ]

    async def topology(self, room: str | None) -> dict[str, Any]:
        """Return a room as this node knows it."""
        return topology.to_json(await self.topologies.read(self.rooms_kept.get(room)))

    async def set_alias(
        self, room: str | None, alias: str, ref: str, expected: str | None = None
    ) -> ModelInfo:
        """Point an alias at a model."""
        session, model = await self.rooms_kept.find(ref, room)
        seen: Expected = ANY
        if expected is not None:
            seen = None if expected == "none" else await _expected(session, alias, expected)
        changed = await session.registry.change(MoveAlias(alias, model.manifest_id, seen))
        return await self.infos.of(
            session, changed.registry.models[model.manifest_id], changed.registry
        )

    async def remove_alias(self, room: str | None, alias: str) -> None:
        """Remove an alias."""
        await self.rooms_kept.get(room).registry.change(RemoveAlias(alias))

    async def change_tags(
        self, room: str | None, ref: str, add: list[str], remove: list[str]
    ) -> ModelInfo:
        """Add and remove tags."""
        session, model = await self.rooms_kept.find(ref, room)
        change = ChangeTags(model.manifest_id, tuple(add), tuple(remove))
        changed = await session.registry.change(change)
        return await self.infos.of(
            session, changed.registry.models[model.manifest_id], changed.registry
        )

    async def remove(self, ref: str, room: str | None) -> int:
        """Remove this node's copy of a model; return the bytes freed."""
        manifest_id, name = await find_held(self.rooms_kept, self.store, ref, room)
        if self.puller.is_pulling(manifest_id):
            raise LocalError(f"{name} is being pulled: wait for that, or stop it")
        if self.uploads.holds(manifest_id):
            raise LocalError(
                f"{name} is not uploaded yet ('dreamer status' says why): wait for that"
            )
        await asyncio.to_thread(self.store.require_removable, manifest_id)
        await self.pool.evict(manifest_id.hex())
        self.library.withdraw_everywhere(manifest_id)
        freed = await asyncio.to_thread(self.store.forget, manifest_id)
        self.state.drop_model(manifest_id)
        return freed

    def _peer(self, session: RoomSession, node: NodeId) -> PeerInfo:
        link = session.links.link(node)
        said = session.said_by(node)
        capabilities = link.capabilities if link else said or {}
        return PeerInfo(
            node_id=node.hex(),
            name=session.name_of(node),
            room=session.card.name,
            present=said is not None,
            linked=link is not None,
            lane=link.lane.value if link else None,
            spent=link is not None and link.spent,
            bytes_down=link.bytes_down if link else 0,
            bytes_up=link.bytes_up if link else 0,
            serves=("generate",) if serves(capabilities) else (),
            rtt_ms=round(link.rtt_s * 1000, 3) if link and link.rtt_s is not None else None,
            ephemeral=capabilities.get(EPHEMERAL) is True,
        )


async def _expected(session: RoomSession, alias: str, ref: str) -> ManifestId:
    """Return the model that an alias is expected to mean.

    Raises:
        StaleError: the room has no such model, so the alias can't mean it.
    """
    try:
        return (await session.resolve(ref)).manifest_id
    except NoMatchError as error:
        raise StaleError(
            f"{alias!r:.80} can't mean what was expected: {error}; look again, then decide"
        ) from error
