"""Makes the parts of a node and puts them together: the one module that names the concrete ones."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
import time
from functools import partial
from random import Random

import aiohttp

from dreamer.daemon.chosen import (
    ice_settings,
    pool_settings,
    relay_budgets,
    store_limits,
    torrent_client,
)
from dreamer.daemon.config import Config
from dreamer.daemon.costs.parts import CostParts
from dreamer.daemon.costs.reporting import NodeReports, ReportParts
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.links.lane_bytes import LaneBytes
from dreamer.daemon.links.link_rates import LinkRates
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.loop_lag import LoopLag
from dreamer.daemon.node import DreamerNode
from dreamer.daemon.offload.candidates import Scout
from dreamer.daemon.offload.in_rooms import OffloadInRooms
from dreamer.daemon.offload.known_models import KnownModels
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.node_inference import NodeInference
from dreamer.daemon.offload.payload_files import PayloadFolder
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.offload.servables import Servables
from dreamer.daemon.origins import Origins
from dreamer.daemon.places import Places
from dreamer.daemon.rendezvous.signing import TrackerSigning
from dreamer.daemon.room.book import Membership, RoomBook
from dreamer.daemon.room.catalogue import RoomCatalogue
from dreamer.daemon.room.collecting import RoomGarbage
from dreamer.daemon.room.expiry import ExpiryWatch
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.model_infos import ModelInfos
from dreamer.daemon.room.offload_rules import RoomOffloadRules
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.presence import SERVES
from dreamer.daemon.room.retention import RoomRetention
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.caches import CacheParts, NodeCaches
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.sharing.peer_lanes import source_named
from dreamer.daemon.sharing.public_swarms import PublicSwarms
from dreamer.daemon.sharing.pull_job import PullContext
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.pusher import Pusher, PusherParts
from dreamer.daemon.sharing.shared_pull import PullerParts
from dreamer.daemon.sharing.shelves import Shelves
from dreamer.daemon.sharing.uploads import Uploads
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
from dreamer.daemon.worker.joining import Joining
from dreamer.daemon.worker.node_models import ModelsOfNode
from dreamer.daemon.worker.readiness import NodeReadiness
from dreamer.daemon.worker.starting import EPHEMERAL, Starting
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import ManifestId, RoomId, from_hex
from dreamer.protocol.link.offload_messages import OFFLOAD, OFFLOAD_VERSION
from dreamer.protocol.registry.view import Model
from dreamer.protocol.relay_budget import BULK_HELD
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.swarm.vocabulary import Lane

log = logging.getLogger(__name__)


class Assembly:
    """Makes the parts of one node; the order of its methods is the order of dependence."""

    def __init__(
        self, config: Config, places: Places, http: aiohttp.ClientSession, starting: Starting
    ) -> None:
        self.config = config
        self.starting = starting
        self.http = http
        self.name = config.node.name or socket.gethostname()
        self.identity = NodeIdentity.load_or_create(places.home)
        self.book = RoomBook(places.home, self.identity)
        self.state = State(places.state)
        self.store = Store(places.models_dir, self.state, store_limits(config))
        self.payloads = PayloadFolder(places.tensors)
        self.library = Library()
        # What others hear of. An ephemeral worker has the same models, and tells of none.
        self.shared = Library() if starting.worker.ephemeral else self.library
        self.readiness = NodeReadiness(starting.worker)
        self.costs = CostParts(config.cost, self.state, self.library)
        self.origins = Origins(self._signing, self.costs.accounts.meter)
        self.tasks = TaskSet()
        self.pace = Pace(config.sharing.limits(), config.sharing.upload_slots)
        self.loop_lag = LoopLag()
        self.direct: DirectEndpoint | None = None
        self.transport = Transport(
            self._transport_event, process_count(config.network.transport_processes)
        )
        self._make_torrents(config, starting)
        self.pool = Pool(pool_settings(config))
        self.relays = Relays.load(relay_budgets(config), self.state, self.transport.send)
        self.relays.paid = self.costs.relayed
        self.lane_bytes = LaneBytes()
        self.link_rates = LinkRates()
        self.numbers = itertools.count(1)
        self.rng = Random(secrets.randbits(64))  # noqa: S311 - it spreads choices, guards nothing
        self._make_sharing(config)

    def _make_torrents(self, config: Config, starting: Starting) -> None:
        self.torrents = Torrents(torrent_client(config, starting.worker), self.tasks)
        torrent = config.torrent
        self.publicity = Publicity(
            *(self.store, torrent.trackers, torrent.web_seeds, self.torrents.enabled),
            origin_is_public=torrent.origin_is_public,
        )
        self.seeding = Seeding(
            SeedingParts(
                *(self.torrents, self.publicity, self.store, self.shared, self.tasks),
                uploaded=partial(self.pace.uploaded, Lane.TORRENT),
                gave=self.costs.seeded,
            )
        )
        self.pace.changed.append(self._limit_torrents)
        self._limit_torrents()

    def _make_sharing(self, config: Config) -> None:
        """Make what stands between a room and the store."""
        self.reports = NodeReports(
            ReportParts(
                *(self.identity.node_id, self.name, self.costs.ledger, self.shared, self.state),
                *(lambda: config.inference.serve_peers, self.rng, self.tasks),
            )
        )
        self.shelves = Shelves(self.store, self.state, self.library)
        self.local_models = LocalModels(self.store, self.state, self.pool, self.library.holds)
        self._make_offload(config)
        self.uploads = Uploads(
            *(self.store, self.state, self.origins, self.tasks),
            origin_by_name=config.torrent.origin_is_public,
        )
        self.keeper = RoomKeeper(self.book, self._make_session, self.origins, self.tasks)
        if not self.starting.preload_only:
            KnownModels(self.pool, self.library, self.keeper).begin()
        libraries = tuple(dict.fromkeys((self.library, self.shared)))
        self.caches = NodeCaches(
            CacheParts(self.store, self.state, libraries, self.keeper, self.pool, self.name)
        )

    def _make_offload(self, config: Config) -> None:
        """Make what runs models here for others, and on others for this node."""
        node_id, offload = self.identity.node_id, config.offload
        self.runs = Runs(
            *(node_id, self.name, self.local_models),
            Scout(node_id, self.local_models, offload.ask, self.tasks),
            offload.first_token_timeout_s,
        )
        self.offload = OffloadInRooms(
            *(node_id, self.local_models, self.runs, self.library, self.numbers, self.tasks),
            self.payloads,
            lambda: config.inference.serve_peers,
            offload.serve_roles,
            pace=self.pace,
        )

    def node(self, tracker_url: str | None) -> DreamerNode:
        """Return what the surfaces stand on."""
        puller = PullerParts(
            *(self.store, self.state, self.library, self.origins, self._pull_context, self.tasks),
            swarms=PublicSwarms(self.torrents, self.publicity, self.store),
            accounts=self.costs.accounts,
        )
        pusher = PusherParts(
            *(self.store, self.state, self.library, self.origins, self.publicity),
            published=self.seeding.look,
            uploads=self.uploads,
            shares=not self.starting.worker.ephemeral,
            public_rooms=frozenset(
                RoomId(from_hex(room, "a room's id")) for room in self.config.torrent.public_rooms
            ),
        )
        node_puller = Puller(puller)
        infos = ModelInfos(self.keeper, self.library, self.state)
        self._begin_readiness(node_puller)
        return DreamerNode(
            name=self.name,
            identity=self.identity,
            store=self.store,
            state=self.state,
            library=self.library,
            rooms_kept=self.keeper,
            puller=node_puller,
            pusher=Pusher(pusher),
            inference=NodeInference(
                Servables(self.keeper, self.library.holds, self.readiness.serving, self.tasks),
                *(self.local_models, self.runs),
            ),
            pool=self.pool,
            transport=self.transport,
            relays=self.relays,
            lane_bytes=self.lane_bytes,
            costs=self.costs.reader(self.identity.node_id, self.name, self.keeper),
            cost_metrics=self.costs.metrics,
            reports=self.reports,
            loop_lag=self.loop_lag,
            seeding=self.seeding,
            uploads=self.uploads,
            torrent_writer=TorrentWriter(self.publicity, self.store, self.state, self.library),
            infos=infos,
            catalogue=RoomCatalogue(self.keeper, infos),
            topologies=TopologyReader(
                *(self.identity.node_id, self.store, self.library, node_puller),
                *(self.relays, self.link_rates, self.config.sharing.limits()),
            ),
            readiness=self.readiness,
            caches=self.caches,
            offload_rules=RoomOffloadRules(self.keeper),
            retention=RoomRetention(self.keeper, RoomGarbage(self.origins, self.uploads.lifetimes)),
            started_at=time.time(),
            tracker_url=tracker_url,
        )

    def _begin_readiness(self, puller: Puller) -> None:
        settings, starting = self.config.models, self.starting
        models = ModelsOfNode(
            *(self.keeper, puller, self.pool, self.store, self.readiness.wake, settings.room),
            run=not starting.preload_only,
        )
        joining = Joining(self.keeper, starting.invitation, self.rng, self.readiness.changed)
        self.readiness.begin(joining, models, settings, self.rng)

    async def close(self) -> None:
        """End everything but the state; each part has its own deadline."""
        self.seeding.close()
        # While its rooms still know what it holds.
        await self.reports.last()
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
            OFFLOAD: OFFLOAD_VERSION,
            SERVES: self.config.inference.serve_peers,
            BULK_HELD: 1,
            **({EPHEMERAL: True} if self.starting.worker.ephemeral else {}),
        }

    def _make_session(self, membership: Membership) -> RoomSession:
        parts = RoomParts(
            identity=self.identity,
            http=self.http,
            transport=self.transport,
            state=self.state,
            places=self.store,
            library=self.shared,
            ice=ice_settings(self.config),
            capabilities=self._capabilities,
            damaged=lambda manifest_id: self._check_later(manifest_id),
            numbers=self.numbers,
            rng=self.rng,
            tasks=self.tasks,
            pace=self.pace,
            mesh_links=self.config.network.mesh_links,
            direct=self.direct,
            registry_at=self.origins.registry,
        )
        session = RoomSession(membership, parts)
        room = session.room_id
        session.fanout.add(self.relays.in_room(session.fanout, session.punish))
        session.fanout.add(self.lane_bytes)
        session.fanout.add(self.costs.served)
        session.fanout.add(self.link_rates)
        self.offload.watch(session)
        self.seeding.watch(session)
        self.caches.watch(session)
        self.uploads.watch(session)
        self.reports.watch(session)
        session.at_close += [
            self.tasks.start(self.shelves.fill(room)).cancel,
            self.tasks.start(ExpiryWatch(session, self.keeper, self.store).run()).cancel,
            lambda: self.library.withdraw_room(room),
        ]
        return session

    def _check_later(self, manifest_id: ManifestId) -> None:
        self.tasks.start(self.shelves.check(manifest_id))

    def _pull_context(self, session: RoomSession, model: Model) -> PullContext:
        return PullContext(
            room=session.room_id,
            links=session.links,
            library=self.library,
            origin=self.origins.of_model(session.card, model),
            punish=session.punish,
            numbers=self.numbers,
            rng=self.rng,
            tasks=self.tasks,
            own=source_named(self.identity.node_id),
            pace=self.pace,
            accounts=self.costs.accounts,
        )
