"""Runs models for other members, where the node's owner and the room's rules allow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Started, Text
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.offload.asking import GENERATE, pack_logprobs
from dreamer.daemon.offload.counts import OffloadCounts
from dreamer.daemon.offload.waiting import Allowance, logprobs_allowance, text_allowance
from dreamer.daemon.offload.wire import pack_tokens, unpack
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import BusyError, DreamerError, InputError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.link import offload_messages
from dreamer.protocol.link.messages import Message
from dreamer.protocol.link.offload_messages import (
    Answered,
    Ask,
    Begun,
    Failed,
    StopAnswering,
    Working,
)
from dreamer.protocol.offload_limits import (
    OFFLOAD_PAYLOAD_KEPT_S,
    OFFLOAD_PIECE_BYTES,
    OFFLOAD_REQUEST_MAX_BYTES,
    OFFLOAD_REQUESTS_MAX_PER_LINK,
    OFFLOAD_TEXT_MAX_BYTES,
    OFFLOAD_WORKING_INTERVAL_S,
)

log = logging.getLogger(__name__)


class Generator(Protocol):
    """What serving needs of inference: run a model of this room that is held here."""

    def __call__(
        self, manifest_id: ManifestId, request: GenerateRequest, /
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer's events; raises NoMatchError when the model is not held here."""
        ...


Compute = Callable[[Link, str, ManifestId, bytes], AbstractAsyncContextManager[tuple[bytes, bool]]]
"""Answers what is no generation; the answer may be followed up until the context ends
(``TensorServing.answered``).
"""
COMPUTED = ("infer", "embed")


@dataclass
class _Coming:
    """A request whose pieces are not all here yet."""

    asked: Ask
    data: bytearray = field(default_factory=bytearray)


class OffloadServing(LinkListener):
    """One room's requests from peers; a listener of its links.

    ``check`` raises ForbiddenError where a peer may not ask this node.
    """

    def __init__(
        self,
        generate: Generator,
        check: Callable[[Link], None],
        tasks: TaskSet,
        counts: OffloadCounts | None = None,
        compute: Compute | None = None,
    ) -> None:
        self._generate = generate
        self._check = check
        self._tasks = tasks
        self._counts = counts or OffloadCounts()
        self._compute = compute
        self._coming: dict[tuple[int, int], _Coming] = {}
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}

    def uses(self, link: Link) -> bool:
        """Return whether this node generates something for the peer."""
        return any(number == link.number for number, _ in self._running)

    def link_down(self, link: Link, reason: str) -> None:
        """Stop generating for a peer that is gone."""
        for number, request in list(self._running):
            if number == link.number:
                self._running[number, request].cancel()
        for number, request in list(self._coming):
            if number == link.number:
                del self._coming[number, request]

    def message(self, link: Link, message: Message) -> None:
        """Take a request, or a piece of one."""
        if isinstance(message, StopAnswering):
            self._coming.pop((link.number, message.request), None)
            # It counts no more, though it takes a moment to end: the peer sends its next one now.
            if task := self._running.pop((link.number, message.request), None):
                task.cancel()
        elif isinstance(message, Ask):
            self._ask(link, message)

    def _ask(self, link: Link, asked: Ask) -> None:
        """Put a request together, and begin it when it is whole."""
        key = (link.number, asked.request)
        if asked.offset == 0:
            if not 0 < asked.total <= OFFLOAD_REQUEST_MAX_BYTES or key in self._coming:
                raise RemoteProtocolError(f"it asks for something in {asked.total} bytes")
            mine = sum(1 for number, _ in (*self._running, *self._coming) if number == link.number)
            if mine >= OFFLOAD_REQUESTS_MAX_PER_LINK or key in self._running:
                busy = BusyError("this node runs as many requests of yours as it takes: try later")
                self._refuse(link, asked.request, busy)
                return
            self._coming[key] = _Coming(asked)
        coming = self._coming.get(key)
        if coming is None:
            # The rest of a request that was refused or stopped.
            return
        coming.data += asked.data
        have = len(coming.data)
        if asked.offset + len(asked.data) != have or have > coming.asked.total or not asked.data:
            raise RemoteProtocolError("it asks for something in pieces that don't fit together")
        if have == coming.asked.total:
            del self._coming[key]
            self._begin(link, coming.asked, bytes(coming.data))

    def _begin(self, link: Link, asked: Ask, data: bytes) -> None:
        key = (link.number, asked.request)
        task = self._tasks.start(self._run(link, asked, data))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    async def _run(self, link: Link, asked: Ask, data: bytes) -> None:
        log.info("running %s for %s", asked.manifest.hex()[:8], short(link.peer))
        try:
            self._check(link)
            async with _saying_so(link, asked.request):
                if asked.what == GENERATE:
                    await self._answer_tokens(link, asked, data)
                elif asked.what in COMPUTED and self._compute is not None:
                    await self._answer_at_once(link, asked, data, self._compute)
                else:
                    raise InputError(f"this node can't {asked.what!r:.40}: its version is older")
        except DreamerError as error:
            self._refuse(link, asked.request, error)

    async def _answer_tokens(self, link: Link, asked: Ask, data: bytes) -> None:
        request = unpack(GenerateRequest, data)
        request.check()
        generation = self._generate(ManifestId(asked.manifest), request)
        async with aclosing(generation) as events:
            await _answer(link, asked.request, events, request.logprobs)
        self._counts.served += 1

    async def _answer_at_once(self, link: Link, asked: Ask, data: bytes, compute: Compute) -> None:
        answered = compute(link, asked.what, ManifestId(asked.manifest), data)
        async with answered as (answer, to_be_fetched):
            for offset in range(0, len(answer), OFFLOAD_PIECE_BYTES):
                piece = answer[offset : offset + OFFLOAD_PIECE_BYTES]
                link.send(Answered(asked.request, len(answer), offset, piece))
            self._counts.served += 1
            if to_be_fetched:
                # Until the peer says that it has it, which ends this task.
                await asyncio.sleep(OFFLOAD_PAYLOAD_KEPT_S)

    def _refuse(self, link: Link, request: int, error: DreamerError) -> None:
        self._counts.refused[error.code] += 1
        retry_s = error.retry_after_s if isinstance(error, BusyError) else 0.0
        link.send(Failed(request, error.code, str(error), round(retry_s * 1e3)))


