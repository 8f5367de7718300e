"""Whoever stops listening stops the work at once, and not when the garbage is collected."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.local_models import LocalModels
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.offload.wire import pack
from dreamer.daemon.surfaces.inference import RunStarted, RunText
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import CONTROL_MESSAGE_MAX_BYTES
from dreamer.protocol.link.messages import decode
from dreamer.protocol.link.offload_messages import Ask, Failed
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL_ID = RoomId(b"r" * 32), ManifestId(b"m" * 32)
PEER = NodeId(b"p" * 32)
PATIENCE_S = 10.0
ASKED = GenerateRequest(prompt="hello")


class Runner:
    """A pool that goes on until it is let go."""

    def __init__(self, text="on and on") -> None:
        self.text = text
        self.let_go = False

    async def _forever(self):
        try:
            while True:
                yield Text(self.text, (1,))
        finally:
            self.let_go = True

    def generate(self, path, manifest_id, request, keep_alive_s=None):
        return self._forever()

    def for_peers(self, manifest_id, request):
        return self._forever()

    def is_loaded(self, manifest_id):
        return self.estimate(manifest_id).loaded

    def estimate(self, manifest_id):
        return SimpleNamespace(loaded=True)


def local_models(pool, held=True) -> LocalModels:
    store = SimpleNamespace(manifest=lambda _: object(), lay_out=lambda *_: "/model")
    state = SimpleNamespace(model=lambda _: SimpleNamespace(name="tiny"))
    return LocalModels(store, state, pool, lambda *_: held)


@pytest.mark.parametrize("held", [True, False])
async def test_closing_a_run_lets_its_runner_go(offloading, held) -> None:
    script = offloading.Script(*offloading.tokens("on"), None)
    peers = offloading.Peers(near=script)
    node = offloading.Offloading(peers, script if held else None)
    events = node.begin(ASKED)
    assert isinstance(await anext(events), RunStarted)
    assert await anext(events) == RunText("o", 1)
    await events.aclose()
    assert script.stopped == 1
    await node.tasks.close()


async def test_closing_a_generation_lets_the_pool_go() -> None:
    runner = Runner()
    events = local_models(runner).generate(ROOM, MODEL_ID, ASKED)
    await anext(events)
    await events.aclose()
    assert runner.let_go


async def test_a_model_that_is_not_of_this_room_is_not_run_for_its_members() -> None:
    events = local_models(Runner(), held=False).generate(ROOM, MODEL_ID, ASKED)
    with pytest.raises(NoMatchError, match="pull it first"):
        await anext(events)


async def test_an_answer_that_can_not_be_sent_ends_its_generation_first() -> None:
    runner = Runner("x" * (CONTROL_MESSAGE_MAX_BYTES + 1))
    tasks, let_go_when_told = TaskSet(), []

    def pass_on(command):
        if isinstance(decode(command.data), Failed):
            let_go_when_told.append(runner.let_go)

    link = Link(1, ROOM, PEER, Lane.WEBRTC, {}, pass_on, 0.0)
    serving = OffloadServing(runner.for_peers, lambda link: None, tasks)
    data = pack(GenerateRequest(prompt="hi", max_tokens=8))
    serving.message(link, Ask(1, "generate", MODEL_ID, len(data), 0, data))
    async with asyncio.timeout(PATIENCE_S):
        while not let_go_when_told:
            await asyncio.sleep(0)
    await tasks.close()
    assert let_go_when_told == [True]


@pytest.mark.parametrize("held", [True, False])
async def test_a_prompt_that_is_not_text_reaches_nobody(offloading, held) -> None:
    script = offloading.Script()
    node = offloading.Offloading(offloading.Peers(near=script), script if held else None)
    with pytest.raises(InputError, match="not UTF-8"):
        await node.run(GenerateRequest(prompt="caf\udce9"))
    assert script.asked == []
