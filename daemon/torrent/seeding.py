"""Which models this node gives to anybody: those a room calls public, as far as they are whole."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library, Offering
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.links import stored_paths
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    RemoveTorrent,
    SwarmSeen,
    TorrentEvent,
    TorrentFailed,
)
from dreamer.protocol.canonical import Json
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, RoomId, short
from dreamer.protocol.limits import TORRENT_SEEDS_LOOK_S
from dreamer.protocol.registry.view import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedingParts:
    """What seeding needs of its node."""

    torrents: Torrents
    publicity: Publicity
    store: Store
    library: Library
    tasks: TaskSet
    uploaded: Callable[[int], None] = lambda size_bytes: None
    """Told how many bytes strangers were given."""
    gave: Callable[[RoomId, ManifestId, int], None] = lambda room, manifest_id, size_bytes: None
    """Told the same by model, and by the first of the rooms that call it public."""


@dataclass
class Seed:
    """A public model in its swarm and its companion's, for the rooms that call it public."""

    numbers: tuple[int, int]
    rooms: dict[RoomId, None]
    peers: dict[int, int] = field(default_factory=dict)
    up_bytes: int = 0


class Seeding:
    """All models that a node seeds; ``up_bytes`` counts what strangers were given."""

    def __init__(self, parts: SeedingParts) -> None:
        self._parts = parts
        self._wakers: dict[RoomId, asyncio.Event] = {}
        self._seeds: dict[ManifestId, Seed] = {}
        self._stop = threading.Event()
        self.up_bytes = 0
        parts.library.listen(self._library_changed)

    @property
    def seeds(self) -> dict[ManifestId, Seed]:
        """What is seeded now."""
        return dict(self._seeds)

    def status(self) -> Json:
        """Return what is seeded and where, ready for JSON; ``port`` is 0 while none is open."""
        return {
            "port": self._parts.torrents.port,
            "seeding": [short(manifest_id) for manifest_id in self._seeds],
            "peers": sum(sum(seed.peers.values()) for seed in self._seeds.values()),
            "bytes_up": self.up_bytes,
        }

    def watch(self, session: RoomSession) -> None:
        """Seed a room's public models until the room is left."""
        if not self._parts.torrents.enabled:
            return
        self._wakers[session.room_id] = asyncio.Event()
        session.registry_changed.append(lambda: self.look(session.room_id))
        watching = self._parts.tasks.start(self._watch(session))

        def leave() -> None:
            watching.cancel()
            self._wakers.pop(session.room_id, None)
            for manifest_id in list(self._seeds):
                self._drop(session.room_id, manifest_id)

        session.at_close.append(leave)

    def look(self, room: RoomId) -> None:
        """Look at a room's registry soon: it has changed, or what is held here has."""
        if waker := self._wakers.get(room):
            waker.set()

    def close(self) -> None:
        """End what blocks."""
        self._stop.set()
        self._parts.library.stop_listening(self._library_changed)

    def _library_changed(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        offering = self._parts.library.find(room, manifest_id)
        if offering is None:
            # At once: a model that was removed, or is damaged, is given to nobody.
            self._drop(room, manifest_id)
        elif offering.whole:
            self.look(room)

    async def _watch(self, session: RoomSession) -> None:
        waker = self._wakers[session.room_id]
        while True:
            waker.clear()
            try:
                registry = await session.read_registry()
            except DreamerError as error:
                log.debug("can't look for public models of %s: %s", session.card.name, error)
                self._look_later(session.room_id)
            else:
                await self._match(session, {k: m for k, m in registry.models.items() if m.torrent})
            await waker.wait()

    def _look_later(self, room: RoomId) -> None:
        asyncio.get_running_loop().call_later(TORRENT_SEEDS_LOOK_S, self.look, room)

    async def _match(self, session: RoomSession, public: dict[ManifestId, Model]) -> None:
        for manifest_id, seed in list(self._seeds.items()):
            if session.room_id in seed.rooms and manifest_id not in public:
                self._drop(session.room_id, manifest_id)
        for manifest_id, model in public.items():
            offering = self._parts.library.find(session.room_id, manifest_id)
            if offering is not None and offering.whole:
                await self._seed(session, model, offering)

    async def _seed(self, session: RoomSession, model: Model, offering: Offering) -> None:
        room, manifest_id = session.room_id, model.manifest_id
        assert model.torrent is not None, "only public models are seeded"
        offering.metadata = model.torrent.metadata
        if known := self._seeds.get(manifest_id):
            known.rooms[room] = None
            return
        publicity = self._parts.publicity
        try:
            metadata = await asyncio.to_thread(
                publicity.known, offering.manifest, model.torrent, self._stop
            )
        except DreamerError as error:
            log.error("can't seed %s: %s", model.name, error)
            return
        if not self._parts.library.holds(room, manifest_id) or manifest_id in self._seeds:
            return
        torrents = self._parts.torrents
        numbers = torrents.new_number(), torrents.new_number()
        self._seeds[manifest_id] = Seed(numbers, {room: None})
        layout = TorrentLayout(offering.manifest)
        both = metadata.object_bytes, metadata.companion((), ())
        for number, torrent in zip(numbers, both, strict=True):
            command = AddTorrent(
                *(number, torrent, publicity.trackers(session.card)),
                folder=str(self._parts.store.root),
                paths=stored_paths(layout, self._parts.store),
                piece_count=layout.piece_count,
                have=b"",
            )
            torrents.add(command, lambda event: self._event(manifest_id, event))

    def _event(self, manifest_id: ManifestId, event: TorrentEvent) -> None:
        seed = self._seeds.get(manifest_id)
        if seed is None or event.torrent not in seed.numbers:
            return
        match event:
            case SwarmSeen(_, peers, _, _, up_bytes):
                seed.peers[event.torrent] = peers
                seed.up_bytes += up_bytes
                self.up_bytes += up_bytes
                self._parts.uploaded(up_bytes)
                self._parts.gave(next(iter(seed.rooms)), manifest_id, up_bytes)
            case TorrentFailed(_, reason):
                log.warning("%s is not seeded for now: %s", short(manifest_id), reason)
                self._end(manifest_id, seed)
                for room in seed.rooms:
                    self._look_later(room)

    def _drop(self, room: RoomId, manifest_id: ManifestId) -> None:
        seed = self._seeds.get(manifest_id)
        if seed is None or room not in seed.rooms:
            return
        del seed.rooms[room]
        if not seed.rooms:
            self._end(manifest_id, seed)

    def _end(self, manifest_id: ManifestId, seed: Seed) -> None:
        del self._seeds[manifest_id]
        for number in seed.numbers:
            self._parts.torrents.send(RemoveTorrent(number))
