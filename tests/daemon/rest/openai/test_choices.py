"""More choices than a node takes at once: they wait for one another, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.daemon.rest.openai.choices import choosing
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.errors import BusyError, RemoteError

ENDED = RunEnded("stop", 1, 1, 0.1, 0.2)


class Node:
    """Takes so many generations at once, those that wait among them, and refuses more."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.running = 0
        self.most = 0
        self.asked = 0

    async def generate(self):
        self.asked += 1
        if self.running >= self.takes:
            raise BusyError("as many requests wait as may")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            yield RunStarted("local", "", "", "")
            yield RunText("a", 1)
            await asyncio.sleep(0)
            yield ENDED
        finally:
            self.running -= 1


async def texts(node: Node, number: int) -> list[int]:
    """Return the choices that ended, in their order."""
    ended = []
    async with asyncio.timeout(10), choosing([node.generate] * number) as choices:
        async for index, said in choices.events:
            if isinstance(said, RunEnded):
                ended.append(index)
    return sorted(ended)


@pytest.mark.parametrize("takes", [1, 3, 8, 100])
async def test_more_choices_than_are_taken_at_once_are_all_made(takes: int) -> None:
    node = Node(takes)
    assert await texts(node, 16) == list(range(16))
    assert node.most == min(takes, 8)


async def test_request_that_finds_no_place_at_all_is_refused() -> None:
    node = Node(0)
    with pytest.raises(BusyError):
        await texts(node, 16)
    # Nobody asks again and again where nothing of its own will end.
    assert node.asked <= 16


async def test_choice_that_fails_ends_those_that_wait() -> None:
    class Failing(Node):
        async def generate(self):
            async for event in super().generate():
                if event is ENDED:
                    raise RemoteError("gone")
                yield event

    with pytest.raises(RemoteError):
        await texts(Failing(1), 4)
