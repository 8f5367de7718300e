"""The composition root: the one module that names concrete parts and puts a node together."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import aiohttp

from dreamer.daemon.chosen import ice_settings, pool_settings, relay_budgets, torrent_client
from dreamer.daemon.config import Config
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.embedded_tracker import embedded_tracker
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.inference.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest
from dreamer.daemon.links.lane_bytes import LaneBytes
from dreamer.daemon.links.link_rates import LinkRates
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.loop_lag import LoopLag
from dreamer.daemon.node import DreamerNode
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.origins import Origins
from dreamer.daemon.places import Places
from dreamer.daemon.process_lock import ProcessLock
from dreamer.daemon.rendezvous.signing import TrackerSigning
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.serve import load_token, serving
from dreamer.daemon.room.book import Membership, RoomBook
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.setting_checks import split_address
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.sharing.peer_lanes import source_named
from dreamer.daemon.sharing.public_swarms import PublicSwarms
from dreamer.daemon.sharing.pull_job import PullContext
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.pusher import Pusher, PusherParts
from dreamer.daemon.sharing.shared_pull import PullerParts
from dreamer.daemon.sharing.shelves import Shelves
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.topology import TopologyReader
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.daemon.torrent.seeding import Seeding, SeedingParts
from dreamer.daemon.torrent.vocabulary import SetLimits
from dreamer.daemon.torrent.writing import TorrentWriter
from dreamer.daemon.transport.client import Transport, process_count
from dreamer.daemon.transport.vocabulary import FromTransport
from dreamer.daemon.version import VERSION
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import ManifestId, RoomId, from_hex
from dreamer.protocol.relay_budget import BULK_HELD
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.swarm.vocabulary import Lane

log = logging.getLogger(__name__)


class Assembly:
    """Makes the parts of one node; the order of its methods is the order of dependence."""

    def __init__(self, config: Config, places: Places, http: aiohttp.ClientSession) -> None:
        self.config = config
        self.http = http
        self.name = config.node.name or socket.gethostname()
        self.identity = NodeIdentity.load_or_create(places.home)
        self.book = RoomBook(places.home, self.identity)
        self.state = State(places.state)
        self.store = Store(places.models_dir, self.state)
        self.library = Library()
        self.origins = Origins(self._signing)
        self.tasks = TaskSet()
        self.pace = Pace(config.sharing.limits(), config.sharing.upload_slots)
        self.loop_lag = LoopLag()
        self.direct: DirectEndpoint | None = None
        self.transport = Transport(
            self._transport_event, process_count(config.network.transport_processes)
        )
        self.torrents = Torrents(torrent_client(config), self.tasks)
        torrent = config.torrent
        self.publicity = Publicity(
            *(self.store, torrent.trackers, torrent.web_seeds, self.torrents.enabled),
            origin_is_public=torrent.origin_is_public,
        )
        self.seeding = Seeding(
            SeedingParts(
                *(self.torrents, self.publicity, self.store, self.library, self.tasks),
                uploaded=partial(self.pace.uploaded, Lane.TORRENT),
            )
        )
        self.pace.changed.append(self._limit_torrents)
        self._limit_torrents()
        self.pool = Pool(pool_settings(config))
        self.relays = Relays.load(relay_budgets(config), self.state, self.transport.send)
        self.lane_bytes = LaneBytes()
        self.link_rates = LinkRates()
        self.numbers = itertools.count(1)
        self.rng = Random(secrets.randbits(64))  # noqa: S311 - it spreads choices, guards nothing
        self.shelves = Shelves(self.store, self.state, self.library)
        self.runs = Runs(
            self.identity.node_id,
            self.name,
            self.store,
            self.state,
            self.pool,
            self.library.holds,
        )
        self.keeper = RoomKeeper(self.book, self._make_session, self.origins, self.tasks)

    def node(self, tracker_url: str | None) -> DreamerNode:
        """Return what the surfaces stand on."""
        puller = PullerParts(
            *(self.store, self.state, self.library, self.origins, self._pull_context, self.tasks),
            swarms=PublicSwarms(self.torrents, self.publicity, self.store),
        )
        pusher = PusherParts(
            *(self.store, self.state, self.library, self.origins, self.publicity),
            published=self.seeding.look,
            public_rooms=frozenset(
                RoomId(from_hex(room, "a room's id")) for room in self.config.torrent.public_rooms
            ),
        )
        node_puller = Puller(puller)
        return DreamerNode(
            name=self.name,
            identity=self.identity,
            store=self.store,
            state=self.state,
            library=self.library,
            rooms_kept=self.keeper,
            puller=node_puller,
            pusher=Pusher(pusher),
            runs=self.runs,
            pool=self.pool,
            transport=self.transport,
            relays=self.relays,
            lane_bytes=self.lane_bytes,
            loop_lag=self.loop_lag,
            seeding=self.seeding,
            torrent_writer=TorrentWriter(self.publicity, self.store, self.state, self.library),
            topologies=TopologyReader(
                *(self.identity.node_id, self.store, self.library, node_puller),
                *(self.relays, self.link_rates, self.config.sharing.limits()),
            ),
            started_at=time.time(),
            tracker_url=tracker_url,
        )

    async def close(self) -> None:
        """End everything but the state; each part has its own deadline."""
        self.seeding.close()
        await self.keeper.close()
        await asyncio.gather(self.pool.close(), self.tasks.close())
        await asyncio.to_thread(self.origins.close)
        self.store.close()

    def _limit_torrents(self) -> None:
        # libtorrent keeps the limits by itself; to it, none is 0.
        up, down = self.pace.limits(Lane.TORRENT)
        self.torrents.limit(SetLimits(int(up or 0), int(down or 0)))

    def _transport_event(self, event: FromTransport) -> None:
        self.relays.transport_event(event)
        self.keeper.transport_event(event)

    def _signing(self, card: RoomCard) -> TrackerSigning:
        trackers = partial(self.keeper.trackers, card.room_id)
        return TrackerSigning(card, trackers, asyncio.get_running_loop())

    def _capabilities(self) -> Json:
        return {
            "name": self.name,
            "version": VERSION,
            "serves": self.config.inference.serve_peers,
            BULK_HELD: 1,
        }

    def _make_session(self, membership: Membership) -> RoomSession:
        parts = RoomParts(
            identity=self.identity,
            http=self.http,
            transport=self.transport,
            state=self.state,
            places=self.store,
            library=self.library,
            ice=ice_settings(self.config),
            capabilities=self._capabilities,
            damaged=lambda manifest_id: self._check_later(manifest_id),
            numbers=self.numbers,
            rng=self.rng,
            tasks=self.tasks,
            pace=self.pace,
            mesh_links=self.config.network.mesh_links,
            direct=self.direct,
        )
        session = RoomSession(membership, parts)
        room = session.room_id
        session.fanout.add(self.relays.in_room(session.fanout, session.punish))
        session.fanout.add(self.lane_bytes)
        session.fanout.add(self.link_rates)
        asking = self.runs.asking[room] = OffloadAsking(self.numbers)
        session.fanout.add(asking)
        session.fanout.add(
            OffloadServing(
                lambda manifest_id, request: self._generate(room, manifest_id, request),
                lambda: self.config.inference.serve_peers,
                self.tasks,
            )
        )
        self.seeding.watch(session)
        session.at_close += [
            self.tasks.start(self.shelves.fill(room)).cancel,
            lambda: self.runs.asking.pop(room, None),
        ]
        return session

    def _generate(
        self, room: RoomId, manifest_id: ManifestId, request: GenerateRequest
    ) -> AsyncGenerator[Event, None]:
        return self.runs.generate(room, manifest_id, request)

    def _check_later(self, manifest_id: ManifestId) -> None:
        self.tasks.start(self.shelves.check(manifest_id))

    def _pull_context(self, session: RoomSession) -> PullContext:
        return PullContext(
            room=session.room_id,
            links=session.links,
            library=self.library,
            origin=self.origins.of(session.card),
            punish=session.punish,
            numbers=self.numbers,
            rng=self.rng,
            tasks=self.tasks,
            own=source_named(self.identity.node_id),
            pace=self.pace,
        )


async def _direct(config: Config) -> DirectEndpoint | None:
    network = config.network
    address = split_address(network.direct_listen)
    # With relay = "only" no address of this node may be told to anybody.
    if address is None or network.relay == "only":
        return None
    return await DirectEndpoint.open(*address, network.direct_addresses)


@asynccontextmanager
async def running_node(
    config: Config, places: Places, with_tracker: bool
) -> AsyncIterator[DreamerNode]:
    """Run a node while the context lasts; it accepts on its socket once this yields.

    Raises:
        LocalError: another daemon holds the home or the store, or a port is taken.
    """
    async with AsyncExitStack() as stack:
        lock = _hold_home(places)
        stack.callback(lock.close)
        tracker_url = None
        if with_tracker:
            beside = embedded_tracker(config.tracker, places)
            tracker_url = await stack.enter_async_context(beside)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        parts = Assembly(config, places, http)
        # Last of all: links that close still tell what relays have carried for them.
        stack.callback(parts.state.close)
        # The group ends the node if the transport ends by a bug of ours.
        group = await stack.enter_async_context(asyncio.TaskGroup())
        transport = group.create_task(parts.transport.run())
        stack.push_async_callback(_cancelled, transport)
        parts.direct = await _direct(config)
        if parts.direct is not None:
            stack.push_async_callback(parts.direct.close)
        stack.push_async_callback(parts.close)
        # The first command may be to offer a link, which can't wait for a process to start.
        await parts.transport.ready.wait()
        parts.keeper.start()
        parts.tasks.start(parts.pace.run())
        parts.tasks.start(parts.loop_lag.run())
        parts.tasks.start(parts.link_rates.run())
        node = parts.node(tracker_url)
        listen = config.api.listen
        token = load_token(_token_file(config, places)) if listen else None
        await stack.enter_async_context(
            serving(
                make_app(node, token),
                places.socket,
                socket_mode=int(config.api.socket_mode, 8),
                tcp=split_address(listen) if listen else None,
            )
        )
        yield node


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _token_file(config: Config, places: Places) -> Path:
    return Path(config.api.token_file) if config.api.token_file else places.api_token


def _hold_home(places: Places) -> ProcessLock:
    refusal = (
        f"the home {places.home} is in use by dreamerd with process id {{pid}}: stop that one "
        "first, or choose another --home"
    )
    try:
        places.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ProcessLock(places.lock, refusal)
    except OSError as error:
        raise LocalError(f"can't use the home {places.home}: {error}") from error
