"""What is asked of a model that writes text, and what it answers: values that cross processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.inference.tools import ToolCall, Tools
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GENERATE_MAX_TOKENS,
    LOGPROBS_MAX,
    PROMPT_MAX_BYTES,
    STOP_STRING_MAX_BYTES,
    STOP_STRINGS_MAX,
)

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    ``tool_calls`` are what the assistant called; a turn of the role ``tool`` is what came of the
    call ``tool_call_id`` of the tool ``name``. Either may be empty where an API doesn't say it.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def about_tools(self) -> bool:
        """Whether only a model that knows of tools can read it."""
        return self.role == "tool" or bool(self.tool_calls)

    @property
    def texts(self) -> tuple[str, ...]:
        """All text that it brings into a prompt."""
        called = (text for call in self.tool_calls for text in (call.name, call.arguments, call.id))
        return (self.content, *called, self.tool_call_id, self.name)


@dataclass(frozen=True)
class GenerateRequest:
    """One generation, of exactly one kind of prompt.

    ``messages`` go through the model's chat template, and so does ``prompt`` as one user turn;
    ``raw_prompt`` is text to go on from as it is, ``prompt_ids`` the same as tokens.

    ``max_tokens`` counts the whole answer; if it is ``open_ended`` nobody said how long it may be,
    and it ends earlier where its length would keep others waiting. ``token_ids_so_far`` are tokens
    of the answer that another runner made already: they are replayed, and only what follows them
    is produced. An answer ends before the first of the ``stop`` strings. ``logprobs`` is how many
    of the likeliest tokens to tell of at each place beside the chosen one; None tells of none.

    ``tools`` may be called. Prompt and answer have at most ``context`` tokens together, None as
    many as the model holds; a prompt that leaves no room is refused, or cut where ``truncate``
    says so (``answers.fitting``). ``thinking`` says whether to think first, of models that can;
    unless it is None, thoughts stand between marks (``thought_reading``).
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    raw_prompt: str | None = None
    prompt_ids: tuple[int, ...] = ()
    max_tokens: int = 256
    token_ids_so_far: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    logprobs: int | None = None
    tools: Tools | None = None
    context: int | None = None
    truncate: bool = False
    open_ended: bool = False
    thinking: bool | None = None

    @property
    def about_tools(self) -> bool:
        """Whether only a model that knows of tools can answer it."""
        return self.tools is not None or any(turn.about_tools for turn in self.messages)

    def conversation(self) -> tuple[Message, ...]:
        """Return the turns to answer; none of a raw prompt."""
        return self.messages if self.prompt is None else (Message("user", self.prompt),)

    def check(self) -> None:
        """Refuse what no model could answer.

        Raises:
            InputError: no prompt or two, too long, no text, or impossible numbers.
        """
        given = (self.prompt is not None, bool(self.messages))
        if sum((*given, self.raw_prompt is not None, bool(self.prompt_ids))) != 1:
            raise InputError("a generation takes either a prompt or messages")
        size = sum(_size_bytes(text) for turn in self.conversation() for text in turn.texts)
        size += _size_bytes(self.raw_prompt or "")
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
        self.sampling.check()
        if self.grammar is not None:
            self.grammar.check()
        if self.tools is not None:
            self.tools.check()
            if not any(given):
                raise InputError("tools need a conversation; send messages, not a raw prompt")
        if self.context is not None and self.context < 1:
            raise InputError(f"a context has 1 token or more, not {self.context}")
        self._check_stops()
        if self.logprobs is not None and not 0 <= self.logprobs <= LOGPROBS_MAX:
            raise InputError(f"logprobs are told of 0 to {LOGPROBS_MAX} tokens a place")

    def _check_stops(self) -> None:
        if len(self.stop) > STOP_STRINGS_MAX:
            raise InputError(f"an answer takes at most {STOP_STRINGS_MAX} stop strings")
        for stop in self.stop:
            # The empty one is in every text, before its first character.
            if not 1 <= _size_bytes(stop) <= STOP_STRING_MAX_BYTES:
                raise InputError(f"a stop string has 1 to {STOP_STRING_MAX_BYTES} bytes")


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
class TokenLogprob:
    """How likely a token was: natural logarithms of the probability before any temperature.

    ``top`` are the likeliest tokens at its place as (id, text, logprob), best first.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Text:
    """A piece of the answer: whole characters, and the tokens they came from."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a generation ended. Token counts are of the whole answer, without the end token.

    ``first_token_s`` runs from the request to its first token, ``seconds`` to its last, queueing
    and loading included; ``queue_s``, ``load_s``, ``prefill_s`` and ``decode_s`` are its parts.
    ``cached_tokens`` of the prompt were not read again: their keys and values were kept.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float
    seconds: float
    queue_s: float = 0.0
    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    cached_tokens: int = 0


Event = Started | Text | Ended
