"""What preloading does on a node: its rooms, its pulls, its store and its runners."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.ports import Progress, PullReceipt
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.worker.preload import Wanted
from dreamer.protocol.errors import NoMatchError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.registry.view import Model

RUNNABLE = "decoder"
"""The type of models that this node's runners take."""


class Keeping(Protocol):
    """What keeps models in the store while they are in use: as often as they are let go."""

    def keep(self, manifest_id: ManifestId) -> None:
        """Keep a model from being evicted."""
        ...

    def let_go(self, manifest_id: ManifestId) -> None:
        """Keep it no longer for our sake."""
        ...


@dataclass
class ModelsOfNode:
    """The port ``NodeModels`` with real parts. ``room``: the setting, empty for any room.

    ``run`` says whether models are loaded: a node that only fetches has no use for that.
    """

    keeper: RoomKeeper
    puller: Puller
    pool: Pool
    store: Keeping
    wake: Callable[[], None]
    room: str = ""
    run: bool = True
    _paths: dict[ManifestId, Path] = field(default_factory=dict)
    _found: dict[ManifestId, Model] = field(default_factory=dict)
    _kept: dict[ManifestId, None] = field(default_factory=dict)
    _watched: dict[RoomId, RoomSession] = field(default_factory=dict)

    async def resolve(self, ref: str) -> Wanted:
        """Return what a reference means, and hear of the room's changes from now on."""
        session, model = await self.keeper.find(ref, self.room or None)
        self._watch(session)
        self._found[model.manifest_id] = model
        return Wanted(model.manifest_id, session.room_id, model.name, model.size_bytes)

    async def fetch(self, wanted: Wanted) -> AsyncGenerator[Progress | PullReceipt, None]:
        """Pull a model; what the volume holds of it is verified, and not fetched."""
        if (found := self.found(wanted)) is None:
            raise NoMatchError(f"this node has left the room of {wanted.name}: join it again")
        async with aclosing(self.puller.pull(*found, None)) as events:
            async for event in events:
                if isinstance(event, PullReceipt):
                    self._paths[wanted.manifest_id] = Path(event.path)
                yield event

    async def load(self, wanted: Wanted, instead_of: Wanted | None) -> bool:
        """Load a model if this node can run such."""
        model = self._found[wanted.manifest_id]
        if not self.run or model.model_type != RUNNABLE:
            return False
        before = instead_of.manifest_id.hex() if instead_of else None
        path = self._paths[wanted.manifest_id]
        await self.pool.load(path, wanted.manifest_id.hex(), before)
        return True

    async def let_go(self, gone: Wanted) -> None:
        """Unload a model and let the store evict it when it needs the room."""
        await self.pool.evict(gone.manifest_id.hex())
        if gone.manifest_id in self._kept:
            del self._kept[gone.manifest_id]
            self.store.let_go(gone.manifest_id)
        self._paths.pop(gone.manifest_id, None)
        self._found.pop(gone.manifest_id, None)

    def hold(self, wanted: Wanted) -> None:
        """Keep a model in the store, once however often it is tried."""
        if wanted.manifest_id not in self._kept:
            self._kept[wanted.manifest_id] = None
            self.store.keep(wanted.manifest_id)

    def found(self, wanted: Wanted) -> tuple[RoomSession, Model] | None:
        """Return the room and the entry of a model; None: this node has left the room."""
        for session in self.keeper.sessions:
            if session.room_id == wanted.room_id:
                return session, self._found[wanted.manifest_id]
        return None

    def _watch(self, session: RoomSession) -> None:
        # A room that was left and joined again has another session.
        if self._watched.get(session.room_id) is not session:
            self._watched[session.room_id] = session
            session.registry_changed.append(self.wake)
