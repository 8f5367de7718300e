"""Whoever stops listening stops the work at once, and not when the garbage is collected."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace

import pytest

from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.running import Runs
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.ports import RunRequest, RunStarted, RunText
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import CONTROL_MESSAGE_MAX_BYTES
from dreamer.protocol.link.messages import Failed, Generate, decode
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL_ID = RoomId(b"r" * 32), ManifestId(b"m" * 32)
US, PEER = NodeId(b"u" * 32), NodeId(b"p" * 32)
MODEL = SimpleNamespace(manifest_id=MODEL_ID, name="tiny")
PATIENCE_S = 10.0


class Runner:
    """Inference, here or on a peer, that goes on until it is let go."""

    def __init__(self, text="on and on") -> None:
        self.text = text
        self.let_go = False

    async def _forever(self, event):
        try:
            while True:
                yield event
        finally:
            self.let_go = True

    def generate(self, path, manifest_id, request):
        return self._forever(Text(self.text, (1,)))

    def for_peers(self, manifest_id, request):
        return self._forever(Text(self.text, (1,)))

    def run(self, link, manifest_id, prompt, max_tokens):
        return self._forever(RunText(self.text, 1))


class Session:
    """A room with one peer that serves the model."""

    room_id = ROOM

    def __init__(self) -> None:
        link = Link(1, ROOM, PEER, Lane.WEBRTC, {"name": "p", "serves": True}, print, 0.0)
        self.present = {PEER: link.capabilities}
        self.links = SimpleNamespace(
            own=US,
            rng=Random(1),
            links=[link],
            coming_up=[],
            connect=lambda peer: None,
            link={PEER: link}.get,
        )

    async def holders(self, manifest_id):
        return [PEER]


def runs(runner, held):
    store = SimpleNamespace(manifest=lambda _: object(), lay_out=lambda *_: "/model")
    state = SimpleNamespace(model=lambda _: SimpleNamespace(name="tiny"))
    return Runs(US, "us", store, state, runner, lambda *_: held, {ROOM: runner})


@pytest.mark.parametrize("held", [True, False])
async def test_closing_a_run_lets_its_runner_go(held) -> None:
    runner = Runner()
    events = runs(runner, held).run(Session(), MODEL, RunRequest("tiny", "hello"))
    assert isinstance(await anext(events), RunStarted)
    assert await anext(events) == RunText("on and on", 1)
    await events.aclose()
    assert runner.let_go


async def test_closing_a_generation_lets_the_pool_go() -> None:
    runner = Runner()
    events = runs(runner, held=True).generate(ROOM, MODEL_ID, GenerateRequest("hello"))
    await anext(events)
    await events.aclose()
    assert runner.let_go


async def test_an_answer_that_can_not_be_sent_ends_its_generation_first() -> None:
    runner = Runner("x" * (CONTROL_MESSAGE_MAX_BYTES + 1))
    tasks, let_go_when_told = TaskSet(), []

    def pass_on(command):
        if isinstance(decode(command.data), Failed):
            let_go_when_told.append(runner.let_go)

    link = Link(1, ROOM, PEER, Lane.WEBRTC, {}, pass_on, 0.0)
    serving = OffloadServing(runner.for_peers, lambda: True, tasks)
    serving.message(link, Generate(1, MODEL_ID, "hi", 8))
    async with asyncio.timeout(PATIENCE_S):
        while not let_go_when_told:
            await asyncio.sleep(0)
    await tasks.close()
    assert let_go_when_told == [True]


@pytest.mark.parametrize("held", [True, False])
async def test_a_prompt_that_is_not_text_reaches_nobody(held) -> None:
    runner = Runner()
    request = RunRequest("tiny", "caf\udce9")
    with pytest.raises(InputError, match="not UTF-8"):
        async for _ in runs(runner, held).run(Session(), MODEL, request):
            pass
    assert not runner.let_go
