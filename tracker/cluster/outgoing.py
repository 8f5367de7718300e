"""Letters that wait to be sent to other processes: few bytes, or the oldest are lost."""

from __future__ import annotations

import asyncio
from collections import deque

from dreamer.protocol.tracker_limits import (
    CLUSTER_BATCH_BYTES,
    CLUSTER_BATCH_LETTERS,
    CLUSTER_OUTGOING_MAX_BYTES,
)
from dreamer.tracker.public.elsewhere import ProcessId


class Outgoing:
    """A queue that never makes whoever fills it wait. What is lost are offers: peers make more."""

    def __init__(self) -> None:
        self._letters: deque[tuple[ProcessId, bytes]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._letters)

    def put(self, to: ProcessId, letter: bytes) -> None:
        """Add a letter."""
        self._letters.append((to, letter))
        self._bytes += len(letter)
        self._filled.set()
        while self._bytes > CLUSTER_OUTGOING_MAX_BYTES:
            self._drop()

    async def filled(self) -> None:
        """Return as soon as there are letters."""
        await self._filled.wait()

    def take(self) -> dict[ProcessId, list[bytes]]:
        """Return the next letters for each process."""
        batch: dict[ProcessId, list[bytes]] = {}
        room = CLUSTER_BATCH_BYTES
        for _ in range(min(len(self._letters), CLUSTER_BATCH_LETTERS)):
            to, letter = self._drop()
            batch.setdefault(to, []).append(letter)
            room -= len(letter)
            if room <= 0:
                break
        if not self._letters:
            self._filled.clear()
        return batch

    def clear(self) -> None:
        """Lose everything."""
        while self._letters:
            self._drop()
        self._filled.clear()

    def _drop(self) -> tuple[ProcessId, bytes]:
        to, letter = self._letters.popleft()
        self._bytes -= len(letter)
        return to, letter
