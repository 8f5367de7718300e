"""A generation as a handler needs it: nothing is answered before it is known to have begun.

Whatever fails before the first piece fails with its own HTTP status; who runs it is known by then,
and can be told in the headers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dreamer.daemon.surfaces.inference import RunEnded, RunEvent, RunStarted, RunText
from dreamer.protocol.errors import LocalProtocolError

Said = RunText | RunEnded


@dataclass
class Running:
    """A generation whose first event is there after ``first_s`` seconds.

    ``started`` changes when another node goes on with it.
    """

    started: RunStarted
    first: Said
    first_s: float
    _rest: AsyncIterator[RunEvent]

    async def events(self) -> AsyncIterator[Said]:
        """Yield the pieces of text as they come, and last how it ended.

        Raises:
            DreamerError: nobody could end it.
        """
        yield self.first
        if isinstance(self.first, RunEnded):
            return
        async for event in self._rest:
            if isinstance(event, RunStarted):
                self.started = event
                continue
            yield event
            if isinstance(event, RunEnded):
                return
        raise LocalProtocolError("a run ended without saying how: see the daemon's log")


@asynccontextmanager
async def begun(work: AsyncIterator[RunEvent]) -> AsyncIterator[Running]:
    """Wait for the first piece of a generation; leaving the context ends the work.

    Raises:
        DreamerError: it could not begin.
    """
    asked = time.monotonic()
    try:
        started: RunStarted | None = None
        async for event in work:
            if isinstance(event, RunStarted):
                started = event
            elif started is not None:
                yield Running(started, event, time.monotonic() - asked, work)
                return
            else:
                break
        raise LocalProtocolError("a run ended before it began: see the daemon's log")
    finally:
        # At once, and not when the collector comes by: it holds a slot of the model's.
        if isinstance(work, AsyncGenerator):
            await work.aclose()
