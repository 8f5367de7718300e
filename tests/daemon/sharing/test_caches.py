"""What a node's cache does by itself, again and again, whatever the volume does meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.sharing import caches
from dreamer.daemon.sharing.caches import CacheParts, NodeCaches
from dreamer.protocol.errors import DiskError


class Volume:
    """A store whose volume fails at its first looks, each time in another way."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.looked = 0
        self.eviction = SimpleNamespace(on_evicted=None, expires={})
        self.uses = SimpleNamespace(refresh=lambda: None)
        self.reach = SimpleNamespace(look=self.look)

    def look(self) -> None:
        self.looked += 1
        if self.failures:
            raise self.failures.pop(0)

    def known(self) -> list[Any]:
        return []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.EACCES])
async def test_upkeep_goes_on_after_the_volume_failed(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caches, "STORE_LOOK_INTERVAL_S", 0.001)
    volume: Any = Volume([OSError(number, os.strerror(number)), DiskError("full", "make room")])
    nothing: Any = SimpleNamespace(seated=dict, sessions=())
    running = asyncio.ensure_future(
        NodeCaches(CacheParts(volume, nothing, (), nothing, nothing, "me")).run()
    )
    async with asyncio.timeout(20):
        while volume.looked < 4 and not running.done():
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert os.strerror(number) in caplog.text
