"""What people ask of a room's registry: histories, lineages, queries that are watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.model_infos import ModelInfos, known_name
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.surfaces.catalogue import (
    AliasInfo,
    AliasMoveInfo,
    KinInfo,
    LineageInfo,
    ModelInfo,
    ModelList,
)
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry.aliases import AliasStep, steps
from dreamer.protocol.registry.changes import Describe, Promote, ProtectAlias, Withdraw
from dreamer.protocol.registry.lineage import Kin, lineage
from dreamer.protocol.registry.view import Registry
from dreamer.protocol.registry_limits import WATCH_MIN_INTERVAL_S


class RoomCatalogue:
    """The registries of this node's rooms; see ``surfaces.catalogue.Catalogue`` for each call."""

    def __init__(self, rooms: RoomKeeper, infos: ModelInfos) -> None:
        self._rooms = rooms
        self._infos = infos

    async def watch(self, room: str | None, query: str) -> AsyncIterator[ModelList]:
        """Yield what a query means, at once and whenever that changes."""
        sessions = list(self._rooms.some(room))
        changed = asyncio.Event()
        for session in sessions:
            session.registry_changed.append(changed.set)
        try:
            last: ModelList | None = None
            while True:
                changed.clear()
                found = ModelList(tuple(await self._infos.list(room, query)))
                if found != last:
                    last = found
                    yield found
                # A room that is being filled tells of every model: a list for each is too many.
                await asyncio.sleep(WATCH_MIN_INTERVAL_S)
                await changed.wait()
        finally:
            for session in sessions:
                session.registry_changed.remove(changed.set)

    async def show(self, room: str | None, ref: str) -> ModelInfo:
        """Return one model."""
        session, model = await self._rooms.find(ref, room)
        return await self._infos.of(session, model, await session.read_registry())

    async def alias(self, room: str | None, alias: str) -> AliasInfo:
        """Return an alias and its history."""
        for session in self._rooms.some(room):
            registry = await session.read_registry()
            if alias in registry.history or alias in registry.protections:
                return _alias_info(session, registry, alias)
        raise NoMatchError(f"there never was an alias {alias!r:.80}; 'dreamer models' lists them")

    async def aliases(self, room: str | None) -> list[AliasInfo]:
        """Return every alias of a room, or of all."""
        found: list[AliasInfo] = []
        for session in self._rooms.some(room):
            registry = await session.read_registry()
            names = {**dict.fromkeys(registry.history), **dict.fromkeys(registry.protections)}
            found += [_alias_info(session, registry, name) for name in sorted(names)]
        return found

    async def promote(self, room: str | None, source: str, target: str) -> AliasInfo:
        """Make the alias ``target`` mean what ``source`` means."""
        session = self._rooms.get(room)
        # What the promoter has seen: whoever moves the target meanwhile is not overruled unseen.
        seen = (await session.read_registry()).aliases.get(target)
        changed = await session.registry.change(Promote(source, target, seen))
        return _alias_info(session, changed.registry, target)

    async def protect(self, room: str | None, alias: str, roles: list[str]) -> AliasInfo:
        """Let only these roles, and admins, move an alias."""
        session = self._rooms.get(room)
        changed = await session.registry.change(ProtectAlias(alias, tuple(roles)))
        return _alias_info(session, changed.registry, alias)

    async def lineage(self, room: str | None, ref: str) -> LineageInfo:
        """Return what a model was trained from and what came of it."""
        session, model = await self._rooms.find(ref, room)
        found = lineage(await session.read_registry(), model)
        return LineageInfo(
            *(model.manifest_id.hex(), short(model.manifest_id), model.name, session.card.name),
            ancestors=tuple(map(_kin_info, found.ancestors)),
            descendants=tuple(map(_kin_info, found.descendants)),
            cut=found.cut,
        )

    async def note(self, room: str | None, ref: str, notes: str) -> ModelInfo:
        """Replace the notes of a model that this node published."""
        session, model = await self._rooms.find(ref, room)
        changed = await session.registry.change(Describe(model.manifest_id, notes))
        return await self._infos.of(
            session, changed.registry.models[model.manifest_id], changed.registry
        )

    async def withdraw(self, room: str | None, ref: str) -> str:
        """Take a model out of the room's registry."""
        session, model = await self._rooms.find(ref, room)
        if model.aliases:
            raise InputError(
                f"{short(model.manifest_id)} is what {', '.join(model.aliases)} means: move or "
                "remove the alias first"
            )
        await session.registry.change(Withdraw(model.manifest_id))
        return model.manifest_id.hex()


def _alias_info(session: RoomSession, registry: Registry, alias: str) -> AliasInfo:
    moves = registry.history.get(alias, ())
    protected = registry.protections.get(alias, ())
    told = tuple(_move_info(session, registry, step) for step in steps(moves))
    target = registry.aliases.get(alias)
    return AliasInfo(alias, session.card.name, _hex(target), protected, told)


def _move_info(session: RoomSession, registry: Registry, step: AliasStep) -> AliasMoveInfo:
    name = known_name(session, registry, step.by)
    return AliasMoveInfo(step.at, step.by.hex(), name, _hex(step.before), _hex(step.after))


def _kin_info(kin: Kin) -> KinInfo:
    model = kin.model
    return KinInfo(
        *(kin.manifest_id.hex(), short(kin.manifest_id), kin.of.hex(), kin.depth),
        name=model.name if model else "",
        aliases=model.aliases if model else (),
        metrics=dict(model.metrics) if model else {},
    )


def _hex(manifest_id: ManifestId | None) -> str | None:
    return None if manifest_id is None else manifest_id.hex()
