"""A tracker beside the daemon (``dreamerd --with-tracker``): a process of its own, ours to end.

If it ends by itself it is started again at the same address: the rooms' cards hold that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dreamer.daemon.places import Places
from dreamer.daemon.setting_checks import split_address
from dreamer.daemon.settings.tracker import TrackerSection
from dreamer.protocol.errors import LocalError
from dreamer.protocol.tracker_limits import (
    TRACKER_BACKOFF_BASE_S,
    TRACKER_BACKOFF_MAX_S,
    TRACKER_START_TIMEOUT_S,
    TRACKER_STOP_TIMEOUT_S,
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def embedded_tracker(settings: TrackerSection, places: Places) -> AsyncIterator[str]:
    """Run ``dreamer-tracker`` while the context lasts; yields its URL.

    Raises:
        LocalError: it did not start; what it said is on stderr.
    """
    tracker = EmbeddedTracker(settings, settings.data or str(places.tracker))
    keeping: asyncio.Task[None] | None = None
    try:
        url = await tracker.start()
        log.info("the tracker of this node is at %s", url)
        keeping = asyncio.create_task(tracker.keep())
        yield url
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await tracker.stop()


class EmbeddedTracker:
    """One tracker process at a time, all of them at the address that the first one took."""

    def __init__(self, settings: TrackerSection, data: str) -> None:
        self._listen = settings.listen
        self._data = data
        self._terms = [
            *(("--rooms", ",".join(settings.rooms)) if settings.rooms else ()),
            *(("--names", ",".join(settings.names)) if settings.names else ()),
        ]
        # By the environment: a table is no word for a command line, which anyone can read, too.
        self._lends = {
            "DREAMER_TRACKER_TURN_URLS": ",".join(settings.turn_urls),
            "DREAMER_TRACKER_TURN_SECRET_FILE": settings.turn_secret_file,
            "DREAMER_TRACKER_TURN_TTL_S": str(settings.turn_ttl_s),
            "DREAMER_TRACKER_ORIGINS": settings.origins,
            "DREAMER_TRACKER_SWEEP": settings.sweep,
            "DREAMER_TRACKER_SWEEP_INTERVAL_S": str(settings.sweep_interval_s),
            "DREAMER_TRACKER_REDIS": settings.redis,
            "DREAMER_TRACKER_WORKERS": str(settings.workers),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start the process and return the URL it printed.

        Raises:
            LocalError: it did not start.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dreamer.tracker.main",
            "--listen", self._listen,
            "--data", self._data,
            *self._terms,
            "--until-stdin-closes",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **self._lends},
        )  # fmt: skip
        url = await _first_line(self._process)
        self._listen = _at_port_of(url, self._listen)
        return url

    async def keep(self) -> None:
        """Start the process again whenever it ends; waits longer between failures in a row."""
        wait_s = TRACKER_BACKOFF_BASE_S
        while True:
            assert self._process is not None, "it is started before it is kept"
            began = time.monotonic()
            status = await self._process.wait()
            if time.monotonic() - began > TRACKER_BACKOFF_MAX_S:
                wait_s = TRACKER_BACKOFF_BASE_S
            log.error(
                "the tracker of this node ended (exit status %d): starting it again in %.1f s",
                status,
                wait_s,
            )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, TRACKER_BACKOFF_MAX_S)
            try:
                log.info("the tracker of this node is back at %s", await self.start())
            except (LocalError, OSError) as error:
                log.error("the tracker of this node can't be started again: %s", error)
                await self.stop()

    async def stop(self) -> None:
        """End the process, if one runs."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(TRACKER_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRACKER_START_TIMEOUT_S):
            line = await process.stdout.readline()
    if not line:
        raise LocalError("the embedded tracker did not start: see its message above")
    return line.decode().strip()


def _at_port_of(url: str, listen: str) -> str:
    """Return ``listen`` with the port that the tracker took, should it have been port 0."""
    taken = split_address(url.rpartition("/")[2])
    if taken is None:
        raise LocalError(f"the embedded tracker printed {url!r:.200} for its URL")
    return f"{listen.rpartition(':')[0]}:{taken[1]}"
