"""A tracker beside the daemon (``dreamerd --with-tracker``): a process of its own, ours to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dreamer.daemon.config import TrackerSection
from dreamer.daemon.places import Places
from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import TRACKER_START_TIMEOUT_S, TRACKER_STOP_TIMEOUT_S

log = logging.getLogger(__name__)


@asynccontextmanager
async def embedded_tracker(settings: TrackerSection, places: Places) -> AsyncIterator[str]:
    """Run ``dreamer-tracker`` while the context lasts; yields its URL.

    Raises:
        LocalError: it did not start; what it said is on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dreamer.tracker.main",
        "--listen",
        settings.listen,
        "--data",
        settings.data or str(places.tracker),
        "--until-stdin-closes",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        url = await _first_line(process)
        log.info("the tracker of this node is at %s", url)
        yield url
    finally:
        await _end(process)


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRACKER_START_TIMEOUT_S):
            line = await process.stdout.readline()
    if not line:
        raise LocalError("the embedded tracker did not start: see its message above")
    return line.decode().strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(TRACKER_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
