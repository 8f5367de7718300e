"""One model on its way, for everybody who waits for it; paused while it can't go on.

What pauses it, and what ends the pause:

- **the disk** (full, read-only, not ours, or it lost what was on it): the job ends and its download
  is closed. It is opened anew now and then, which re-verifies what is there, and a new job goes on;
- **another daemon of the same store** fetches the model: it is waited for, and asked for nothing;
- **nobody left to ask**, though somebody was, or no tracker in reach: what is here stays offered,
  and a new job looks for them again. The same holds while the model's description is yet to come.

A pull that nobody has ever helped fails instead: waiting would tell its user nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from dreamer.daemon.costs.account import Accounts
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Lane, Progress, PullInfo
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.described import Description
from dreamer.daemon.sharing.discovery import Onlooker
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.moved import Moved
from dreamer.daemon.sharing.public_swarms import PublicSwarms
from dreamer.daemon.sharing.pull_job import PullContext, PullJob
from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.locks import HeldElsewhereError
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.cache_limits import STORE_WAIT_POLL_S
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import DiskError, ForbiddenError, RemoteError
from dreamer.protocol.limits import CROWD_GATHER_S
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.patience import Patience
from dreamer.protocol.swarm.vocabulary import DiscoveryEnded

log = logging.getLogger(__name__)

Part = TypeVar("Part", Manifest, Outboard)
"""A part of a model's description."""

PAUSED = "paused"
"""The phase of a pull that waits for somebody or something."""

_HINT = "what is here is kept, and it goes on by itself"


