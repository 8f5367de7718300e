"""Pulls models: one job a model, however many wait for it; the directory, the receipt.

Two pulls of the same model share one job; it is cancelled when nobody waits for it any more, and
what it fetched stays for the next time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from dreamer.daemon.ports import Progress, PullEvent, PullInfo, PullReceipt
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.shared_pull import PAUSED, Fetched, PullerParts, SharedPull
from dreamer.daemon.state import HeldModel
from dreamer.protocol.errors import DiskError
from dreamer.protocol.ids import ManifestId, RoomId, short
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm.patience import Patience

PROGRESS_INTERVAL_S = 0.2


class Puller:
    """All pulls of a node."""

    def __init__(self, parts: PullerParts) -> None:
        self._parts = parts
        self._running: dict[tuple[RoomId, ManifestId], SharedPull] = {}

    async def pull(
        self, session: RoomSession, model: Model, output: Path | None
    ) -> AsyncGenerator[PullEvent, None]:
        """Fetch a model and lay it out; yields progress, then the receipt.

        Raises:
            RemoteError: nobody can give it now.
            LocalError: no room on disk, or the disk failed.
            ManifestError: what was published under this id is not a manifest.
        """
        started = time.monotonic()
        async with (
            self._kept(model.manifest_id),
            aclosing(self._pull(session, model, output, started)) as events,
        ):
            async for event in events:
                yield event

    @asynccontextmanager
    async def _kept(self, manifest_id: ManifestId) -> AsyncIterator[None]:
        """Have no daemon of this store evict a model between its last block and its directory."""
        store = self._parts.store
        # A disk that can't be used is told by the pull itself, which waits for it.
        with suppress(DiskError):
            await asyncio.to_thread(store.keep, manifest_id)
        try:
            yield
        finally:
            store.let_go(manifest_id)

    async def _pull(
        self, session: RoomSession, model: Model, output: Path | None, started: float
    ) -> AsyncGenerator[PullEvent, None]:
        shared = self._join(session, model)
        try:
            while not shared.task.done():
                yield shared.progress()
                await asyncio.wait([shared.task], timeout=PROGRESS_INTERVAL_S)
            fetched = await shared.task
        finally:
            self._leave(session, model, shared)
        async for step in self._lay_out(model, fetched, output):
            if isinstance(step, Progress):
                yield step
            else:
                path = step
        self._record(session.room_id, model, path, fetched)
        self._count_use(session.room_id, shared, fetched)
        yield _receipt(model, path, fetched, time.monotonic() - started)

    def is_pulling(self, manifest_id: ManifestId) -> bool:
        """Return whether a model is on its way in any room."""
        return any(running == manifest_id for _, running in self._running)

    def under_way(self) -> list[PullInfo]:
        """Return what is being pulled now, the oldest first."""
        return [one.info() for one in self._running.values() if not one.task.done()]

    async def _lay_out(
        self, model: Model, fetched: Fetched, output: Path | None
    ) -> AsyncGenerator[Progress | Path, None]:
        """Make the directory, which may be on another disk; pauses while that one can't be used."""
        size, patience = model.size_bytes, Patience(time.monotonic())
        lay_out = partial(self._parts.store.lay_out, model.manifest_id, fetched.manifest)
        yield Progress("finish", size, size)
        while True:
            try:
                yield await asyncio.to_thread(lay_out, model.name, output)
                return
            except DiskError as error:
                if not patience.lasts(size, time.monotonic()):
                    raise
                note = f"{error.problem}: {error.remedy}; all blocks are here, and it goes on"
            yield Progress(PAUSED, size, size, note=note)
            await asyncio.sleep(patience.next_pause())

    def _join(self, session: RoomSession, model: Model) -> SharedPull:
        key = (session.room_id, model.manifest_id)
        shared = self._running.get(key)
        if shared is None or shared.cancelled or shared.task.done():
            others = [
                other.task
                for (_, manifest_id), other in self._running.items()
                if manifest_id == model.manifest_id and not other.task.done()
            ]
            shared = self._running[key] = SharedPull(self._parts, session, model, others)
        shared.waiting += 1
        return shared

    def _leave(self, session: RoomSession, model: Model, shared: SharedPull) -> None:
        shared.waiting -= 1
        if shared.waiting:
            return
        shared.cancel()
        key = (session.room_id, model.manifest_id)

        def forget(_: asyncio.Task[Fetched]) -> None:
            if self._running.get(key) is shared:
                del self._running[key]

        shared.task.add_done_callback(forget)

    def _record(self, room: RoomId, model: Model, path: Path, fetched: Fetched) -> None:
        now = time.time()
        self._parts.state.put_model(HeldModel(model.manifest_id, room, model.name, path, now, now))

    def _count_use(self, room: RoomId, shared: SharedPull, fetched: Fetched) -> None:
        if self._parts.accounts is None:
            return
        manifest = fetched.manifest
        cached = manifest.size_bytes if shared.used else fetched.moved.by_lane["cache"]
        shared.used = True
        self._parts.accounts.of(room, manifest.id).used(manifest.size_bytes, cached)


def _receipt(model: Model, path: Path, fetched: Fetched, seconds: float) -> PullReceipt:
    return PullReceipt(
        manifest_id=model.manifest_id.hex(),
        short_id=short(model.manifest_id),
        name=model.name,
        path=str(path),
        size_bytes=fetched.manifest.size_bytes,
        seconds=seconds,
        bytes=fetched.moved.by_lane,
        lane_seconds=fetched.moved.seconds,
        resumed=fetched.resumed,
        peers=fetched.moved.by_peer,
        blamed=tuple(fetched.moved.blamed),
        saved=fetched.moved.saved,
    )
