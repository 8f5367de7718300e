"""What a peer has said of one answer, and nobody has taken yet; all of it is bounded.

A peer that says more than any honest one can is to blame for it. That its words are taken more
slowly than they come is not its fault: then the request fails, and the link stays.
"""

from __future__ import annotations

import asyncio

from dreamer.protocol.errors import DreamerError, LocalError, RemoteProtocolError
from dreamer.protocol.link.offload_messages import Answered, Begun, Ended, Text, Working
from dreamer.protocol.offload_limits import (
    OFFLOAD_ANSWER_OVERHEAD_BYTES,
    OFFLOAD_ANSWERS_WAITING_MAX_BYTES,
    OFFLOAD_LOGPROB_MAX_BYTES,
    OFFLOAD_TEXT_MAX_BYTES,
    OFFLOAD_TOKEN_MAX_CHARS,
)

Answer = Working | Begun | Text | Ended | Answered | DreamerError


class UnreadAnswerError(LocalError):
    """Whoever asked takes the answer too slowly; another peer would only fill the memory again."""


class Allowance:
    """How much an answer may still say: some to begin with, and ``per_token`` for each token.

    Nobody may have more in memory by saying much with few tokens, or with none.
    """

    def __init__(self, per_token: int, first: int = OFFLOAD_TEXT_MAX_BYTES) -> None:
        self._per_token = per_token
        self._left = first

    def covers(self, tokens: int, size: int) -> bool:
        """Take off what was said with so many tokens; return whether it was within bounds."""
        self._left += tokens * self._per_token - size
        return self._left >= 0


def text_allowance() -> Allowance:
    """Return how many characters an answer may have; its runner keeps to the same."""
    return Allowance(OFFLOAD_TOKEN_MAX_CHARS)


def logprobs_allowance(asked: int | None) -> Allowance:
    """Return how many bytes of logprobs an answer may have: none where none were asked for."""
    if asked is None:
        return Allowance(0, first=0)
    return Allowance((asked + 1) * OFFLOAD_LOGPROB_MAX_BYTES)


class Waiting:
    """One request under way; ``tokens_left`` of its answer may still come."""

    def __init__(self, tokens_left: int, logprobs: int | None = None) -> None:
        self._tokens_left = tokens_left
        self._text = text_allowance()
        self._logprobs = logprobs_allowance(logprobs)
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._waiting_bytes = 0
        self.given_up = False

    def put(self, answer: Answer) -> bool:
        """Add what came; return False if too much waits: then all of it is ``given_up``.

        Raises:
            RemoteProtocolError: no honest peer would say that.
        """
        if isinstance(answer, Text):
            self._check(answer)
        self._waiting_bytes += _size_bytes(answer)
        if self._waiting_bytes > OFFLOAD_ANSWERS_WAITING_MAX_BYTES:
            self._give_up()
            return False
        self._answers.put_nowait(answer)
        return True

    def fail(self, error: DreamerError) -> None:
        """Let ``error`` end what came so far, however much it is."""
        self._answers.put_nowait(error)

    async def get(self) -> Answer:
        """Wait for what comes next."""
        answer = await self._answers.get()
        self._waiting_bytes -= _size_bytes(answer)
        return answer

    def _give_up(self) -> None:
        self.given_up = True
        while not self._answers.empty():
            self._answers.get_nowait()
        mib = OFFLOAD_ANSWERS_WAITING_MAX_BYTES >> 20
        self.fail(
            UnreadAnswerError(
                f"the answer is read more slowly than it is written, and {mib} MiB of it wait: "
                "read faster, or ask for fewer tokens, or for no logprobs"
            )
        )

    def _check(self, message: Text) -> None:
        tokens = len(message.token_ids) // 4
        if len(message.token_ids) % 4:
            raise RemoteProtocolError("it sends tokens that are not u32")
        self._tokens_left -= tokens
        if self._tokens_left < 0:
            raise RemoteProtocolError("it sends more tokens than were asked for")
        if len(message.text) > OFFLOAD_TEXT_MAX_BYTES:
            raise RemoteProtocolError(f"it sends {len(message.text)} characters at once")
        if not self._text.covers(tokens, len(message.text)):
            raise RemoteProtocolError("it sends more text than its tokens can be")
        if not self._logprobs.covers(tokens, len(message.logprobs)):
            raise RemoteProtocolError("it sends more logprobs than were asked for")


def _size_bytes(answer: Answer) -> int:
    """Return about what a message takes in memory."""
    size = OFFLOAD_ANSWER_OVERHEAD_BYTES
    if isinstance(answer, Text):
        # Characters, of four bytes at most.
        return size + 4 * len(answer.text) + len(answer.token_ids) + len(answer.logprobs)
    if isinstance(answer, Ended):
        return size + 4 * (len(answer.text) + len(answer.finish_reason))
    return size + (len(answer.data) if isinstance(answer, Answered) else 0)
