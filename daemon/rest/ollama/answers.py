"""The JSON of an answer: of its pieces, of its end, of a model that was only loaded.

``/api/generate`` calls the text ``response``, ``/api/chat`` makes a message of it; else they agree.
https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.daemon.inference.thought_reading import Thought
from dreamer.daemon.rest.ollama.lines import moment
from dreamer.daemon.rest.ollama.reading import Told
from dreamer.daemon.surfaces.inference import RunEnded, RunText
from dreamer.protocol.canonical import Json

Style = Literal["generate", "chat"]


@dataclass(frozen=True)
class AnswerForm:
    """How answers of one request look; ``model`` is called as the client called it."""

    style: Style
    model: str
    logprobs: bool = False

    def line(self, told: Told) -> Json:
        """Return one piece of a streamed answer."""
        if isinstance(told, RunText):
            return {**self._head(told.text), "done": False, **self._chances(told.logprobs)}
        if isinstance(told, Thought):
            return {**self._head("", told.text), "done": False}
        return {**self._head("", calls=[told]), "done": False}

    def end(self, ended: RunEnded) -> Json:
        """Return the last line of a streamed answer; durations are in nanoseconds."""
        return {**self._head(""), **_ended(ended)}

    def whole(self, told: Sequence[Told], ended: RunEnded) -> Json:
        """Return an answer in one, with what it thinks and calls."""
        said = [one for one in told if isinstance(one, RunText)]
        thought = "".join(one.text for one in told if isinstance(one, Thought))
        calls = [one for one in told if isinstance(one, dict)]
        head = self._head("".join(one.text for one in said), thought, calls)
        chances = tuple(chance for one in said for chance in one.logprobs)
        return {**head, **_ended(ended), **self._chances(chances)}

    def only(self, reason: Literal["load", "unload"]) -> Json:
        """Return what is said when a model is loaded or unloaded, and nothing generated."""
        return {**self._head(""), "done": True, "done_reason": reason}

    def _head(self, text: str, thought: str = "", calls: Sequence[Json] = ()) -> Json:
        more: Json = {"thinking": thought} if thought else {}
        said: Json = {"response": text, **more}
        if self.style == "chat":
            more |= {"tool_calls": list(calls)} if calls else {}
            said = {"message": {"role": "assistant", "content": text, **more}}
        return {"model": self.model, "created_at": moment(time.time()), **said}

    def _chances(self, chances: Iterable[TokenLogprob]) -> Json:
        return {"logprobs": [_chance(one) for one in chances]} if self.logprobs else {}


def nanoseconds(seconds: float) -> int:
    """Return a duration as Ollama counts it."""
    return round(seconds * 1e9)


def _chance(token: TokenLogprob) -> Json:
    top = [{"token": text, "logprob": logprob} for _, text, logprob in token.top]
    return {"token": token.text, "logprob": token.logprob, **({"top_logprobs": top} if top else {})}


def _ended(ended: RunEnded) -> Json:
    return {
        "done": True,
        "done_reason": ended.finish_reason,
        "total_duration": nanoseconds(ended.seconds),
        "load_duration": nanoseconds(ended.load_s),
        "prompt_eval_count": ended.prompt_tokens,
        "prompt_eval_duration": nanoseconds(ended.prefill_s),
        "eval_count": ended.completion_tokens,
        "eval_duration": nanoseconds(ended.decode_s),
    }