@dataclass(frozen=True)
class PullerParts:
    """What a puller needs of its node."""

    store: Store
    state: State
    library: Library
    origins: Origins
    context: Callable[[RoomSession, Model], PullContext]
    tasks: TaskSet
    swarms: PublicSwarms | None = None
    """None: this node takes part in no torrents."""
    accounts: Accounts | None = None


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
        self._description = Description(parts.store, parts.origins, session, model, self._stop)
        self._job: PullJob | None = None
        self._progress = Progress("resolve", 0, model.size_bytes)
        self._paused = ""
        self._moved = Moved()
        self._opened = False
        self._resumed = 0
        self._counted = 0
        self.waiting = 0
        self.cancelled = False
        self.used = False
        """Whether a use of it was counted: later ones found here what the first one fetched."""
        self._belongs(None)
        self.task: asyncio.Task[Fetched] = parts.tasks.start(self._run(after), waited_for=True)
        # With nobody left to wait for it, its error is nobody's.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def info(self) -> PullInfo:
        """Return what is being pulled, and how far it is."""
        model, room = self._model, self._session.card.name
        return PullInfo(model.name, model.manifest_id.hex(), room, self.progress())

    def progress(self) -> Progress:
        """Return how far it is; in phase ``paused`` its note says why, and what to do."""
        shown, job = self._reached(), self._job
        if not self._paused or (job is not None and job.asking):
            return shown
        return replace(shown, phase=PAUSED, rate_bytes_s=0.0, note=self._paused)

    def _reached(self) -> Progress:
        if self._job is None:
            return self._progress
        now = self._job.progress("fetch")
        return replace(now, by_lane=_sum(self._moved.by_lane, now.by_lane))

    def cancel(self) -> None:
        """End it; what was fetched stays."""
        self.cancelled = True
        self._stop.set()
        self.task.cancel()

    async def _run(self, after: list[asyncio.Task[Fetched]]) -> Fetched:
        started = time.monotonic()
        if after:
            await asyncio.wait(after)
        patience = Patience(started)
        while True:
            try:
                manifest = await self._attempt(patience)
            except HeldElsewhereError as error:
                await self._let_fetch(error.holder)
                continue
            except DiskError as error:
                self._pause(f"{error.problem}: {error.remedy}; {_HINT}")
                if not patience.lasts(self._progress.done, time.monotonic()):
                    raise
            else:
                seconds = time.monotonic() - started
                return Fetched(manifest, self._moved, self._resumed, seconds)
            await asyncio.sleep(patience.next_pause())

    async def _let_fetch(self, holder: str) -> None:
        """Wait while another process of this store fetches the model: it is fetched once.

        When that one is done, all is here; if it dies, this one goes on from what it left.
        """
        while holder:
            self._pause(f"waiting for {holder}, which is fetching it into the same store")
            await asyncio.sleep(STORE_WAIT_POLL_S)
            downloader = self._parts.store.downloader
            holder = await asyncio.to_thread(downloader, self._model.manifest_id)
        self._paused = ""

    def _pause(self, note: str) -> None:
        if note != self._paused:
            log.warning("the pull of %s is paused: %s", self._model.name, note)
        self._paused = note

    async def _attempt(self, patience: Patience) -> Manifest:
        """Go on from what is on disk until all of it is; raises DiskError if it can't be used."""
        manifest_id, store = self._model.manifest_id, self._parts.store
        manifest = await self._described(self._description.manifest, patience)
        self._belongs(manifest)
        if await asyncio.to_thread(store.complete, manifest, self._stop):
            if not self._opened:
                self._moved.by_lane["cache"] = manifest.size_bytes
            self._offer(manifest)
            return manifest
        # What was offered is not all here any more, and what will lie there is yet to be verified.
        self._parts.library.withdraw_everywhere(manifest_id)
        outboard = await self._described(partial(self._description.outboard, manifest), patience)
        download = await self._open(manifest, outboard)
        whole = False
        try:
            self._begin(download)
            await self._fetch(download, patience)
            whole = True
            self._offer(manifest)
            return manifest
        finally:
            if not whole:
                self._parts.library.withdraw(self._session.room_id, manifest_id)
            # It waits for a file that is being checked.
            await asyncio.to_thread(download.close)

    async def _described(self, bring: Callable[[], Awaitable[Part]], patience: Patience) -> Part:
        """Bring a part of the description; pauses while whoever may have it is away."""
        described = self._description
        while True:
            try:
                return await bring()
            except RemoteError as error:
                alone = not self._session.links.links
                await self._outlast(described.lacks, error, helped=described.helped, alone=alone)
                if not patience.lasts(self._progress.done, time.monotonic()):
                    raise
            await asyncio.sleep(patience.next_pause())

    def _belongs(self, manifest: Manifest | None) -> None:
        """Have what the origin is asked for from now on put down to this model."""
        if self._parts.accounts is not None:
            self._parts.accounts.owners.concerns(self._model.manifest_id, manifest)

    def _offer(self, manifest: Manifest) -> None:
        everything = bitfield.full(manifest.block_count)
        self._parts.library.offer(
            self._session.room_id, self._model.manifest_id, manifest, everything
        )

    def _begin(self, download: Download) -> None:
        self._paused = ""
        here = download.cached_bytes + download.resumed_bytes
        if self._opened:
            # This pull has itself fetched it before it was paused, and counted it, but for what
            # came in at that very moment.
            self._resumed += max(0, here - self._counted)
            return
        self._opened = True
        self._resumed = download.resumed_bytes
        self._moved.by_lane["cache"] = download.cached_bytes

    async def _open(self, manifest: Manifest, outboard: Outboard) -> Download:
        def verified(done: int, total: int) -> None:
            self._paused = ""
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

    async def _fetch(self, download: Download, patience: Patience) -> None:
        while True:
            job = self._job = PullJob(
                self._parts.context(self._session, self._model), self._model.manifest_id, download
            )
            try:
                return await self._drive(job, download)
            except RemoteError as error:
                await self._outlast(job.lacks, error, helped=job.helped, alone=job.alone)
                if not patience.lasts(job.progress("fetch").done, time.monotonic()):
                    raise
            finally:
                self._take_stock(job, download)
            await asyncio.sleep(patience.next_pause())

    def _take_stock(self, job: PullJob, download: Download) -> None:
        """Add up what an ended job has moved; the next one goes on from there."""
        self._progress = self._reached()
        self._counted = self._progress.done
        self._job = None
        download.present = job.present
        moved = job.moved()
        # What was here already was counted once, when the pull began.
        moved.by_lane["cache"] = 0
        self._moved.add(moved)

    async def _outlast(self, lacks: str, error: RemoteError, *, helped: bool, alone: bool) -> None:
        """Pause for want of anybody to ask; raises if there is no hope that this will change.

        ``lacks`` says what there is nobody for. ``helped``: somebody did, and has left. ``alone``:
        there was no member who could have answered, so that others may well have it.

        Raises:
            RemoteError: ``error``: nobody has ever helped.
            ForbiddenError: this node is no member any more.
        """
        links = self._session.links
        away = ""
        if links.closed:
            raise error
        try:
            await self._session.wait_connected()
        except ForbiddenError:
            raise
        except RemoteError as reason:
            away = str(reason)
        if not (helped or (away and alone)):
            raise error
        why = f"{lacks} ({away})" if away else lacks
        self._pause(f"{why}: start a node that holds it; {_HINT}")

    async def _drive(self, job: PullJob, download: Download) -> None:
        fanout = self._session.fanout
        fanout.add(job)
        joining = asyncio.ensure_future(self._join_swarm(job, download))
        meeting = asyncio.ensure_future(
            self._description.discovery().keep_meeting(self._onlooker(job))
        )
        try:
            await job.run()
        finally:
            fanout.remove(job)
            for task in (meeting, joining):
                task.cancel()
            await asyncio.gather(meeting, joining, return_exceptions=True)

    def _onlooker(self, job: PullJob) -> Onlooker:
        # With nobody around there is nobody to wait for.
        crowded = job.has_origin and bool(self._session.present)
        return Onlooker(
            named=job.named,
            ended=lambda: job.feed(DiscoveryEnded()),
            least_s=CROWD_GATHER_S if crowded else 0.0,
            concerns=job.concerns,
            unanswered=job.unanswered,
            whole=job.whole,
            deserted=job.deserted,
            part=self._session.part,
        )

    async def _join_swarm(self, job: PullJob, download: Download) -> None:
        swarms = self._parts.swarms
        if swarms is not None and swarms.has(self._model):
            await swarms.join(job, self._session, self._model, self._description, download)
        else:
            job.without_swarm()


def _sum(one: dict[Lane, int], other: dict[Lane, int]) -> dict[Lane, int]:
    """Add up bytes by lane; what came from the cache is the same in both."""
    total = {lane: size + one.get(lane, 0) for lane, size in other.items()}
    if "cache" in one:
        total["cache"] = one["cache"]
    return total
