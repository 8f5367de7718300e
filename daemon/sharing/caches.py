"""The store as a cache of this node: what is used and pinned, and what its user can do about it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import asdict, dataclass
from functools import partial

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.ports import Progress, VerifyEvent
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.held_models import find_held
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.puller import PROGRESS_INTERVAL_S
from dreamer.daemon.state import State
from dreamer.daemon.store.inventory import Stocked
from dreamer.daemon.store.pins import Pin, alias_file
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.caches import (
    CachedInfo,
    CollectReceipt,
    LeftoverInfo,
    OwnBytes,
    PinInfo,
    StoreUsage,
    VerifiedModel,
    VerifyReceipt,
)
from dreamer.protocol.cache_limits import STORE_LEFTOVER_KEPT_S, STORE_LOOK_INTERVAL_S
from dreamer.protocol.content.manifest import FileEntry
from dreamer.protocol.errors import DreamerError, InputError, NoMatchError
from dreamer.protocol.ids import Digest, ManifestId, short
from dreamer.protocol.registry.view import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheParts:
    """What the cache needs of its node; ``libraries`` are all that tell of its models."""

    store: Store
    state: State
    libraries: tuple[Library, ...]
    keeper: RoomKeeper
    pool: Pool
    node_name: str


class NodeCaches:
    """The facet ``caches`` of a node."""

    def __init__(self, parts: CacheParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of torrents: named by registries, not by manifests.
        self._metadata: frozenset[Digest] = frozenset()

    # What goes on by itself

    async def run(self) -> None:
        """Keep up with what is used, with what aliases mean, with what other daemons removed."""
        loop = self._loop = asyncio.get_running_loop()

        def evicted(manifest_id: ManifestId) -> None:
            loop.call_soon_threadsafe(self._gone, manifest_id)

        self._store.eviction.on_evicted = evicted
        while True:
            try:
                await self._look()
            # A volume over the network may be out of reach for a while, and come back.
            except (DreamerError, OSError) as error:
                log.warning("can't look after the store: %s", error)
            await asyncio.sleep(STORE_LOOK_INTERVAL_S)

    def watch(self, session: RoomSession) -> None:
        """Follow the aliases of a room at once when they move."""

        def changed() -> None:
            following = asyncio.ensure_future(self._follow(session))
            # A registry that can't be read now is read at the next look.
            following.add_done_callback(lambda task: task.cancelled() or task.exception())

        session.registry_changed.append(changed)

    async def _look(self) -> None:
        seated = [ManifestId(bytes.fromhex(one)) for one in self._parts.pool.seated()]
        known = await asyncio.to_thread(self._refresh, seated)
        offered = [found for one in self._parts.libraries for found in one.everything()]
        for manifest_id in dict.fromkeys(found.manifest_id for found in offered if found.whole):
            if manifest_id not in known:
                self._gone(manifest_id)
        for session in self._parts.keeper.sessions:
            await self._follow(session)

    def _refresh(self, seated: list[ManifestId]) -> dict[ManifestId, None]:
        for manifest_id in seated:
            self._store.touch(manifest_id)
        self._store.uses.refresh()
        self._store.reach.look()
        return dict.fromkeys(self._store.known())

    def _gone(self, manifest_id: ManifestId) -> None:
        """Offer and name no longer what was evicted, by this daemon or another of the store."""
        for library in self._parts.libraries:
            library.withdraw_everywhere(manifest_id)
        self._parts.state.drop_model(manifest_id)

    async def _follow(self, session: RoomSession) -> None:
        registry = session.registry_known()
        if registry is None:
            return
        self._learn(registry)
        await asyncio.to_thread(self._move_pins, session, registry)

    def _learn(self, registry: Registry) -> None:
        models = {**registry.models, **registry.expired}
        expires = {key: float(m.expires_at) for key, m in models.items() if m.expires_at}
        # Replaced as a whole: a thread that makes room reads it meanwhile.
        eviction = self._store.eviction
        eviction.expires = {**eviction.expires, **expires}
        found = (one.torrent.metadata for one in models.values() if one.torrent)
        self._metadata = self._metadata.union(found)

    def _move_pins(self, session: RoomSession, registry: Registry) -> None:
        for pin in self._store.pins.all():
            if pin.only_copy:
                model = registry.models.get(pin.manifest_id)
                if model is not None and model.stored is not None:
                    self._store.pins.copied(pin.manifest_id)
            elif pin.alias and pin.room_id == session.room_id:
                means = registry.aliases.get(pin.alias)
                if means is not None and means != pin.manifest_id:
                    log.info("alias %s moved: %s is kept now", pin.alias, short(means))
                    self._store.pins.put(self._pin(means, pin.alias, session))

    def _pin(self, manifest_id: ManifestId, alias: str, session: RoomSession | None) -> Pin:
        return Pin(
            manifest_id,
            alias,
            session.room_id if session else None,
            session.card.name if session else "",
            self._parts.node_name,
            time.time(),
        )

    # What its user asks for

    async def models(self) -> list[CachedInfo]:
        """Return every model, the least recently used first."""
        stocked, pins = await asyncio.to_thread(
            lambda: (self._store.inventory.models(), self._store.pins.all())
        )
        infos = [self._info(one, pins) for one in stocked]
        return sorted(infos, key=lambda one: (one.last_used, one.manifest_id))

    def _info(self, one: Stocked, pins: Iterable[Pin]) -> CachedInfo:
        return CachedInfo(
            manifest_id=one.manifest_id.hex(),
            short_id=short(one.manifest_id),
            name=self._name(one.manifest_id),
            size_bytes=one.size_bytes,
            here_bytes=one.here_bytes,
            own_bytes=one.own_bytes,
            last_used=one.last_used,
            whole=one.whole,
            in_use=self._use_of(one),
            pinned=tuple(_info_of(pin) for pin in pins if pin.manifest_id == one.manifest_id),
            expires_at=self._store.eviction.expires.get(one.manifest_id),
        )

    def _use_of(self, one: Stocked) -> str:
        if one.manifest_id.hex() in self._parts.pool.seated():
            return "loaded"
        if not one.in_use:
            return ""
        if not self._store.uses.is_here(one.manifest_id):
            return "by another daemon"
        return "used here" if one.whole else "being pulled"

    def _name(self, manifest_id: ManifestId) -> str:
        held = self._parts.state.model(manifest_id)
        return held.name if held else short(manifest_id)

    async def usage(self) -> StoreUsage:
        """Return where the bytes are."""
        found = await asyncio.to_thread(self._store.breakdown)
        models = (
            OwnBytes(manifest_id.hex(), self._name(manifest_id), size_bytes)
            for manifest_id, size_bytes in found.models.items()
        )
        largest_first = tuple(sorted(models, key=lambda one: (-one.own_bytes, one.manifest_id)))
        said = {key: value for key, value in asdict(found).items() if key != "models"}
        return StoreUsage(path=str(self._store.root), models=largest_first, **said)

    async def verify(self, ref: str | None, room: str | None) -> AsyncGenerator[VerifyEvent, None]:
        """Hash files anew; yields progress, then what was found."""
        if ref is not None:
            chosen = [await self._find(ref, room)]
        else:
            chosen = await asyncio.to_thread(self._held)
        sizes = {one: await self._size(one) for one in chosen}
        checking = _Checking(self._store, sum(sizes.values()))
        found: list[VerifiedModel] = []
        try:
            for manifest_id in chosen:
                working = asyncio.ensure_future(asyncio.to_thread(checking.verify, manifest_id))
                while not working.done():
                    yield checking.progress()
                    await asyncio.wait([working], timeout=PROGRESS_INTERVAL_S)
                lacking = tuple(entry.path for entry in working.result())
                if lacking:
                    self._withdraw(manifest_id)
                name = self._name(manifest_id)
                found.append(VerifiedModel(manifest_id.hex(), name, sizes[manifest_id], lacking))
        finally:
            checking.stop.set()
        yield _receipt(found)

    def _held(self) -> list[ManifestId]:
        """Return the models that were or are here; not those of which a pull got no further."""
        state = self._parts.state
        stocked = self._store.inventory.models()
        held = (
            one.manifest_id for one in stocked if one.here_bytes or state.model(one.manifest_id)
        )
        return list(held)

    async def _size(self, manifest_id: ManifestId) -> int:
        manifest = await asyncio.to_thread(self._store.manifest, manifest_id)
        return manifest.size_bytes if manifest else 0

    def _withdraw(self, manifest_id: ManifestId) -> None:
        for library in self._parts.libraries:
            if any(one.manifest_id == manifest_id and one.whole for one in library.everything()):
                log.error("%s is not whole and not offered: pull it again", short(manifest_id))
                library.withdraw_everywhere(manifest_id)

    async def collect(
        self, remove: bool = False, older_than_s: float = STORE_LEFTOVER_KEPT_S
    ) -> CollectReceipt:
        """Find what nobody needs, and remove it if told so."""
        work = partial(self._store.collect, self._metadata, older_than_s, remove)
        found = await asyncio.to_thread(work)
        named = tuple(LeftoverInfo(one.kind, one.name, one.size_bytes) for one in found.found)
        return CollectReceipt(named, found.size_bytes, found.removed)

    async def pins(self) -> list[PinInfo]:
        """Return all pins."""
        return [_info_of(pin) for pin in await asyncio.to_thread(self._store.pins.all)]

    async def pin(self, ref: str, room: str | None, alias: bool = False) -> PinInfo:
        """Pin a model, or what an alias means."""
        if alias:
            session, model = await self._parts.keeper.find(ref, room)
            if ref not in model.aliases:
                raise InputError(f"{ref!r:.80} is no alias: leave out --alias to pin the model")
            pin = self._pin(model.manifest_id, ref, session)
        else:
            pin = self._pin(await self._find(ref, room), "", None)
        await asyncio.to_thread(self._store.pins.put, pin)
        return _info_of(pin)

    async def unpin(self, ref: str, room: str | None, alias: bool = False) -> list[PinInfo]:
        """Remove pins."""
        pins = await asyncio.to_thread(self._store.pins.all)
        if alias:
            rooms = [session.room_id for session in self._parts.keeper.some(room)]
            names = [alias_file(one, ref) for one in rooms]
            gone = [pin for pin in pins if pin.file_name in names]
        else:
            manifest_id = await self._find(ref, room)
            gone = [pin for pin in pins if pin.manifest_id == manifest_id and not pin.alias]
        if not gone:
            raise NoMatchError(f"nothing pins {ref!r:.80} so: see 'dreamer store ls'")
        for pin in gone:
            await asyncio.to_thread(self._store.pins.drop, pin)
        return [_info_of(pin) for pin in gone]

    async def _find(self, ref: str, room: str | None) -> ManifestId:
        return (await find_held(self._parts.keeper, self._store, ref, room))[0]


class _Checking:
    """Verifications one after the other, and how far they are."""

    def __init__(self, store: Store, total: int) -> None:
        self.stop = threading.Event()
        self._store = store
        self._total = total
        self._done = 0

    def verify(self, manifest_id: ManifestId) -> list[FileEntry]:
        return self._store.verify(manifest_id, self._count, self.stop)

    def _count(self, size_bytes: int) -> None:
        self._done += size_bytes

    def progress(self) -> Progress:
        return Progress("verify", self._done, self._total)


def _receipt(found: list[VerifiedModel]) -> VerifyReceipt:
    bad = [one for one in found if one.lacking]
    advice = ""
    if bad:
        names = ", ".join(one.manifest_id[:8] for one in bad)
        advice = f"pull again what you want whole; good blocks are not fetched twice: {names}"
    return VerifyReceipt(tuple(found), len(bad), advice)


def _info_of(pin: Pin) -> PinInfo:
    return PinInfo(pin.manifest_id.hex(), pin.reason, pin.alias, pin.room, pin.by, pin.at)
