"""Uploads to the rooms' origins: each is tried until it is done, with pauses, also after a restart.

A push begins one and follows its first attempt, no more: an origin that is away stops nothing that
peers can serve. One upload is one task; its work runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from dreamer.daemon.origin.lifetimes import Lifetimes
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.tally import UploadReport
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Progress
from dreamer.daemon.sharing.upload_job import Job, PendingUpload, UploadRoom
from dreamer.daemon.sharing.upload_queue import DurableUploads, QueuedUpload, UploadQueue
from dreamer.daemon.sharing.watched import PROGRESS_INTERVAL_S
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.pushing import OriginWait
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.errors import DreamerError, StoppedError
from dreamer.protocol.ids import ManifestId, RoomId, short
from dreamer.protocol.origin_limits import (
    UPLOAD_RETRY_MAX_S,
    UPLOAD_RETRY_MIN_S,
    UPLOAD_SILENCE_S,
    UPLOADS_AT_ONCE,
)
from dreamer.protocol.registry.availability import Stored
from dreamer.protocol.registry.changes import SayStored
from dreamer.protocol.registry.view import Registry

log = logging.getLogger(__name__)

_SILENT = (
    f"the origin has not answered for {UPLOAD_SILENCE_S:.0f} s; check the endpoint URL and the "
    "network"
)


@dataclass(frozen=True)
class _Place:
    """Where an upload goes: ``home`` itself, the room's origin, or a place of its own in it.

    ``room`` is set where it shares content with others; ``serial`` is that of the registry.
    """

    origin: Origin
    home: Origin
    room: RoomId | None
    serial: int


class Uploads:
    """All uploads of a node; its methods are for the daemon's loop.

    ``origin_by_name`` says whether public models lie at the origin by name, too.
    """

    def __init__(
        self,
        store: Store,
        state: State,
        origins: Origins,
        tasks: TaskSet,
        *,
        origin_by_name: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._database = state.database
        self.lifetimes = Lifetimes()
        self._queue = UploadQueue(state.database)
        self._origins = origins
        self._tasks = tasks
        self._by_name = origin_by_name
        # For pauses between attempts only.
        self._rng = rng or random.Random()  # noqa: S311
        self._slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._jobs: dict[tuple[RoomId, ManifestId], Job] = {}
        self._hurry = False

    def watch(self, session: UploadRoom) -> None:
        """Take up what is left of a room's uploads, while this node is in it."""
        session.at_close.append(lambda: self._leave(session.room_id))
        if session.card.origin is None:
            return
        for item in self._queue.of_room(session.room_id):
            self._start(item, session)

    def keep(self, item: QueuedUpload) -> bool:
        """Write down that a model is to be uploaded; ``begin`` does it. False if it was already."""
        if (item.room_id, item.manifest_id) in self._jobs:
            return False
        self._queue.put(item)
        return True

    def begin(self, item: QueuedUpload, session: UploadRoom) -> Job:
        """Begin an upload that was written down; return it, or the one that is under way."""
        job = self._jobs.get((item.room_id, item.manifest_id))
        if job is None:
            return self._start(item, session)
        job.woken.set()
        return job

    def drop(self, room_id: RoomId, manifest_id: ManifestId) -> None:
        """Give an upload up; what was sent of it stays at the origin."""
        if job := self._jobs.get((room_id, manifest_id)):
            self._end(job)
        self._queue.drop(room_id, manifest_id)

    def forget_room(self, room_id: RoomId) -> None:
        """Give all uploads of a room up that this node has left."""
        self._leave(room_id)
        self._queue.drop_room(room_id)

    def holds(self, manifest_id: ManifestId) -> bool:
        """Say whether a model is needed here until its upload is done."""
        return self._queue.holds(manifest_id)

    def pending(self) -> tuple[PendingUpload, ...]:
        """Return what is not uploaded yet, the oldest first."""
        now = time.monotonic()
        jobs = sorted(self._jobs.values(), key=lambda job: job.item.queued_at)
        return tuple(job.pending(now) for job in jobs)

    def status(self) -> dict[str, Any]:
        """Return the queue for ``dreamer status``, ready for JSON."""
        pending = self.pending()
        return {
            "waiting": len(pending),
            "left_bytes": sum(one.left_bytes for one in pending),
            "queue": [asdict(one) for one in pending],
        }

    async def drain(self, deadline: float) -> tuple[PendingUpload, ...]:
        """Try at once, and again and again, what waits; return what is left in the end.

        ``deadline`` is by ``time.monotonic()``. May be cancelled: everything stays as it is.
        """
        self._hurry = True
        try:
            for job in self._jobs.values():
                job.woken.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    while self._jobs:
                        await next(iter(self._jobs.values())).changed.wait()
        finally:
            self._hurry = False
        return self.pending()

    async def follow(self, job: Job, wait: OriginWait) -> AsyncGenerator[Progress, None]:
        """Yield how far an upload is until it is done, or until its next attempt has failed.

        Closing the iterator ends nothing: the upload goes on.
        """
        before, began = job.attempts, time.monotonic()
        while not job.ended and (wait == "done" or job.attempts == before):
            yield job.shown()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.changed.wait(), PROGRESS_INTERVAL_S)
            silent = job.progress is None and time.monotonic() - began > UPLOAD_SILENCE_S
            if silent and wait == "try":
                # A network that swallows everything: the attempt itself takes minutes to fail.
                job.item = replace(job.item, error=_SILENT)
                break
        yield job.shown()

    def _start(self, item: QueuedUpload, session: UploadRoom) -> Job:
        by_name = item.metadata is not None and self._by_name
        job = Job(item, session, by_name=by_name)
        self._jobs[item.room_id, item.manifest_id] = job
        self._tasks.start(self._carry(job))
        return job

    def _leave(self, room_id: RoomId) -> None:
        for job in [job for key, job in self._jobs.items() if key[0] == room_id]:
            self._end(job)

    def _end(self, job: Job) -> None:
        self._jobs.pop((job.item.room_id, job.item.manifest_id), None)
        job.ended = True
        # The threads end at their next step.
        job.stop.set()
        job.woken.set()
        job.changed.set()

    async def _carry(self, job: Job) -> None:
        while not job.ended:
            async with self._slots:
                # It may have been given up while it waited for its turn.
                if job.ended or await self._attempt(job):
                    break
            pause_s = self._pause_s(job.item.attempts)
            job.next_at = time.monotonic() + pause_s
            job.woken.clear()
            # Whoever follows has seen the attempt end; the next one is another event.
            job.changed.set()
            job.changed = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.woken.wait(), pause_s)
        self._end(job)

    def _pause_s(self, attempts: int) -> float:
        longest_s = UPLOAD_RETRY_MIN_S if self._hurry else UPLOAD_RETRY_MAX_S
        pause_s = min(longest_s, UPLOAD_RETRY_MIN_S * float(2 ** min(attempts, 16)) / 2)
        # Nodes that lost the origin together should not come back together.
        return pause_s * self._rng.uniform(0.5, 1.0)

    async def _attempt(self, job: Job) -> bool:
        """Try once; return whether there is nothing more to do."""
        job.running = True
        job.progress = None
        try:
            return await self._try(job)
        except StoppedError:
            return True
        except DreamerError as error:
            self._failed(job, str(error))
        except Exception as error:
            # A bug of ours must not end the one thing that keeps trying.
            log.exception("an upload failed in a way that it should not")
            self._failed(job, f"{type(error).__name__}: {error}; see the daemon's log")
        finally:
            job.running = False
            job.attempts += 1
        return False

    async def _try(self, job: Job) -> bool:
        item = job.item
        manifest = await asyncio.to_thread(self._store.manifest, item.manifest_id)
        place = await self._place(job)
        if manifest is None or place is None:
            log.warning("%s is not here any more, and is not uploaded", short(item.manifest_id))
            self._queue.drop(item.room_id, item.manifest_id)
            return True
        report = await asyncio.to_thread(self._send, job, place, manifest)
        now_to = await self._place(job)
        if now_to is None or now_to.origin is not place.origin:
            # Pushed again meanwhile, for good or for another time: that is another place.
            return False
        await self._say(job, manifest, report)
        self._queue.drop(item.room_id, item.manifest_id)
        job.report = report
        job.item = replace(item, error="")
        self._wake_others(item.room_id)
        return True

    async def _place(self, job: Job) -> _Place | None:
        """Return where a model goes; None: the room does not have it any more, or no origin."""
        item, card = job.item, job.session.card
        known = await job.session.registry.recall()
        serial = known.last_serial if known else 0
        registry = known.registry.as_of(time.time()) if known else Registry()
        if item.manifest_id in (*registry.expired, *registry.withdrawn):
            return None
        model = registry.models.get(item.manifest_id)
        origin = self._origins.of_model(card, model) if model else self._origins.of(card)
        if origin is None:
            return None
        # What has a place of its own needs no protection from the collection of garbage.
        temporary = model is not None and model.expires_at is not None
        home = self._origins.of(card) or origin
        return _Place(origin, home, None if temporary else item.room_id, serial)

    def _send(self, job: Job, place: _Place, manifest: Manifest) -> UploadReport:
        origin = place.origin
        if place.room is None:
            # Best effort: where the store takes no rules, somebody sweeps.
            self.lifetimes.ensure(job.session.room_id, place.home)
        begun = DurableUploads(self._database, str(origin.address))
        item = job.item
        report = origin.upload(
            *(item.manifest_id, manifest, self._store, job.note, job.stop, item.metadata),
            begun=begun,
            encoded=not job.by_name,
            room=place.room,
            serial=place.serial,
        )
        if job.by_name:
            origin.name_files(TorrentLayout(manifest), job.stop)
        return report

    async def _say(self, job: Job, manifest: Manifest, report: UploadReport) -> None:
        # By anybody with its content the model can be had from the bucket from now on.
        said = Stored(
            *(manifest.id, job.session.card.origin, manifest.size_bytes, report.stored_bytes)
        )
        await job.session.registry.change(SayStored(said))

    def _failed(self, job: Job, error: str) -> None:
        item = job.item = replace(job.item, attempts=job.item.attempts + 1, error=error)
        log.warning("the upload of %s waits: %s", item.name, error)
        # It may have been given up meanwhile.
        if not job.ended:
            self._queue.put(item)

    def _wake_others(self, room_id: RoomId) -> None:
        # What one upload got through, the others may, too.
        for (room, _), other in self._jobs.items():
            if room == room_id:
                other.woken.set()
