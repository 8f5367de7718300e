"""Has a peer run a model for us and streams its answer.

A peer that is at it says so now and then (``Working``), so silence always means a peer that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.ports import RunEnded, RunText
from dreamer.protocol.errors import (
    DreamerError,
    LocalError,
    NoMatchError,
    RemoteError,
    error_from_code,
)
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.inference_limits import (
    GENERATE_FIRST_TOKEN_TIMEOUT_S,
)
from dreamer.protocol.link.messages import (
    Ended,
    Failed,
    Generate,
    Message,
    StopGenerating,
    Text,
    Working,
)

Answer = Working | Text | Ended | DreamerError


class OffloadAsking(LinkListener):
    """One room's requests to peers; a listener of its links."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._waiting: dict[tuple[int, int], asyncio.Queue[Answer]] = {}

    async def run(
        self, link: Link, manifest_id: ManifestId, prompt: str, max_tokens: int
    ) -> AsyncGenerator[RunText | RunEnded, None]:
        """Yield the peer's answer as it comes; closing the iterator stops the peer.

        Raises:
            RemoteError: the peer is gone, silent, or can't.
            ForbiddenError: the peer does not run models for us.
            InputError: the request or the model itself can't be used, there or elsewhere.
        """
        request = next(self._numbers)
        answers = self._waiting[link.number, request] = asyncio.Queue()
        ended = False
        try:
            link.send(Generate(request, manifest_id, prompt, max_tokens))
            while not ended:
                event = _event(await self._next(link, answers))
                ended = isinstance(event, RunEnded)
                yield event
        finally:
            del self._waiting[link.number, request]
            if not ended:
                link.send(StopGenerating(request))

    async def _next(self, link: Link, answers: asyncio.Queue[Answer]) -> Text | Ended:
        while isinstance(answer := await self._heard(link, answers), Working):
            pass
        if isinstance(answer, DreamerError):
            raise answer
        return answer

    async def _heard(self, link: Link, answers: asyncio.Queue[Answer]) -> Answer:
        try:
            async with asyncio.timeout(GENERATE_FIRST_TOKEN_TIMEOUT_S):
                return await answers.get()
        except TimeoutError:
            raise RemoteError(
                f"{short(link.peer)} has sent nothing for "
                f"{GENERATE_FIRST_TOKEN_TIMEOUT_S:.0f} s: try another node"
            ) from None

    def uses(self, link: Link) -> bool:
        """Return whether the peer generates something for this node."""
        return any(number == link.number for number, _ in self._waiting)

    def link_down(self, link: Link, reason: str) -> None:
        """Fail what the peer was asked for."""
        for (number, _), answers in self._waiting.items():
            if number == link.number:
                answers.put_nowait(RemoteError(f"lost the link to {short(link.peer)}: {reason}"))

    def message(self, link: Link, message: Message) -> None:
        """Take a piece of an answer."""
        if not isinstance(message, Working | Text | Ended | Failed):
            return
        answers = self._waiting.get((link.number, message.request))
        if answers is None:
            return
        if isinstance(message, Failed):
            answers.put_nowait(_as_seen_here(message, link))
        else:
            answers.put_nowait(message)


def _as_seen_here(failed: Failed, link: Link) -> DreamerError:
    error = error_from_code(failed.code, f"{short(link.peer)}: {failed.message[:500]}")
    # "This machine can't", "not on this node" were said of the peer; of us they would mislead.
    return RemoteError(str(error)) if isinstance(error, LocalError | NoMatchError) else error


def _event(answer: Text | Ended) -> RunText | RunEnded:
    if isinstance(answer, Text):
        return RunText(answer.text, answer.tokens)
    return RunEnded(
        answer.finish_reason,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.first_token_us / 1e6,
        answer.total_us / 1e6,
    )
