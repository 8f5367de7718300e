"""The form of a chat's answer that is read for calls of tools, for thoughts, or for both.

https://platform.openai.com/docs/guides/function-calling#streaming: the first delta of a call has
its id and name, the following ones pieces of its arguments, which are JSON as text. Thoughts are
``reasoning_content``, which OpenAI doesn't have: as DeepSeek's API and vLLM tell them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.daemon.inference.thought_reading import AnswerReader, Thought
from dreamer.daemon.inference.tool_reading import CallArguments, CallBegun, CallEnded, Part, Said
from dreamer.daemon.rest.openai.forms import ChatForm, Choice, delta, encode
from dreamer.daemon.rest.openai.logprobs import chat_logprobs
from dreamer.daemon.surfaces.inference import RunText
from dreamer.protocol.canonical import Json

_CUT = "length"
_CALLED = "tool_calls"


def call_id() -> str:
    """Return the id of a call, by which the client says what came of it."""
    return f"call_{secrets.token_hex(12)}"


class ReadForm(ChatForm):
    """Chat's, with thoughts if it ``thinks``, and with calls of the tools ``names`` if not None.

    Unless ``parallel``, calls after an answer's first are left out.
    """

    def __init__(
        self, logprobs: bool, thinks: bool, names: frozenset[str] | None, parallel: bool = True
    ) -> None:
        super().__init__(logprobs)
        self._thinks = thinks
        self._names = names
        self._parallel = parallel
        self._readers: dict[int, AnswerReader] = {}
        self._held: dict[int, list[TokenLogprob]] = {}

    def opening(self, index: int) -> bytes:
        """The role, without content: a call alone has none."""
        return delta(index, b'{"role":"assistant","content":null,"refusal":null}')

    def pieces(self, index: int, text: RunText) -> Sequence[bytes]:
        """Return the deltas that are known now; what may be a part of a call is held."""
        self._held.setdefault(index, []).extend(text.logprobs)
        return self._deltas(index, self._reader(index).push(text.text))

    def endings(self, index: int, finish_reason: str) -> Sequence[bytes]:
        """Return what was held, and how it ended."""
        reader = self._reader(index)
        rest = self._deltas(index, reader.finish(finish_reason == _CUT))
        return [*rest, *super().endings(index, _reason(finish_reason, reader))]

    def whole(self, index: int, choice: Choice) -> Json:
        """Return the message, with the calls and thoughts in it."""
        reader = AnswerReader(self._thinks, self._names)
        reason = choice.finish_reason or ""
        parts = reader.whole(choice.text, reason == _CUT)
        said = "".join(part.text for part in parts if isinstance(part, Said))
        told = super().whole(index, choice)
        told["message"]["content"] = said or (None if reader.calls else "")
        told["finish_reason"] = _reason(reason, reader)
        if self._thinks:
            thought = "".join(part.text for part in parts if isinstance(part, Thought))
            told["message"]["reasoning_content"] = thought or None
        if reader.calls:
            calls = _calls(parts)
            told["message"][_CALLED] = calls if self._parallel else calls[:1]
        return told

    def _reader(self, index: int) -> AnswerReader:
        return self._readers.setdefault(index, AnswerReader(self._thinks, self._names))

    def _deltas(self, index: int, parts: Iterable[Part | Thought]) -> list[bytes]:
        return [one for part in parts for one in self._delta(index, part)]

    def _delta(self, index: int, part: Part | Thought) -> list[bytes]:
        if isinstance(part, CallBegun | CallArguments | CallEnded):
            # The tokens of a call are told as the call, not as what is said next.
            self._held[index] = []
            if part.index and not self._parallel:
                return []
        match part:
            case Thought(text):
                said = b'{"reasoning_content":%b}' % encode(text)
                return [delta(index, said, self._logprobs_so_far(index))]
            case Said(text):
                return [
                    delta(index, b'{"content":%b}' % encode(text), self._logprobs_so_far(index))
                ]
            case CallBegun(number, name):
                function = {"name": name, "arguments": ""}
                begun = {"index": number, "id": call_id(), "type": "function", "function": function}
                return [_calling(index, begun)]
            case CallArguments(number, text):
                return [_calling(index, {"index": number, "function": {"arguments": text}})]
        return []

    def _logprobs_so_far(self, index: int) -> bytes:
        if not self._logprobs:
            return b"null"
        told, self._held[index] = self._held.get(index, []), []
        return encode(chat_logprobs(told))


def _reason(finish_reason: str, reader: AnswerReader) -> str:
    """Return how an answer ended: with calls, unless it was cut amid them."""
    return _CALLED if reader.calls and finish_reason != _CUT else finish_reason


def _calling(index: int, call: Json) -> bytes:
    return delta(index, b'{"tool_calls":[%b]}' % encode(call))


def _calls(parts: Iterable[Part | Thought]) -> list[Json]:
    names: list[str] = []
    arguments: list[list[str]] = []
    for part in parts:
        if isinstance(part, CallBegun):
            names.append(part.name)
            arguments.append([])
        elif isinstance(part, CallArguments):
            arguments[part.index].append(part.text)
    return [
        {
            "id": call_id(),
            "type": "function",
            "function": {"name": name, "arguments": "".join(pieces)},
        }
        for name, pieces in zip(names, arguments, strict=True)
    ]
