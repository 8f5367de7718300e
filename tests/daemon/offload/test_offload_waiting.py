"""A peer that queues, loads or reads a long prompt is waited for; one that hangs is not."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dreamer.daemon.inference.requests import Ended, GenerateRequest, Started, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload import serving as serving_module
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link.messages import decode
from dreamer.protocol.link.offload_messages import Working
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL = RoomId(b"r" * 32), ManifestId(b"m" * 32)
PATIENCE_S = 20.0
SILENCE_S, INTERVAL_S = 0.5, 0.01
SIGNS_OF_LIFE = 80
"""More of them than there is silence allowed: together they last longer."""


class SlowPeer:
    """Both ends of a link, whose far end is at it until it has said so ``SIGNS_OF_LIFE`` times."""

    def __init__(self) -> None:
        self.tasks = TaskSet()
        self.signs = 0
        self.enough = asyncio.Event()
        self.deaf = False
        self.asking = OffloadAsking(itertools.count(1), SILENCE_S)
        self.serving = OffloadServing(self.load_and_answer, lambda link: None, self.tasks)
        self.near = self._end(lambda message: self.serving.message(self.far, message))
        self.far = self._end(self._to_asker)

    async def load_and_answer(self, manifest_id, request):
        await self.enough.wait()
        yield Started(manifest_id.hex(), 3)
        yield Text("At last.", (1, 2))
        yield Ended("stop", 3, 2, 0.25, 0.5)

    def _end(self, receive) -> Link:
        def pass_on(command):
            asyncio.get_running_loop().call_soon(receive, decode(command.data))

        return Link(1, ROOM, NodeId(b"p" * 32), Lane.WEBRTC, {}, pass_on, 0.0)

    def _to_asker(self, message) -> None:
        if isinstance(message, Working):
            if self.deaf:
                return
            self.signs += 1
            if self.signs == SIGNS_OF_LIFE:
                self.enough.set()
        self.asking.message(self.near, message)

    async def answer(self):
        async with asyncio.timeout(PATIENCE_S):
            asked = GenerateRequest(prompt="hi", max_tokens=8)
            return [event async for event in self.asking.generate(self.near, MODEL, asked)]


@pytest.fixture
async def peer(monkeypatch):
    monkeypatch.setattr(serving_module, "OFFLOAD_WORKING_INTERVAL_S", INTERVAL_S)
    made = SlowPeer()
    yield made
    await made.tasks.close()


async def test_a_peer_that_loads_longer_than_the_silence_allowed_is_waited_for(peer) -> None:
    assert await peer.answer() == [
        Started(MODEL.hex(), 3),
        Text("At last.", (1, 2)),
        Ended("stop", 3, 2, 0.25, 0.5),
    ]
    assert peer.signs >= SIGNS_OF_LIFE


async def test_a_peer_whose_signs_of_life_stay_out_is_given_up(peer) -> None:
    peer.deaf = True
    with pytest.raises(RemoteError, match="try another node"):
        await peer.answer()


async def test_signs_of_life_end_with_the_answer(peer) -> None:
    await peer.answer()
    async with asyncio.timeout(PATIENCE_S):
        while peer.serving._running:
            await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "_say_so" in repr(task)] == []
