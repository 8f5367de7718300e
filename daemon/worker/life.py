"""The life of a daemon between its start and its end: ready, at work, told to stop, gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from dreamer.daemon.worker.leaving import EXIT_LEFT, Uploads, said_of, send_off
from dreamer.daemon.worker.notify import ServiceManager
from dreamer.daemon.worker.readiness import NodeReadiness
from dreamer.daemon.worker.settling import Settled
from dreamer.protocol.errors import DreamerError, StoppedError

log = logging.getLogger(__name__)


class LivingNode(Protocol):
    """What a life needs of its node."""

    @property
    def readiness(self) -> NodeReadiness:
        """Whether it is ready."""
        ...

    @property
    def uploads(self) -> Uploads:
        """What it has to upload."""
        ...

    @property
    def pushing(self) -> int:
        """How many pushes are under way, and not uploads yet."""
        ...


@dataclass(frozen=True)
class Ended:
    """How a life ended; ``error`` is what a person is to be told, and makes the status 1."""

    status: int = 0
    error: DreamerError | None = None

    @property
    def nothing_left(self) -> bool:
        """Whether all that was to be uploaded has been."""
        return self.status != EXIT_LEFT


class Life:
    """One run of a daemon. ``stop`` is for signals: the second one ends it at once."""

    def __init__(self, settled: Settled, environ: MutableMapping[str, str]) -> None:
        self._settled = settled
        self._manager = ServiceManager(environ)
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    def stop(self) -> None:
        """Begin to end; when called again, end without waiting for anything."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def preload(self, node: LivingNode) -> Ended:
        """Bring the models and end."""
        if not self._settled.config.models.preload:
            log.warning("[models] preload names no model: there is nothing to fetch")
        try:
            if not await self._unless_stopped(node.readiness.until_ready_or_hopeless()):
                return Ended(error=StoppedError("stopped before all models were here"))
        except DreamerError as error:
            return Ended(error=error)
        for one in node.readiness.info().preload:
            print(f"{one.ref} is here: {one.name} {one.manifest_id[:8]}", flush=True)  # noqa: T201
        return Ended()

    async def work(self, node: LivingNode) -> Ended:
        """Say when the node is ready, wait until it is to stop, and see its uploads off."""
        socket = self._settled.places.socket
        log.info("accepting commands on %s", socket)
        telling = asyncio.ensure_future(self._tell(node.readiness))
        try:
            if await self._unless_stopped(node.readiness.until_ready()):
                print(f"dreamerd is ready: {socket}", flush=True)  # noqa: T201 - for scripts
                self._manager.ready()
                await self._stop.wait()
        finally:
            telling.cancel()
        node.readiness.stop()
        self._manager.stopping("stopping")
        return await self._send_off(node) if self._settled.worker.ephemeral else Ended()

    async def _send_off(self, node: LivingNode) -> Ended:
        def tell(text: str) -> None:
            log.info("%s", text)
            self._manager.stopping(text)

        grace_s = self._settled.config.worker.grace_s
        left = await send_off(
            *(node.uploads, lambda: node.pushing > 0, grace_s, self._stop_now, tell)
        )
        if not left and not node.pushing:
            return Ended()
        log.error("%s", said_of(left, str(self._settled.places.home)))
        return Ended(EXIT_LEFT)

    async def _tell(self, readiness: NodeReadiness) -> None:
        """Keep the service manager informed of what the node waits for."""
        while not readiness.ready:
            self._manager.status("waiting for " + "; ".join(readiness.info().waiting_for))
            await readiness.news()

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> bool:
        """Wait; return False if the daemon is to stop before that is over."""
        task = asyncio.ensure_future(waiting)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return False
            await task
            return True
        finally:
            for one in (task, stopped):
                one.cancel()
