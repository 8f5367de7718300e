"""What the models are called that requests may name, over all rooms of a node."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dreamer.daemon.offload.meanings import KnownRooms, Meanings, Meant
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.surfaces.inference import Servable
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import AmbiguousError, DreamerError, NoMatchError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.offload_limits import (
    OFFLOAD_REGISTRY_MAX_AGE_S,
    OFFLOAD_REGISTRY_REFRESH_S,
)
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.view import Model, Registry

log = logging.getLogger(__name__)

NOT_RUN = "files"
"""The type of what is carried and never run."""


@dataclass
class Servables:
    """The models of all rooms by what requests call them.

    ``held`` says whether all of a room's model is here; ``serving`` returns what a reference that
    is followed means now (``NodeReadiness.serving``), None for others.

    A room's tracker tells of each change of its registry, so requests go by what was read last
    instead of asking it each time: it is read again beside them, and before them only when that is
    long ago, or nothing has the name.
    """

    rooms: RoomKeeper
    held: Callable[[RoomId, ManifestId], bool]
    serving: Callable[[str, str | None], Meant | None]
    tasks: TaskSet
    clock: Callable[[], float] = time.monotonic
    _read_at: dict[RoomId, float] = field(default_factory=dict)
    _meanings: Meanings = field(init=False)

    def __post_init__(self) -> None:
        self._meanings = Meanings(self._is_fresh)

    async def all(self) -> list[Servable]:
        """Return the models that can be run, newest first; one of several rooms in each of them.

        Raises:
            DreamerError: no room's registry can be read; one that fails spoils no other.
        """
        found = await self._everywhere(_runnable, fresh=True)
        listed = [self.describe(session, model) for session, models in found for model in models]
        return sorted(listed, key=lambda one: (-one.created_at, one.manifest_id))

    async def find(self, ref: str) -> Meant:
        """Return what a reference means: an id or its start, an alias, a name; any ``@room``.

        Raises:
            NoMatchError: nothing.
            AmbiguousError: several models, or something else in each of several rooms.
            DreamerError: no room that can be asked has it, and one can't be asked.
        """
        model, at, room = ref.rpartition("@")
        if not at:
            model, room = ref, ""
        if (kept := self.serving(model, room or None)) is not None:
            return kept
        if not room and (meant := self._meanings.of(ref, self.rooms.sessions, time.time())):
            return meant
        for fresh in (False, True):
            try:
                if not room:
                    return await self._find_anywhere(ref, fresh)
                session = self.rooms.get(room)
                return session, _named(await self._registry(session, fresh), model)
            except (NoMatchError, AmbiguousError):
                if fresh:
                    raise
        raise AssertionError("the second time it was found or raised")

    def describe(self, session: RoomSession, model: Model) -> Servable:
        """Return a room's model for people."""
        return Servable(
            name=model.name,
            room=session.card.name,
            manifest_id=model.manifest_id.hex(),
            aliases=model.aliases,
            tags=model.tags,
            type=model.model_type,
            size_bytes=model.size_bytes,
            created_at=model.at,
            here=self.held(session.room_id, model.manifest_id),
        )

    async def _registry(self, session: RoomSession, fresh: bool) -> Registry:
        """Return a room's registry, read anew if it is to be ``fresh`` or was not read for long.

        Raises:
            DreamerError: it was never read, and can't be.
        """
        # What this node itself has changed is in it at once, before it is read anew.
        known, room = await session.registry.recall(), session.room_id
        age_s = self._age_s(session)
        if fresh or known is None or age_s >= OFFLOAD_REGISTRY_MAX_AGE_S:
            self._read_at[room] = self.clock()
            return await session.read_registry()
        if age_s >= OFFLOAD_REGISTRY_REFRESH_S:
            self._read_at[room] = self.clock()
            self.tasks.start(_read_beside(session))
        return known.as_of(time.time()).registry

    def _age_s(self, session: RoomSession) -> float:
        read_at = self._read_at.get(session.room_id, -OFFLOAD_REGISTRY_MAX_AGE_S)
        return self.clock() - read_at

    def _is_fresh(self, session: RoomSession) -> bool:
        return self._age_s(session) < OFFLOAD_REGISTRY_REFRESH_S

    async def _find_anywhere(self, ref: str, fresh: bool) -> Meant:
        def meant(registry: Registry) -> Sequence[Model]:
            try:
                return [_named(registry, ref)]
            except NoMatchError as error:
                missing.append(error)
                return []

        missing: list[NoMatchError] = []
        before = KnownRooms.now(self.rooms.sessions)
        found = [
            (room, one) for room, models in await self._everywhere(meant, fresh) for one in models
        ]
        if not found:
            if not missing:
                self.rooms.get(None)
                raise NoMatchError(f"no model is called {ref!r:.80}; 'dreamer models' lists all")
            raise missing[0]
        if len({model.manifest_id for _, model in found}) > 1:
            names = " or ".join(f"{ref}@{session.card.name}" for session, _ in found)
            raise AmbiguousError(f"{ref!r:.80} is in several rooms: say {names}")
        if len(found) == 1:
            self._meanings.keep(ref, found[0], before)
            return found[0]
        here = (one for one in found if self.held(one[0].room_id, one[1].manifest_id))
        return next(here, found[0])

    async def _everywhere(
        self, choose: Callable[[Registry], Sequence[Model]], fresh: bool = False
    ) -> list[tuple[RoomSession, Sequence[Model]]]:
        """Return what is chosen of each room's registry; rooms that can't be asked are left out.

        Raises:
            DreamerError: nothing is chosen anywhere, and a room could not be asked.
        """
        sessions = list(self.rooms.sessions)
        read = [self._registry(session, fresh) for session in sessions]
        registries = await _side_by_side(read)
        found: list[tuple[RoomSession, Sequence[Model]]] = []
        failed: list[DreamerError] = []
        for session, registry in zip(sessions, registries, strict=True):
            if isinstance(registry, DreamerError):
                log.warning("can't ask room %s for its models: %s", session.card.name, registry)
                failed.append(registry)
            elif isinstance(registry, BaseException):
                raise registry
            else:
                found.append((session, choose(registry)))
        if failed and not any(models for _, models in found):
            raise failed[0]
        return found


async def _side_by_side(
    reads: Sequence[Coroutine[Any, Any, Registry]],
) -> Sequence[Registry | BaseException]:
    """Return what each gives or raises. One alone, as for most nodes, needs no task of its own."""
    if len(reads) != 1:
        found: list[Registry | BaseException] = await asyncio.gather(*reads, return_exceptions=True)
        return found
    try:
        return [await reads[0]]
    except DreamerError as error:
        return [error]


async def _read_beside(session: RoomSession) -> None:
    with suppress(DreamerError):
        await session.read_registry()


def _runnable(registry: Registry) -> list[Model]:
    return [model for model in registry.models.values() if model.model_type != NOT_RUN]


def _named(registry: Registry, ref: str) -> Model:
    """Return what a reference means, a name last of all: of several models the newest has it.

    Raises:
        NoMatchError: nothing.
        AmbiguousError: it is the start of several ids.
    """
    try:
        return resolve(registry, ref)
    except NoMatchError:
        named = [model for model in registry.models.values() if model.name == ref]
        if not named:
            raise
        return max(named, key=lambda model: (model.at, model.manifest_id))
