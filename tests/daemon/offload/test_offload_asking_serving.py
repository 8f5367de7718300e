"""A node asks, another answers: both ends of offloading, wired back to back."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dreamer.daemon.inference.requests import (
    Ended,
    GenerateRequest,
    Message,
    Started,
    Text,
    TokenLogprob,
)
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.asking import OffloadAsking
from dreamer.daemon.offload.serving import OffloadServing
from dreamer.daemon.offload.wire import pack
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.transport.vocabulary import SendControl
from dreamer.protocol.errors import (
    BusyError,
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
    RemoteProtocolError,
)
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    PROMPT_MAX_BYTES,
)
from dreamer.protocol.link import offload_messages
from dreamer.protocol.link.messages import decode
from dreamer.protocol.link.offload_messages import Ask, Begun, Failed, StopAnswering, Working
from dreamer.protocol.link.offload_messages import Text as TextMessage
from dreamer.protocol.offload_limits import (
    OFFLOAD_PIECE_BYTES,
    OFFLOAD_REQUEST_MAX_BYTES,
    OFFLOAD_REQUESTS_MAX_PER_LINK,
)
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, MODEL = RoomId(b"r" * 32), ManifestId(b"m" * 32)
PATIENCE_S = 10.0
HELLO = Text("Hello ", (1,))
ENDED = Ended("stop", 3, 3, 0.25, 0.5, 0.01, 0.02, 0.03, 0.2, cached_tokens=2)


class Generator:
    """Inference that says what it was told to, and stops when nobody listens."""

    def __init__(self) -> None:
        self.requests = []
        self.stopped = 0
        self.error: DreamerError | None = None
        self.hold = False
        self.tail = ""

    async def __call__(self, manifest_id, request):
        self.requests.append((manifest_id, request))
        try:
            yield Started(manifest_id.hex(), 3)
            yield HELLO
            if self.error is not None:
                raise self.error
            if self.hold:
                await asyncio.Event().wait()
            yield Text("wörld", (2, 3))
            if self.tail:
                yield Text(self.tail, ())
            yield ENDED
        except asyncio.CancelledError:
            self.stopped += 1
            raise


class Wired:
    """Two ends of a link that carries control messages."""

    def __init__(self, silence_timeout_s=5.0) -> None:
        self.tasks = TaskSet()
        self.generator = Generator()
        self.allowed = True
        self.asking = OffloadAsking(itertools.count(1), silence_timeout_s)
        self.serving = OffloadServing(self.generator, self._check, self.tasks)
        self.at_asker = self.link(
            b"s", lambda message: self.serving.message(self.at_server, message)
        )
        self.at_server = self.link(
            b"a", lambda message: self.asking.message(self.at_asker, message)
        )
        self.sent = []

    def _check(self, link):
        if not self.allowed:
            raise ForbiddenError("this node does not run models for others")

    def link(self, peer, receive):
        def pass_on(command):
            assert isinstance(command, SendControl)
            message = decode(command.data)
            self.sent.append(message)
            asyncio.get_running_loop().call_soon(receive, message)

        return Link(1, ROOM, NodeId(peer * 32), Lane.WEBRTC, {}, pass_on, 0.0)

    def run(self, prompt="hi", max_tokens=8, **options):
        request = GenerateRequest(prompt=prompt, max_tokens=max_tokens, **options)
        return self.asking.generate(self.at_asker, MODEL, request)

    async def begin(self):
        """Return an answer whose first word is there."""
        answer = self.run()
        assert isinstance(await anext(answer), Started)
        assert await anext(answer) == HELLO
        return answer

    async def all(self, **request):
        async with asyncio.timeout(PATIENCE_S):
            return [event async for event in self.run(**request)]

    async def all_sent(self) -> None:
        """Let everything arrive that is on its way."""
        sent = -1
        while sent != (sent := len(self.sent)):
            for _ in range(5):
                await asyncio.sleep(0)

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
        Started(MODEL.hex(), 3),
        HELLO,
        Text("wörld", (2, 3)),
        ENDED,
    ]
    ((manifest_id, request),) = wired.generator.requests
    assert (manifest_id, request.prompt, request.max_tokens) == (MODEL, "Say hello.", 8)
    assert not any(isinstance(message, StopAnswering) for message in wired.sent)


async def test_several_answers_at_once_do_not_mix(wired) -> None:
    answers = await asyncio.gather(*(wired.all() for _ in range(OFFLOAD_REQUESTS_MAX_PER_LINK)))
    assert all(answer == answers[0] for answer in answers)


async def test_closing_the_answer_stops_the_generator(wired) -> None:
    wired.generator.hold = True
    answer = await wired.begin()
    await answer.aclose()
    await wired.until(lambda: wired.generator.stopped == 1 and not wired.serving._running)
    assert wired.asking._waiting == {}


async def test_a_link_lost_in_the_midst_fails_the_answer_and_stops_the_generator(wired) -> None:
    wired.generator.hold = True
    answer = await wired.begin()
    wired.asking.link_down(wired.at_asker, "closed")
    wired.serving.link_down(wired.at_server, "closed")
    with pytest.raises(RemoteError, match="lost the link"):
        await anext(answer)
    await wired.until(lambda: wired.generator.stopped == 1)


async def test_losing_another_link_changes_nothing(wired) -> None:
    wired.generator.hold = True
    answer = await wired.begin()
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
    answer = await wired.begin()
    assert {type(message) for message in wired.sent} == {Ask, Working, Begun, TextMessage}
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
    data = pack(GenerateRequest(prompt="hi"))
    for number in range(OFFLOAD_REQUESTS_MAX_PER_LINK + 1):
        wired.serving.message(wired.at_server, Ask(number, "generate", MODEL, len(data), 0, data))
    refused = [message for message in wired.sent if isinstance(message, Failed)]
    assert [one.request for one in refused] == [OFFLOAD_REQUESTS_MAX_PER_LINK]
    assert refused[0].code == BusyError.code


async def test_what_a_peer_does_not_take_yet_waits_its_turn_here(wired) -> None:
    wired.generator.hold = True
    running = [await wired.begin() for _ in range(OFFLOAD_REQUESTS_MAX_PER_LINK)]
    waiting = asyncio.create_task(wired.begin())
    await wired.until(lambda: wired.asking.under_way(wired.at_asker) == len(running) + 1)
    await wired.all_sent()
    assert len(wired.generator.requests) == len(running)
    await running.pop().aclose()
    async with asyncio.timeout(PATIENCE_S):
        running.append(await waiting)
    for answer in running:
        await answer.aclose()
    assert wired.asking.under_way(wired.at_asker) == 0


async def test_a_line_is_bounded_and_ends_with_its_link(wired, monkeypatch) -> None:
    monkeypatch.setattr("dreamer.daemon.offload.line.OFFLOAD_LINE_MAX", 1)
    wired.generator.hold = True
    running = [await wired.begin() for _ in range(OFFLOAD_REQUESTS_MAX_PER_LINK)]
    waiting = asyncio.create_task(wired.all())
    await wired.until(lambda: wired.asking.under_way(wired.at_asker) == len(running) + 1)
    with pytest.raises(BusyError, match="ask again later"):
        await wired.all()
    wired.asking.link_down(wired.at_asker, "closed")
    for answer in running:
        with pytest.raises(RemoteError, match="lost the link"):
            await anext(answer)
    with pytest.raises(RemoteError, match="lost the link"):
        await waiting


async def test_a_request_number_used_twice_is_refused(wired) -> None:
    wired.generator.hold = True
    data = pack(GenerateRequest(prompt="hi"))
    for _ in range(2):
        wired.serving.message(wired.at_server, Ask(5, "generate", MODEL, len(data), 0, data))
    refused = [message for message in wired.sent if isinstance(message, Failed)]
    assert [one.request for one in refused] == [5]
    assert len(wired.serving._running) == 1


async def test_stopping_what_does_not_run_changes_nothing(wired) -> None:
    wired.serving.message(wired.at_server, StopAnswering(77))
    assert len(await wired.all()) == 4


async def test_answers_to_nothing_are_ignored(wired) -> None:
    wired.asking.message(wired.at_asker, TextMessage(77, "x", b"", b""))
    wired.asking.message(wired.at_asker, Failed(77, "local", "x", 0))
    assert len(await wired.all()) == 4


async def test_a_silent_peer_is_given_up_and_doubted_until_it_is_heard_again() -> None:
    wired = Wired(silence_timeout_s=0.01)
    wired.generator.hold = True
    with pytest.raises(RemoteError, match="try another node"):
        await wired.all()
    await wired.until(lambda: wired.generator.stopped == 1)
    assert wired.asking.doubts(wired.at_asker)
    wired.at_asker.heard_at += 1.0
    assert not wired.asking.doubts(wired.at_asker)
    await wired.tasks.close()


async def test_a_long_complaint_of_a_peer_is_cut(wired) -> None:
    wired.generator.error = LocalError("x" * 100_000)
    with pytest.raises(RemoteError) as raised:
        await wired.all()
    assert len(str(raised.value)) < 600


async def test_text_that_comes_of_no_token_is_told_with_the_end(wired) -> None:
    wired.generator.tail = "!"
    assert (await wired.all())[-2:] == [Text("!", ()), ENDED]
    (ended,) = (one for one in wired.sent if isinstance(one, offload_messages.Ended))
    assert ended.text == "!"


async def test_a_request_arrives_with_everything_that_was_asked(wired) -> None:
    asked = GenerateRequest(
        messages=(Message("system", "Be brief."), Message("user", "wörld?")),
        max_tokens=9,
        token_ids_so_far=(5, 2**32 - 1),
        sampling=Sampling(0.7, 0.9, 40, 0.05, 1.1, 64, 0.5, -0.5, 2**63 - 1, ((7, -100.0),)),
        stop=("END", "\n\n"),
        grammar=Grammar("schema", '{"type": "object"}'),
        logprobs=3,
    )
    async with asyncio.timeout(PATIENCE_S):
        async for _ in wired.asking.generate(wired.at_asker, MODEL, asked):
            pass
    assert wired.generator.requests == [(MODEL, asked)]


async def test_logprobs_come_with_their_tokens(wired, monkeypatch) -> None:
    one = TokenLogprob(1, "Hello ", -0.25, ((1, "Hello ", -0.25), (9, "Hi", -1.5)))
    monkeypatch.setitem(globals(), "HELLO", Text("Hello ", (1,), (one,)))
    assert (await wired.all(logprobs=2))[1].logprobs == (one,)


async def test_a_request_larger_than_a_message_goes_in_pieces(wired) -> None:
    prompt = "wörd " * (PROMPT_MAX_BYTES // 6)
    await wired.all(prompt=prompt)
    assert wired.generator.requests[0][1].prompt == prompt
    asks = [message for message in wired.sent if isinstance(message, Ask)]
    assert len(asks) == 2
    assert len(asks[0].data) == OFFLOAD_PIECE_BYTES


async def test_a_busy_peer_says_when_to_ask_again(wired) -> None:
    wired.generator.error = BusyError("200 requests wait", 2.5)
    with pytest.raises(BusyError) as raised:
        await wired.all()
    assert raised.value.retry_after_s == 2.5


@pytest.mark.parametrize(
    "asks",
    [
        [Ask(1, "generate", MODEL, 0, 0, b"")],
        [Ask(1, "generate", MODEL, -1, 0, b"x")],
        [Ask(1, "generate", MODEL, OFFLOAD_REQUEST_MAX_BYTES + 1, 0, b"x")],
        [Ask(1, "generate", MODEL, 2, 0, b"xyz")],
        [Ask(1, "generate", MODEL, 9, 0, b"")],
        [Ask(1, "generate", MODEL, 9, 0, b"x"), Ask(1, "generate", MODEL, 9, 0, b"x")],
        [Ask(1, "generate", MODEL, 9, 0, b"x"), Ask(1, "generate", MODEL, 9, 5, b"x")],
    ],
)
async def test_pieces_that_do_not_fit_together_are_the_peers_fault(wired, asks) -> None:
    *good, bad = asks
    for one in good:
        wired.serving.message(wired.at_server, one)
    with pytest.raises(RemoteProtocolError):
        wired.serving.message(wired.at_server, bad)
    assert wired.serving._running == {}


async def test_requests_that_never_get_whole_are_bounded_and_forgotten_with_the_link(wired) -> None:
    for number in range(OFFLOAD_REQUESTS_MAX_PER_LINK + 5):
        piece = Ask(number, "generate", MODEL, 9, 0, b"x")
        wired.serving.message(wired.at_server, piece)
    assert len(wired.serving._coming) == OFFLOAD_REQUESTS_MAX_PER_LINK
    wired.serving.link_down(wired.at_server, "closed")
    assert wired.serving._coming == {}


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa6prompt\x05", b"\x91" * 2000]
)
async def test_a_request_that_is_none_is_refused_and_runs_nothing(wired, data) -> None:
    ask = Ask(1, "generate", MODEL, len(data), 0, data)
    wired.serving.message(wired.at_server, ask)
    await wired.until(lambda: any(isinstance(one, Failed) for one in wired.sent))
    assert wired.generator.requests == []


async def test_a_peer_that_says_more_than_was_asked_for_loses_its_link(wired) -> None:
    wired.generator.hold = True
    answer = await wired.begin()
    (number,) = (one.request for one in wired.sent if isinstance(one, Ask))
    with pytest.raises(RemoteProtocolError, match="more tokens than were asked for"):
        wired.asking.message(wired.at_asker, TextMessage(number, "x", b"\0\0\0\0" * 8, b""))
    with pytest.raises(RemoteProtocolError, match="not u32"):
        wired.asking.message(wired.at_asker, TextMessage(number, "x", b"\0\0", b""))
    await answer.aclose()
