"""What one answer of a peer may fill of the memory, and who is to blame when it is too much."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dreamer.daemon.inference.requests import GenerateRequest, Started, Text, TokenLogprob
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.asking import OffloadAsking, pack_logprobs
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.offload.waiting import UnreadAnswerError
from dreamer.daemon.offload.wire import pack, pack_tokens
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.link import offload_messages
from dreamer.protocol.link.messages import decode
from dreamer.protocol.link.offload_messages import Ask, Begun, Failed, StopAnswering
from dreamer.protocol.offload_limits import (
    OFFLOAD_ANSWERS_WAITING_MAX_BYTES,
    OFFLOAD_TEXT_MAX_BYTES,
    OFFLOAD_TOKEN_MAX_CHARS,
)
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL = RoomId(b"r" * 32), ManifestId(b"m" * 32)
PATIENCE_S = 10.0
LONG = "x" * OFFLOAD_TEXT_MAX_BYTES
LIKELY = TokenLogprob(1, "a", -0.5, ((1, "a", -0.5), (2, "b", -1.0)))


def link_that_notes(sent: list) -> Link:
    def note(command) -> None:
        sent.append(decode(command.data))

    return Link(1, ROOM, NodeId(b"p" * 32), Lane.WEBRTC, {}, note, 0.0)


class Asked:
    """A request to a peer that says what the test wants; nobody takes what it says."""

    def __init__(self, **options) -> None:
        self.sent: list = []
        self.link = link_that_notes(self.sent)
        self.asking = OffloadAsking(itertools.count(1))
        request = GenerateRequest(prompt="hi", **options)
        self.answer = self.asking.generate(self.link, MODEL, request)

    async def begin(self) -> None:
        first = asyncio.ensure_future(anext(self.answer))
        await asyncio.sleep(0)
        self.asking.message(self.link, Begun(1, 3))
        assert isinstance(await first, Started)

    def hear(self, text: str, tokens: int, logprobs: bytes = b"") -> None:
        ids = pack_tokens(tuple(range(tokens)))
        self.asking.message(self.link, offload_messages.Text(1, text, ids, logprobs))


@pytest.fixture
async def asked():
    made = []

    async def ask(**options) -> Asked:
        one = Asked(**options)
        made.append(one)
        await one.begin()
        return one

    yield ask
    for one in made:
        await one.answer.aclose()


async def test_text_without_tokens_is_not_endless(asked) -> None:
    one = await asked(max_tokens=100_000)
    one.hear(LONG, 0)
    assert await anext(one.answer) == Text(LONG, ())
    with pytest.raises(RemoteProtocolError, match="more text than its tokens can be"):
        one.hear("x", 0)


async def test_each_token_brings_room_for_its_own_text_and_no_more(asked) -> None:
    one = await asked(max_tokens=100_000)
    one.hear(LONG, 0)
    for _ in range(3):
        one.hear("x" * 10 * OFFLOAD_TOKEN_MAX_CHARS, 10)
        assert await anext(one.answer)
    with pytest.raises(RemoteProtocolError, match="more text than its tokens can be"):
        one.hear("x" * (OFFLOAD_TOKEN_MAX_CHARS + 1), 1)


async def test_logprobs_that_nobody_asked_for_are_the_peers_fault(asked) -> None:
    one = await asked()
    with pytest.raises(RemoteProtocolError, match="more logprobs than were asked for"):
        one.hear("a", 1, pack_logprobs((LIKELY,)))


async def test_logprobs_come_to_what_so_many_tokens_can_have(asked) -> None:
    one = await asked(max_tokens=1000, logprobs=2)
    much = pack_logprobs((TokenLogprob(1, "x" * 60_000, -0.5, ()),))
    one.hear("a", 1, much)
    with pytest.raises(RemoteProtocolError, match="more logprobs than were asked for"):
        one.hear("a", 1, much)


async def test_logprobs_of_more_tokens_than_came_are_refused(asked) -> None:
    one = await asked(logprobs=2)
    one.hear("a", 1, pack_logprobs((LIKELY, LIKELY)))
    with pytest.raises(RemoteProtocolError, match="logprobs of more tokens"):
        assert [await anext(one.answer) for _ in range(2)]


async def test_who_reads_too_slowly_loses_the_request_and_not_the_link(asked) -> None:
    one = await asked(max_tokens=131_072, logprobs=20)
    told = b"x" * 5000
    for _ in range(OFFLOAD_ANSWERS_WAITING_MAX_BYTES // (len(told) + 400)):
        one.hear("a", 1, told)
    assert not any(isinstance(said, StopAnswering) for said in one.sent)
    for _ in range(2000):
        one.hear("a", 1, told)
    # The peer is told at once, and once: what it had sent before it heard changes nothing.
    assert [said for said in one.sent if isinstance(said, StopAnswering)] == [StopAnswering(1)]
    with pytest.raises(UnreadAnswerError, match="read faster"):
        await anext(one.answer)
    assert one.asking._waiting == {}


async def test_many_ends_fill_no_memory_either(asked) -> None:
    one = await asked()
    end = offload_messages.Ended(1, LONG, "stop", *(0,) * 9)
    for _ in range(OFFLOAD_ANSWERS_WAITING_MAX_BYTES // (4 * len(LONG)) + 1):
        one.asking.message(one.link, end)
    assert one.asking._waiting[1, 1].given_up
    with pytest.raises(UnreadAnswerError):
        await anext(one.answer)


@pytest.mark.parametrize(
    "piece",
    [
        Text("x" * (OFFLOAD_TEXT_MAX_BYTES + OFFLOAD_TOKEN_MAX_CHARS + 1), (1,)),
        Text(LONG + "x", tuple(range(99))),
        Text("x", (1,), (TokenLogprob(1, LONG + "x" * 999, -1.0, ()),)),
    ],
)
async def test_model_of_endless_tokens_costs_its_runner_no_link(piece) -> None:
    async def generate(manifest_id, request):
        yield Started(manifest_id.hex(), 3)
        yield piece

    tasks = TaskSet()
    sent: list = []
    link = link_that_notes(sent)
    serving = OffloadServing(generate, lambda link: None, tasks)
    data = pack(GenerateRequest(prompt="hi", logprobs=0))
    serving.message(link, Ask(1, "generate", MODEL, len(data), 0, data))
    async with asyncio.timeout(PATIENCE_S):
        while not any(isinstance(said, Failed) for said in sent):
            await asyncio.sleep(0)
    assert not any(isinstance(said, offload_messages.Text) for said in sent)
    await tasks.close()


def test_unread_is_no_fault_of_the_peer() -> None:
    assert not issubclass(UnreadAnswerError, RemoteError)
