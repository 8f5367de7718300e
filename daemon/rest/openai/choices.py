"""The choices of one request, made at the same time and told as they come.

A request may have more of them than the node has slots and places in its queue: those that find
none wait until another of the same request has ended. One that waits for nobody is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from dreamer.daemon.rest.generation import Running, Said, begun
from dreamer.daemon.surfaces.inference import RunEnded, RunEvent, RunStarted
from dreamer.protocol.errors import BusyError
from dreamer.protocol.inference_limits import OPENAI_CHOICES_AT_ONCE

Work = Callable[[], AsyncIterator[RunEvent]]
"""Begins one choice; once more if the node was busy."""
Told = tuple[int, Said]
"""Which choice it belongs to, and what it is."""

_HELD_EVENTS = 64


@dataclass
class Choices:
    """Choices of which ``run`` was the first to begin."""

    run: Running
    events: AsyncIterator[Told]

    @property
    def started(self) -> RunStarted:
        """Who runs it, or ran it last."""
        return self.run.started


@asynccontextmanager
async def choosing(works: Sequence[Work]) -> AsyncIterator[Choices]:
    """Run ``works``, some at the same time; leaving the context ends them.

    Raises:
        DreamerError: one of them failed, now or while their events are read.
    """
    if len(works) == 1:
        # The usual case goes without a queue and a task.
        async with begun(works[0]()) as run:
            yield Choices(run, _alone(run))
        return
    async with _together(works) as choices:
        yield choices


async def _alone(run: Running) -> AsyncIterator[Told]:
    async for said in run.events():
        yield 0, said


@dataclass(frozen=True)
class _Event:
    index: int
    run: Running
    said: Said


_Queue = asyncio.Queue[_Event | Exception]


@asynccontextmanager
async def _together(works: Sequence[Work]) -> AsyncIterator[Choices]:
    # Bounded: a client that reads slowly slows the models, and fills no memory.
    queue: _Queue = asyncio.Queue(_HELD_EVENTS)
    turns = _Turns()
    pumps = [
        asyncio.create_task(_pump(index, work, queue, turns)) for index, work in enumerate(works)
    ]
    try:
        first = await _next(queue)
        yield Choices(first.run, _merged(first, queue, len(works)))
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


class _Turns:
    """Whose turn it is: so many at a time, fewer if the node takes no more."""

    def __init__(self) -> None:
        self._at_once = asyncio.Semaphore(OPENAI_CHOICES_AT_ONCE)
        self._under_way = 0
        self._one_ended = asyncio.Event()

    @asynccontextmanager
    async def begun(self, work: Work) -> AsyncIterator[Running]:
        """Begin a choice when it is its turn.

        Raises:
            BusyError: the node takes no more, and no other choice of the request is under way.
            DreamerError: it could not begin.
        """
        async with self._at_once, AsyncExitStack() as stack:
            while True:
                # Also while it waits in the node's queue: it will have its turn.
                self._under_way += 1
                try:
                    run = await stack.enter_async_context(begun(work()))
                    break
                except BusyError:
                    self._under_way -= 1
                    if not self._under_way:
                        raise
                    await self._one_ended.wait()
            try:
                yield run
            finally:
                self._under_way -= 1
                self._one_ended.set()
                self._one_ended = asyncio.Event()


async def _pump(index: int, work: Work, queue: _Queue, turns: _Turns) -> None:
    try:
        async with turns.begun(work) as run:
            async for said in run.events():
                await queue.put(_Event(index, run, said))
    except Exception as error:  # told to whoever reads, who raises it
        await queue.put(error)


async def _next(queue: _Queue) -> _Event:
    event = await queue.get()
    if isinstance(event, Exception):
        raise event
    return event


async def _merged(first: _Event, queue: _Queue, works: int) -> AsyncIterator[Told]:
    event, ended = first, 0
    while True:
        yield event.index, event.said
        ended += isinstance(event.said, RunEnded)
        if ended == works:
            return
        event = await _next(queue)
