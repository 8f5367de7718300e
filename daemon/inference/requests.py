"""What is asked of inference and what it answers: values that cross between processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    PROMPT_MAX_BYTES,
)

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class GenerateRequest:
    """One generation: a plain ``prompt`` (one user turn) or ``messages``, not both.

    ``max_tokens`` counts the whole answer. ``token_ids_so_far`` are tokens of the answer that
    another runner made already: they are replayed, and only what follows them is produced.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: int = 256
    token_ids_so_far: tuple[int, ...] = ()

    def conversation(self) -> tuple[Message, ...]:
        """Return the turns to answer."""
        return self.messages if self.prompt is None else (Message("user", self.prompt),)

    def check(self) -> None:
        """Refuse what no model could answer.

        Raises:
            InputError: no prompt or two, too long, no text, or an impossible number of tokens.
        """
        if (self.prompt is None) == (not self.messages):
            raise InputError("a generation takes either a prompt or messages")
        size = sum(_size_bytes(turn.content) for turn in self.conversation())
        if size > PROMPT_MAX_BYTES:
            raise InputError(
                f"the prompt is {size} bytes, more than {PROMPT_MAX_BYTES}; shorten it"
            )
        if not 1 <= self.max_tokens <= GENERATE_MAX_TOKENS:
            raise InputError(
                f"max_tokens must be 1 to {GENERATE_MAX_TOKENS}, not {self.max_tokens}"
            )
        if len(self.token_ids_so_far) >= self.max_tokens:
            raise InputError("the tokens so far already reach max_tokens; raise max_tokens")


def _size_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        # What a shell passes on that is not UTF-8 arrives as lone surrogates.
        raise InputError("the prompt is not UTF-8 text; convert it to UTF-8 first") from error


@dataclass(frozen=True)
class Started:
    """The model is loaded and the prompt is known to fit."""

    manifest_id: str
    prompt_tokens: int


@dataclass(frozen=True)
class Text:
    """A piece of the answer: whole characters, and the tokens they came from."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Ended:
    """How a generation ended. Token counts are of the whole answer, without the end token.

    ``first_token_s`` runs from the request to its first token, ``seconds`` to its last, queueing
    and loading included.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    seconds: float


Event = Started | Text | Ended
