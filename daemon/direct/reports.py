"""What the threads of a direct lane have to say, brought to the daemon's loop in batches.

At a gigabyte a second a thousand blocks end each second; one turn of the loop takes all that ended
within a few milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.transport.vocabulary import ServeFailed
from dreamer.protocol.limits import DIRECT_BATCH_S


@dataclass(frozen=True)
class BlockTaken:
    """A block came in whole; ``verdict`` as in ``transport.vocabulary.BlockDone``."""

    request: int
    block: int
    verdict: str


@dataclass(frozen=True)
class Served:
    """A request was sent to its end, was stopped, or failed for a reason here."""

    request: int
    failed: ServeFailed | None


@dataclass(frozen=True)
class ChannelEnded:
    """A connection is closed; ``fault`` says whether the peer broke the protocol."""

    channel: Channel
    reason: str
    fault: bool


Report = BlockTaken | Served | ChannelEnded


class Reports:
    """A queue from threads to the loop; ``deliver`` is called there with each batch."""

    def __init__(self, deliver: Callable[[list[Report]], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: list[Report] = []

    def post(self, report: Report) -> bool:
        """Say something, from any thread; return False if the loop is closed: nobody hears it.

        Blocks that came in can wait for more of them. All else is told at once: a giver has
        nothing to send until it is given the next part of a request.
        """
        patient = isinstance(report, BlockTaken)
        with self._lock:
            first = not self._waiting
            self._waiting.append(report)
        try:
            if not patient:
                self._loop.call_soon_threadsafe(self._flush)
            elif first:
                self._loop.call_soon_threadsafe(self._loop.call_later, DIRECT_BATCH_S, self._flush)
        except RuntimeError:
            return False
        return True

    def _flush(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if batch:
            self._deliver(batch)