@asynccontextmanager
async def _saying_so(link: Link, request: int) -> AsyncIterator[None]:
    """Tell the peer now and then that it is worked at: queueing, loading, reading the prompt."""
    saying = asyncio.create_task(_say_so(link, request))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say_so(link: Link, request: int) -> None:
    while True:
        link.send(Working(request))
        await asyncio.sleep(OFFLOAD_WORKING_INTERVAL_S)


async def _answer(
    link: Link, request: int, events: AsyncIterator[Event], logprobs: int | None
) -> None:
    """Send each event as it comes; text that comes of no token waits for the end.

    Raises:
        InputError: the model's tokens are longer than the peer takes.
    """
    held = ""
    bounds = text_allowance(), logprobs_allowance(logprobs)
    async for event in events:
        match event:
            case Started():
                link.send(Begun(request, event.prompt_tokens))
            case Text(text, token_ids) if not token_ids:
                held += text
            case Text(text, token_ids, told):
                tokens, packed = pack_tokens(token_ids), pack_logprobs(told)
                said = offload_messages.Text(request, held + text, tokens, packed)
                _check_size(said, len(token_ids), *bounds)
                link.send(said)
                held = ""
            case Ended():
                link.send(_ended(request, held, event))


def _check_size(said: offload_messages.Text, tokens: int, text: Allowance, told: Allowance) -> None:
    """Keep to what the asking node bears with: a model that anybody made may have any tokens."""
    fits = text.covers(tokens, len(said.text)) and told.covers(tokens, len(said.logprobs))
    if not fits or len(said.text) > OFFLOAD_TEXT_MAX_BYTES:
        raise InputError(
            "the tokens of this model have longer texts than peers send: run it on a node that "
            "holds it"
        )


def _ended(request: int, held: str, event: Ended) -> offload_messages.Ended:
    return offload_messages.Ended(
        request=request,
        text=held,
        finish_reason=event.finish_reason,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        cached_tokens=event.cached_tokens,
        first_token_us=round(event.first_token_s * 1e6),
        total_us=round(event.seconds * 1e6),
        queue_us=round(event.queue_s * 1e6),
        load_us=round(event.load_s * 1e6),
        prefill_us=round(event.prefill_s * 1e6),
        decode_us=round(event.decode_s * 1e6),
    )
