"""Asks peers to run models, over the control channel, and hears their answers.

A peer that is at it says so each second (``Working``), so silence always means a peer that hangs.
What a peer says is bounded: an answer that outgrows what was asked for ends its link.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import msgpack

from dreamer.daemon.inference import requests
from dreamer.daemon.inference.requests import Event, GenerateRequest, Started, TokenLogprob
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.offload.line import Line
from dreamer.daemon.offload.waiting import Answer, Waiting
from dreamer.daemon.offload.wire import pack, read_tokens
from dreamer.protocol.errors import (
    BusyError,
    DreamerError,
    LocalError,
    NoMatchError,
    RemoteError,
    RemoteProtocolError,
    error_from_code,
)
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.link.messages import Message
from dreamer.protocol.link.offload_messages import (
    Answered,
    Ask,
    Begun,
    Ended,
    Failed,
    StopAnswering,
    Text,
    Working,
)
from dreamer.protocol.offload_limits import (
    OFFLOAD_ANSWER_MAX_BYTES,
    OFFLOAD_ERROR_MAX_CHARS,
    OFFLOAD_PIECE_BYTES,
    OFFLOAD_SILENCE_TIMEOUT_S,
    OFFLOAD_TEXT_MAX_BYTES,
)

GENERATE = "generate"


class OffloadAsking(LinkListener):
    """One room's requests to peers; a listener of its links."""

    def __init__(
        self, numbers: Iterator[int], silence_timeout_s: float = OFFLOAD_SILENCE_TIMEOUT_S
    ) -> None:
        self._numbers = numbers
        self._silence_timeout_s = silence_timeout_s
        self._waiting: dict[tuple[int, int], Waiting] = {}
        self._silent_since: dict[int, float] = {}
        self._lines: dict[int, Line] = {}

    def doubts(self, link: Link) -> bool:
        """Return whether a peer was silent when it should have spoken, and still is."""
        return self._silent_since.get(link.number, link.heard_at - 1) >= link.heard_at

    async def generate(
        self, link: Link, manifest_id: ManifestId, request: GenerateRequest
    ) -> AsyncGenerator[Event, None]:
        """Yield the peer's answer as it comes; closing the iterator stops the peer.

        Raises:
            RemoteError: the peer is gone, silent, or can't.
            ForbiddenError: the peer does not run models for us.
            InputError: the request or the model itself can't be used, there or elsewhere.
        """
        data = pack(request)
        tokens_left = request.max_tokens - len(request.token_ids_so_far)
        waiting = Waiting(tokens_left, request.logprobs)
        line = self._line(link)
        await line.enter()
        try:
            async with aclosing(self._answer(link, manifest_id, data, waiting)) as events:
                async for event in events:
                    yield event
        finally:
            line.leave()

    async def _answer(
        self, link: Link, manifest_id: ManifestId, data: bytes, waiting: Waiting
    ) -> AsyncGenerator[Event, None]:
        number = next(self._numbers)
        self._waiting[link.number, number] = waiting
        ended = False
        try:
            _send(link, number, GENERATE, manifest_id, data)
            while not ended:
                answer = await self._next(link, waiting)
                if isinstance(answer, Answered):
                    raise RemoteProtocolError("it answers a generation in one piece")
                ended = isinstance(answer, Ended)
                for event in _events(answer, manifest_id):
                    yield event
        finally:
            del self._waiting[link.number, number]
            if not ended:
                link.send(StopAnswering(number))

    @asynccontextmanager
    async def compute(
        self, link: Link, what: str, manifest_id: ManifestId, data: bytes
    ) -> AsyncIterator[bytes]:
        """Yield the answer to what is no generation; the peer holds what it told of until the end.

        Raises as ``generate``.
        """
        line = self._line(link)
        await line.enter()
        try:
            number = next(self._numbers)
            waiting = self._waiting[link.number, number] = Waiting(0)
            try:
                _send(link, number, what, manifest_id, data)
                answer = bytearray()
                total = 1
                while len(answer) < total:
                    piece = await self._next(link, waiting)
                    if not isinstance(piece, Answered) or not _follows(piece, answer):
                        raise RemoteProtocolError("its answer is none, or in pieces that don't fit")
                    answer += piece.data
                    total = piece.total
                yield bytes(answer)
            finally:
                del self._waiting[link.number, number]
                link.send(StopAnswering(number))
        finally:
            line.leave()

    async def _next(self, link: Link, waiting: Waiting) -> Begun | Text | Ended | Answered:
        while isinstance(answer := await self._heard(link, waiting), Working):
            pass
        if isinstance(answer, DreamerError):
            raise answer
        return answer

    async def _heard(self, link: Link, waiting: Waiting) -> Answer:
        try:
            async with asyncio.timeout(self._silence_timeout_s):
                return await waiting.get()
        except TimeoutError:
            self._silent_since[link.number] = link.heard_at
            raise RemoteError(
                f"{short(link.peer)} has said nothing for {self._silence_timeout_s:.0f} s: "
                "try another node"
            ) from None

    def under_way(self, link: Link) -> int:
        """Return how many requests the peer has of this node, those in line for it included."""
        line = self._lines.get(link.number)
        return 0 if line is None else line.length

    def _line(self, link: Link) -> Line:
        if link.number not in self._lines:
            self._lines[link.number] = Line(link)
        return self._lines[link.number]

    def waits_on(self, link: Link) -> bool:
        """Return whether the peer generates something for this node."""
        return any(number == link.number for number, _ in self._waiting)

    def link_down(self, link: Link, reason: str) -> None:
        """Fail what the peer was asked for."""
        self._silent_since.pop(link.number, None)
        if line := self._lines.pop(link.number, None):
            line.lose(reason)
        for (number, _), waiting in self._waiting.items():
            if number == link.number:
                lost = RemoteError(f"lost the link to {short(link.peer)}: {reason}")
                waiting.fail(lost)

    def message(self, link: Link, message: Message) -> None:
        """Take a piece of an answer."""
        if not isinstance(message, Working | Begun | Text | Ended | Answered | Failed):
            return
        waiting = self._waiting.get((link.number, message.request))
        if waiting is None or waiting.given_up:
            return
        answer = _as_seen_here(message, link) if isinstance(message, Failed) else message
        if not waiting.put(answer):
            # At once: whoever reads slowly may come for the error late.
            link.send(StopAnswering(message.request))


