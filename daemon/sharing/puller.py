"""Pulls models: finds the manifest, runs the job, lays out the directory, writes the receipt.

Two pulls of the same model share one job; it is cancelled when nobody waits for it any more, and
what it fetched stays for the next time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.links.link import linked_first
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Progress, PullEvent, PullReceipt
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.discovery import Discovery
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pull_job import Moved, PullContext, PullJob
from dreamer.daemon.state import HeldModel, State, Transfer
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content import outboard as outboards
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.ids import Digest, ManifestId, RoomId, short
from dreamer.protocol.limits import (
    DISCOVERY_MAX_S,
    MANIFEST_MAX_BYTES,
    OBJECT_RETRY_S,
    OUTBOARD_MAX_BYTES,
)
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import DiscoveryEnded

PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class PullerParts:
    """What a puller needs of its node."""

    store: Store
    state: State
    library: Library
    origins: Origins
    context: Callable[[RoomSession], PullContext]
    tasks: TaskSet


@dataclass(frozen=True)
class Fetched:
    """A model that is whole in the store, and how it got there."""

    manifest: Manifest
    moved: Moved
    resumed: int
    seconds: float


class SharedPull:
    """One model on its way, for everybody who waits for it."""

    def __init__(
        self,
        parts: PullerParts,
        session: RoomSession,
        model: Model,
        after: list[asyncio.Task[Fetched]],
    ) -> None:
        """``after`` holds pulls of the same model that have not ended: another room's, or one
        that was cancelled. The store takes one download of a model at a time.
        """
        self._parts = parts
        self._session = session
        self._model = model
        self._stop = threading.Event()
        self._job: PullJob | None = None
        self._progress = Progress("resolve", 0, model.size_bytes)
        self.waiting = 0
        self.cancelled = False
        self.task: asyncio.Task[Fetched] = parts.tasks.start(self._run(after), waited_for=True)
        # With nobody left to wait for it, its error is nobody's.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def progress(self) -> Progress:
        """Return how far it is."""
        return self._job.progress("fetch") if self._job is not None else self._progress

    def cancel(self) -> None:
        """End it; what was fetched stays."""
        self.cancelled = True
        self._stop.set()
        self.task.cancel()

    async def _run(self, after: list[asyncio.Task[Fetched]]) -> Fetched:
        started = time.monotonic()
        if after:
            await asyncio.wait(after)
        manifest_id, store = self._model.manifest_id, self._parts.store
        manifest = await self._manifest(manifest_id)
        if await asyncio.to_thread(store.complete, manifest, self._stop):
            moved = Moved()
            moved.by_lane["cache"] = manifest.size_bytes
            self._offer(manifest)
            return Fetched(manifest, moved, 0, time.monotonic() - started)
        # What was offered is not all here any more, and what will lie there is yet to be verified.
        self._parts.library.withdraw_everywhere(manifest_id)
        outboard = await self._outboard(manifest)
        download = await self._open(manifest, outboard)
        whole = False
        try:
            self._job = PullJob(self._parts.context(self._session), manifest_id, download)
            await self._drive(self._job)
            whole = True
            self._offer(manifest)
            return Fetched(
                manifest,
                self._job.moved(),
                download.resumed_bytes,
                time.monotonic() - started,
            )
        finally:
            if not whole:
                self._parts.library.withdraw(self._session.room_id, manifest_id)
            # It waits for a file that is being checked.
            await asyncio.to_thread(download.close)

    def _offer(self, manifest: Manifest) -> None:
        everything = bitfield.full(manifest.block_count)
        self._parts.library.offer(
            self._session.room_id, self._model.manifest_id, manifest, everything
        )

    async def _open(self, manifest: Manifest, outboard: Outboard) -> Download:
        def verified(done: int, total: int) -> None:
            self._progress = Progress("verify", done, total)

        opening = asyncio.ensure_future(
            asyncio.to_thread(
                self._parts.store.open_download, manifest, outboard, verified, self._stop
            )
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread ends at its next step; what it opened until then must be closed.
            await asyncio.wait([opening])
            if opening.exception() is None:
                opening.result().close()
            raise

    async def _drive(self, job: PullJob) -> None:
        fanout = self._session.fanout
        fanout.add(job)
        meeting = asyncio.ensure_future(
            self._discovery().keep_meeting(
                lambda: not job.unanswered(), lambda: job.feed(DiscoveryEnded())
            )
        )
        try:
            await job.run()
        finally:
            fanout.remove(job)
            meeting.cancel()
            await asyncio.gather(meeting, return_exceptions=True)

    def _discovery(self) -> Discovery:
        session, manifest_id = self._session, self._model.manifest_id
        return Discovery(session.links, lambda: session.holders(manifest_id))

    async def _manifest(self, manifest_id: ManifestId) -> Manifest:
        data = await self._object(Digest(manifest_id), MANIFEST_MAX_BYTES)
        return await asyncio.to_thread(manifests.parse, data)

    async def _outboard(self, manifest: Manifest) -> Outboard:
        data = await self._object(manifest.outboard, OUTBOARD_MAX_BYTES)
        return outboards.parse(data, manifest.block_count, manifest.outboard)

    async def _object(self, digest: Digest, max_bytes: int) -> bytes:
        """Return an object from the store, else from a member, else from the origin; keep it."""
        store = self._parts.store
        data = await asyncio.to_thread(store.get_object, digest)
        if data is None:
            data = await self._fetch_object(digest, max_bytes)
            await asyncio.to_thread(store.put_object, digest, data)
        return data

    async def _fetch_object(self, digest: Digest, max_bytes: int) -> bytes:
        deadline = time.monotonic() + DISCOVERY_MAX_S
        while True:
            data = await self._from_members(digest, max_bytes)
            if data is not None:
                return data
            reason = "the room has no origin to fall back on"
            if (origin := self._parts.origins.of(self._session.card)) is not None:
                try:
                    return await asyncio.to_thread(origin.fetch_object, digest, self._stop)
                except RemoteError as error:
                    reason = str(error)
            if time.monotonic() >= deadline:
                raise RemoteError(
                    f"nobody who is online has {self._model.name} "
                    f"({short(self._model.manifest_id)}), and {reason}: start a node that has "
                    "it and pull again"
                )
            await asyncio.sleep(OBJECT_RETRY_S)

    async def _from_members(self, digest: Digest, max_bytes: int) -> bytes | None:
        for link in linked_first(await self._discovery().meet()):
            try:
                return await self._session.objects.fetch(link, digest, max_bytes)
            except RemoteProtocolError as error:
                self._session.punish(link.peer, str(error))
            except RemoteError:
                continue
        return None


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
        shared = self._join(session, model)
        try:
            while not shared.task.done():
                yield shared.progress()
                await asyncio.wait([shared.task], timeout=PROGRESS_INTERVAL_S)
            fetched = await shared.task
        finally:
            self._leave(session, model, shared)
        yield Progress("finish", model.size_bytes, model.size_bytes)
        path = await asyncio.to_thread(
            self._parts.store.lay_out, model.manifest_id, fetched.manifest, model.name, output
        )
        self._record(session.room_id, model, path, fetched)
        yield _receipt(model, path, fetched, time.monotonic() - started)

    def is_pulling(self, manifest_id: ManifestId) -> bool:
        """Return whether a model is on its way in any room."""
        return any(running == manifest_id for _, running in self._running)

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
        for lane, size in fetched.moved.by_lane.items():
            if size and lane != "cache":
                seconds = fetched.moved.seconds[lane]
                self._parts.state.add_transfer(
                    Transfer(now, model.manifest_id, lane, size, seconds)
                )


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
    )
