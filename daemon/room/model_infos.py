"""Models for people: what the registry says of each, beside what is here and with whom else."""

from __future__ import annotations

import asyncio
import logging
import time

from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.surfaces.catalogue import CachedOn, ModelInfo
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, NodeId, short
from dreamer.protocol.registry import query
from dreamer.protocol.registry.view import Model, Registry

log = logging.getLogger(__name__)


class ModelInfos:
    """Makes ``ModelInfo`` of what registries name, over all rooms of a node."""

    def __init__(self, rooms: RoomKeeper, library: Library, state: State) -> None:
        self._rooms = rooms
        self._library = library
        self._state = state

    async def list(self, room: str | None, text: str) -> list[ModelInfo]:
        """Return what a query means (empty: all), the newest first, a room after the other.

        Raises:
            InputError: the query can't be read.
            DreamerError: no room's registry can; one that fails spoils no other.
        """
        found: list[ModelInfo] = []
        failed: list[DreamerError] = []
        sessions = list(self._rooms.some(room))
        wanted = query.parse(text, time.time()) if text.strip() else None
        for session in sessions:
            try:
                registry = await session.read_registry()
                models = _newest_first(registry)
                meant = [one for one in models if wanted is None or wanted.matches(one)]
                found += await asyncio.gather(*(self.of(session, one, registry) for one in meant))
            except DreamerError as error:
                log.warning("can't list the models of room %s: %s", session.card.name, error)
                failed.append(error)
        if failed and len(failed) == len(sessions):
            raise failed[0]
        return found

    async def of(self, session: RoomSession, model: Model, registry: Registry) -> ModelInfo:
        """Return one model, with the number of nodes that have it or are fetching it now.

        From ``registry`` come the names of nodes that have it and are not here now.
        """
        others = len(await session.holders(model.manifest_id))
        local = self._whole_here(session, model.manifest_id)
        held = self._state.model(model.manifest_id) if local else None
        origin = model.provenance
        return ModelInfo(
            manifest_id=model.manifest_id.hex(),
            short_id=short(model.manifest_id),
            room=session.card.name,
            name=model.name,
            size_bytes=model.size_bytes,
            files=model.files,
            aliases=model.aliases,
            tags=model.tags,
            published_by=model.published_by.hex(),
            at=model.at,
            local=local,
            path=str(held.path) if held else None,
            on_nodes=others + local,
            magnet=model.torrent.magnet if model.torrent else "",
            magnet_v1=model.torrent.magnet_v1 if model.torrent else "",
            model_type=model.model_type,
            notes=model.notes,
            trained_by=origin.trained_by if origin else "",
            trained_at=origin.trained_at if origin else None,
            parents=tuple(parent.hex() for parent in model.parents),
            metrics=dict(model.metrics),
            config=dict(model.config),
            origin=model.stored.origin_url if model.stored else None,
            cached_on=tuple(_cached(session, registry, *one) for one in model.cached_on),
            expires_at=model.expires_at,
        )

    def _whole_here(self, session: RoomSession, manifest_id: ManifestId) -> bool:
        offered = self._library.find(session.room_id, manifest_id)
        return offered is not None and offered.whole


def _newest_first(registry: Registry) -> list[Model]:
    return sorted(registry.models.values(), key=lambda model: (-model.at, model.manifest_id))


def _cached(session: RoomSession, registry: Registry, node: NodeId, serves: bool) -> CachedOn:
    return CachedOn(node.hex(), known_name(session, registry, node), serves)


def known_name(session: RoomSession, registry: Registry, node: NodeId) -> str:
    """Return what a member calls itself, or called itself when it last reported; else empty."""
    report = registry.reports.get(node)
    return session.name_of(node) or (report.name if report else "")
