"""A node asks, another answers: both ends of offloading, wired back to back."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dreamer.daemon.inference.requests import Ended, Started, Text
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload import asking as asking_module
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.ports import RunEnded, RunText
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import SendControl
from dreamer.protocol.errors import (
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    GENERATIONS_MAX_PER_LINK,
    PROMPT_MAX_BYTES,
)
from dreamer.protocol.link.messages import Failed, Generate, StopGenerating, Working, decode
from dreamer.protocol.link.messages import Text as TextMessage
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL = RoomId(b"r" * 32), ManifestId(b"m" * 32)
PATIENCE_S = 10.0


class Generator:
    """Inference that says what it was told to, and stops when nobody listens."""

    def __init__(self) -> None:
        self.requests = []
        self.stopped = 0
        self.error: DreamerError | None = None
        self.hold = False

    async def __call__(self, manifest_id, request):
        self.requests.append((manifest_id, request))
        try:
            yield Started(manifest_id.hex(), 3)
            yield Text("Hello ", (1,))
            if self.error is not None:
                raise self.error
            if self.hold:
                await asyncio.Event().wait()
            yield Text("wörld", (2, 3))
            yield Ended("stop", 3, 3, 0.25, 0.5)
        except asyncio.CancelledError:
            self.stopped += 1
            raise


class Wired:
    """Two ends of a link that carries control messages."""

    def __init__(self) -> None:
        self.tasks = TaskSet()
        self.generator = Generator()
        self.allowed = True
        self.asking = OffloadAsking(itertools.count(1))
        self.serving = OffloadServing(self.generator, lambda: self.allowed, self.tasks)
        self.at_asker = self.link(
            b"s", lambda message: self.serving.message(self.at_server, message)
        )
        self.at_server = self.link(
            b"a", lambda message: self.asking.message(self.at_asker, message)
        )
        self.sent = []

    def link(self, peer, receive):
        def pass_on(command):
            assert isinstance(command, SendControl)
            message = decode(command.data)
            self.sent.append(message)
            asyncio.get_running_loop().call_soon(receive, message)

        return Link(1, ROOM, NodeId(peer * 32), Lane.WEBRTC, {}, pass_on, 0.0)

    def run(self, prompt="hi", max_tokens=8):
        return self.asking.run(self.at_asker, MODEL, prompt, max_tokens)

    async def all(self, **request):
        async with asyncio.timeout(PATIENCE_S):
            return [event async for event in self.run(**request)]

    async def until(self, happened) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not happened():
                await asyncio.sleep(0)


@pytest.fixture
async def wired():
    made = Wired()
    yield made
    await made.tasks.close()


async def test_text_streams_and_ends_with_its_figures(wired) -> None:
    assert await wired.all(prompt="Say hello.", max_tokens=8) == [
        RunText("Hello ", 1),
        RunText("wörld", 2),
        RunEnded("stop", 3, 3, 0.25, 0.5),
    ]
    ((manifest_id, request),) = wired.generator.requests
    assert (manifest_id, request.prompt, request.max_tokens) == (MODEL, "Say hello.", 8)
    assert not any(isinstance(message, StopGenerating) for message in wired.sent)


async def test_several_answers_at_once_do_not_mix(wired) -> None:
    answers = await asyncio.gather(*(wired.all() for _ in range(GENERATIONS_MAX_PER_LINK)))
    assert all(answer == answers[0] for answer in answers)


async def test_closing_the_answer_stops_the_generator(wired) -> None:
    wired.generator.hold = True
    answer = wired.run()
    assert await anext(answer) == RunText("Hello ", 1)
    await answer.aclose()
    await wired.until(lambda: wired.generator.stopped == 1 and not wired.serving._running)
    assert wired.asking._waiting == {}


async def test_a_link_lost_in_the_midst_fails_the_answer_and_stops_the_generator(wired) -> None:
    wired.generator.hold = True
    answer = wired.run()
    await anext(answer)
    wired.asking.link_down(wired.at_asker, "closed")
    wired.serving.link_down(wired.at_server, "closed")
    with pytest.raises(RemoteError, match="lost the link"):
        await anext(answer)
    await wired.until(lambda: wired.generator.stopped == 1)


async def test_losing_another_link_changes_nothing(wired) -> None:
    wired.generator.hold = True
    answer = wired.run()
    await anext(answer)
    other = Link(2, ROOM, NodeId(b"z" * 32), Lane.WEBRTC, {}, print, 0.0)
    wired.asking.link_down(other, "closed")
    wired.serving.link_down(other, "closed")
    assert len(wired.serving._running) == 1
    await answer.aclose()


async def test_a_node_that_does_not_serve_says_so(wired) -> None:
    wired.allowed = False
    with pytest.raises(ForbiddenError, match="does not run models for others"):
        await wired.all()
    assert wired.generator.requests == []


@pytest.mark.parametrize(
    ("error", "seen_as"),
    [
        (RemoteError("its worker died"), RemoteError),
        (NoMatchError("pull it first"), RemoteError),
        (LocalError("out of memory"), RemoteError),
        (InputError("the prompt does not fit"), InputError),
        (ForbiddenError("not for you"), ForbiddenError),
    ],
)
async def test_what_goes_wrong_there_is_told_as_it_is_seen_from_here(wired, error, seen_as) -> None:
    wired.generator.error = error
    with pytest.raises(seen_as, match=str(error)) as raised:
        await wired.all()
    assert type(raised.value) is seen_as
    assert wired.asking._waiting == {}


async def test_a_peer_that_is_at_it_says_so_before_it_has_text(wired) -> None:
    wired.generator.hold = True
    answer = wired.run()
    await anext(answer)
    assert {type(message) for message in wired.sent} == {Generate, Working, TextMessage}
    await answer.aclose()


@pytest.mark.parametrize(
    "request_",
    [
        {"max_tokens": 0},
        {"max_tokens": GENERATE_MAX_TOKENS + 1},
        {"prompt": "x" * (PROMPT_MAX_BYTES + 1)},
    ],
)
async def test_a_request_out_of_bounds_never_reaches_the_model(wired, request_) -> None:
    with pytest.raises(InputError):
        await wired.all(**request_)
    assert wired.generator.requests == []


async def test_more_requests_than_a_link_may_have_are_refused(wired) -> None:
    wired.generator.hold = True
    running = [wired.run() for _ in range(GENERATIONS_MAX_PER_LINK)]
    for answer in running:
        await anext(answer)
    with pytest.raises(RemoteError, match="try later"):
        await wired.all()
    await running.pop().aclose()
    await wired.until(lambda: len(wired.serving._running) < GENERATIONS_MAX_PER_LINK)
    another = wired.run()
    assert await anext(another) == RunText("Hello ", 1)
    for answer in (*running, another):
        await answer.aclose()
    await wired.until(lambda: not wired.serving._running)


async def test_a_request_number_used_twice_is_refused(wired) -> None:
    wired.generator.hold = True
    for _ in range(2):
        wired.serving.message(wired.at_server, Generate(5, MODEL, "hi", 8))
    refused = [message for message in wired.sent if isinstance(message, Failed)]
    assert [one.request for one in refused] == [5]
    assert len(wired.serving._running) == 1


async def test_stopping_what_does_not_run_changes_nothing(wired) -> None:
    wired.serving.message(wired.at_server, StopGenerating(77))
    assert len(await wired.all()) == 3


async def test_answers_to_nothing_are_ignored(wired) -> None:
    wired.asking.message(wired.at_asker, TextMessage(77, "x", 1))
    wired.asking.message(wired.at_asker, Failed(77, "local", "x"))
    assert len(await wired.all()) == 3


async def test_a_silent_peer_is_given_up(wired, monkeypatch) -> None:
    monkeypatch.setattr(asking_module, "GENERATE_FIRST_TOKEN_TIMEOUT_S", 0.01)
    wired.generator.hold = True
    with pytest.raises(RemoteError, match="try another node"):
        await wired.all()
    await wired.until(lambda: wired.generator.stopped == 1)


async def test_a_long_complaint_of_a_peer_is_cut(wired) -> None:
    wired.generator.error = LocalError("x" * 100_000)
    with pytest.raises(RemoteError) as raised:
        await wired.all()
    assert len(str(raised.value)) < 600