def _send(link: Link, number: int, what: str, manifest_id: ManifestId, data: bytes) -> None:
    """Send a request, in as many pieces as it takes."""
    for offset in range(0, len(data), OFFLOAD_PIECE_BYTES):
        piece = data[offset : offset + OFFLOAD_PIECE_BYTES]
        link.send(Ask(number, what, manifest_id, len(data), offset, piece))


def _follows(piece: Answered, answer: bytearray) -> bool:
    """Say whether this can be the next piece of an answer that is here so far."""
    end = len(answer) + len(piece.data)
    return (
        piece.offset == len(answer)
        and bool(piece.data)
        and (end <= piece.total <= OFFLOAD_ANSWER_MAX_BYTES)
    )


def _as_seen_here(failed: Failed, link: Link) -> DreamerError:
    said = f"{short(link.peer)}: {failed.message[:OFFLOAD_ERROR_MAX_CHARS]}"
    if failed.code == BusyError.code:
        return BusyError(said, max(0, failed.retry_after_ms) / 1e3)
    error = error_from_code(failed.code, said)
    # "This machine can't", "not on this node" were said of the peer; of us they would mislead.
    return RemoteError(str(error)) if isinstance(error, LocalError | NoMatchError) else error


def _events(answer: Begun | Text | Ended, manifest_id: ManifestId) -> Iterator[Event]:
    match answer:
        case Begun():
            yield Started(manifest_id.hex(), max(0, answer.prompt_tokens))
        case Text():
            tokens, logprobs = read_tokens(answer.token_ids), _read_logprobs(answer.logprobs)
            if len(logprobs) > len(tokens):
                # Small ones take many times their bytes in memory.
                raise RemoteProtocolError("it tells logprobs of more tokens than it sends")
            yield requests.Text(answer.text, tokens, logprobs)
        case Ended():
            if answer.text:
                yield requests.Text(answer.text[:OFFLOAD_TEXT_MAX_BYTES], ())
            yield _ended(answer)


def _ended(answer: Ended) -> requests.Ended:
    return requests.Ended(
        finish_reason="length" if answer.finish_reason == "length" else "stop",
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cached_tokens=answer.cached_tokens,
        first_token_s=answer.first_token_us / 1e6,
        seconds=answer.total_us / 1e6,
        queue_s=answer.queue_us / 1e6,
        load_s=answer.load_us / 1e6,
        prefill_s=answer.prefill_us / 1e6,
        decode_s=answer.decode_us / 1e6,
    )


def pack_logprobs(logprobs: tuple[TokenLogprob, ...]) -> bytes:
    """Return logprobs as bytes, none as no bytes."""
    if not logprobs:
        return b""
    told = [[one.token_id, one.text, one.logprob, list(one.top)] for one in logprobs]
    return bytes(msgpack.packb(told))


def _read_logprobs(data: bytes) -> tuple[TokenLogprob, ...]:
    """Return logprobs.

    Raises:
        RemoteError: a peer sent what are none.
    """
    if not data:
        return ()
    try:
        told = msgpack.unpackb(data, max_array_len=4096, max_map_len=0, max_ext_len=0)
        return tuple(
            TokenLogprob(
                int(token),
                str(text),
                _number(logprob),
                tuple((int(a), str(b), _number(c)) for a, b, c in top),
            )
            for token, text, logprob, top in told
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteError(f"a peer sent logprobs that can't be read: {error}") from error


def _number(value: object) -> float:
    if type(value) is not float or math.isnan(value):
        raise ValueError("no logarithm")
    return value
