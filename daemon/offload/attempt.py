"""One runner at work on a request: here, or a peer; heard up to its first token and beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dreamer.daemon.inference.requests import Ended, Event, Started, Text
from dreamer.protocol.errors import DreamerError, LocalProtocolError, RemoteError
from dreamer.protocol.ids import short
from dreamer.protocol.offload import Choice


@dataclass
class Attempt:
    """A runner that was started. ``close`` it in any case: that ends its work."""

    choice: Choice
    name: str
    events: AsyncGenerator[Event, None]
    prompt_tokens: int = 0

    async def next(self, timeout_s: float | None) -> Text | Ended:
        """Return what comes next of the answer.

        Raises:
            RemoteError: nothing came for ``timeout_s``.
            DreamerError: the runner failed.
        """
        if timeout_s is None:
            return await self._next()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            raise RemoteError(
                f"{short(self.choice.node)} sent no token for {timeout_s:g} s: another is asked"
            ) from None

    async def _next(self) -> Text | Ended:
        async for event in self.events:
            if isinstance(event, Started):
                self.prompt_tokens = event.prompt_tokens
            else:
                return event
        raise LocalProtocolError("a runner ended its answer without saying how")

    async def close(self) -> None:
        """End the work, if it has not ended."""
        await self.events.aclose()


async def first_to_answer(
    attempts: Sequence[Attempt], timeout_s: float | None
) -> tuple[Attempt, Text | Ended]:
    """Return the attempt whose answer begins first, and its beginning; the others are ended.

    Raises:
        DreamerError: all failed; what the last one failed with.
    """
    if len(attempts) == 1:
        return attempts[0], await attempts[0].next(timeout_s)
    racing = {asyncio.create_task(one.next(timeout_s)): one for one in attempts}
    failed: DreamerError | None = None
    winner: Attempt | None = None
    try:
        waiting = set(racing)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # In the order in which they were started, where several answer at once.
            for task in (one for one in racing if one in done):
                try:
                    event = task.result()
                    winner = racing[task]
                    return winner, event
                except DreamerError as error:
                    failed = error
    finally:
        await _abandon({task: one for task, one in racing.items() if one is not winner})
    assert failed is not None, "there was somebody to wait for"
    raise failed


async def _abandon(racing: dict[asyncio.Task[Text | Ended], Attempt]) -> None:
    """End the work of those that were not first; one of them may have answered as well by now."""
    for task in racing:
        task.cancel()
    for task, attempt in racing.items():
        with suppress(asyncio.CancelledError, DreamerError):
            await task
        await attempt.close()
