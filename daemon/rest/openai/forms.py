"""The two forms of an answer, chat's and completions': whole, and as the chunks of a stream.

A chunk is written for every token, so all of it that stays the same is made once: only the text
itself is encoded anew.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.daemon.rest.openai.logprobs import chat_logprobs, completion_logprobs
from dreamer.daemon.rest.openai.usage import Usage
from dreamer.daemon.surfaces.inference import RunText
from dreamer.protocol.canonical import Json

DONE = b"data: [DONE]\n\n"

encode = msgspec.json.encode


def sse(value: Json) -> bytes:
    """Return ``value`` as one event of a stream."""
    return b"data: " + encode(value) + b"\n\n"


@dataclass
class Choice:
    """One choice, complete once ``finish_reason`` is known."""

    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Form(Protocol):
    """What differs between chat and completions."""

    answer_kind: str
    chunk_kind: str
    id_prefix: str

    def opening(self, index: int) -> bytes | None:
        """Return the choice of a chunk that comes before any text; None if there is none."""
        ...

    def pieces(self, index: int, text: RunText) -> Sequence[bytes]:
        """Return the choices of the chunks that a piece of text comes to, often one."""
        ...

    def endings(self, index: int, finish_reason: str) -> Sequence[bytes]:
        """Return the choices of the chunks that end a choice."""
        ...

    def whole(self, index: int, choice: Choice) -> Json:
        """Return a choice of an answer that is not streamed."""
        ...


class ChatForm:
    """Chat's; ``logprobs`` says whether they were asked for."""

    answer_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs

    def opening(self, index: int) -> bytes:
        """The role: clients make the message of it."""
        return delta(index, b'{"role":"assistant","content":"","refusal":null}')

    def pieces(self, index: int, text: RunText) -> Sequence[bytes]:
        """Return the delta of a piece."""
        told = encode(chat_logprobs(text.logprobs)) if self._logprobs else b"null"
        return (delta(index, b'{"content":%b}' % encode(text.text), told),)

    def endings(self, index: int, finish_reason: str) -> Sequence[bytes]:
        """Return an empty delta."""
        return (delta(index, b"{}", b"null", encode(finish_reason)),)

    def whole(self, index: int, choice: Choice) -> Json:
        """Return the message."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": chat_logprobs(choice.logprobs) if self._logprobs else None,
            "finish_reason": choice.finish_reason,
        }


def delta(
    index: int, said: bytes, logprobs: bytes = b"null", finish_reason: bytes = b"null"
) -> bytes:
    """Return a choice of a chat's chunk; all but the index are JSON."""
    return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
        *(index, said, logprobs, finish_reason),
    )


class CompletionForm:
    """Completions'; ``echoes`` are the prompts that go before the texts, by choice."""

    answer_kind = "text_completion"
    chunk_kind = "text_completion"
    id_prefix = "cmpl-"

    def __init__(self, logprobs: bool, echoes: Sequence[str] = ()) -> None:
        self._logprobs = logprobs
        self._echoes = echoes
        self._said: dict[int, int] = {}

    def opening(self, index: int) -> bytes | None:
        """The prompt, if it is to be echoed."""
        if not self._echoes:
            return None
        return _text(index, encode(self._echoes[index]))

    def pieces(self, index: int, text: RunText) -> Sequence[bytes]:
        """Return a piece of text."""
        told = b"null"
        if self._logprobs:
            offset = self._said.get(index, 0)
            self._said[index] = offset + len(text.text)
            told = encode(completion_logprobs(text.logprobs, offset))
        return (_text(index, encode(text.text), told),)

    def endings(self, index: int, finish_reason: str) -> Sequence[bytes]:
        """Return an empty piece of text."""
        return (_text(index, b'""', b"null", encode(finish_reason)),)

    def whole(self, index: int, choice: Choice) -> Json:
        """Return all of the text."""
        told = completion_logprobs(choice.logprobs, 0) if self._logprobs else None
        echo = self._echoes[index] if self._echoes else ""
        return {
            "index": index,
            "text": echo + choice.text,
            "logprobs": told,
            "finish_reason": choice.finish_reason,
        }


def _text(
    index: int, text: bytes, logprobs: bytes = b"null", finish_reason: bytes = b"null"
) -> bytes:
    return b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}' % (
        *(index, text, logprobs, finish_reason),
    )


class Envelope:
    """What is around the choices of one answer."""

    def __init__(self, form: Form, model: str, manifest_id: str, include_usage: bool) -> None:
        """``include_usage``: a stream tells at its end what was used."""
        self._form = form
        self._head = {
            "id": form.id_prefix + secrets.token_hex(12),
            "created": int(time.time()),
            "model": model,
            # Whoever gets the same fingerprint was answered by the same weights.
            "system_fingerprint": f"fp_{manifest_id[:10]}",
        }
        self._include_usage = include_usage
        head = encode({**self._head, "object": form.chunk_kind})
        self._before = b"data: " + head[:-1] + b',"choices":['
        self._after = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    @property
    def id(self) -> str:
        """The id of the answer."""
        return str(self._head["id"])

    def chunk(self, choice: bytes) -> bytes:
        """Return the event of a stream with one choice, made by the form."""
        return self._before + choice + self._after

    def end(self, usage: Usage) -> bytes:
        """Return the last events of a stream."""
        if not self._include_usage:
            return DONE
        last = {**self._head, "object": self._form.chunk_kind, "choices": []}
        return sse({**last, "usage": usage.to_json()}) + DONE

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """Return the whole answer as JSON."""
        told = [self._form.whole(index, choice) for index, choice in enumerate(choices)]
        head = {**self._head, "object": self._form.answer_kind}
        return encode({**head, "choices": told, "usage": usage.to_json()})
