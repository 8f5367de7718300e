"""What an answer says, thinks and calls, told apart while it comes; calls are told whole.

Arguments are no text here as they are in OpenAI's API, but an object. A call whose arguments can't
be read is told as text, for an answer shouldn't be empty of which the model said something.
"""

from __future__ import annotations

import json
import secrets

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.daemon.inference.thought_reading import AnswerReader, Thought
from dreamer.daemon.inference.tool_reading import CallArguments, CallBegun, CallEnded, Part, Said
from dreamer.daemon.surfaces.inference import RunEnded, RunText
from dreamer.protocol.canonical import Json

Told = RunText | Thought | Json
"""Text, thoughts, or a whole call in Ollama's form."""


class Reading:
    """Reads one answer that may think, or call the tools ``names``."""

    def __init__(self, thinks: bool, names: frozenset[str]) -> None:
        self._reader = AnswerReader(thinks, names or None)
        self._name = ""
        self._arguments: list[str] = []
        self._calling = False
        self._logprobs: list[TokenLogprob] = []

    def push(self, text: RunText) -> list[Told]:
        """Take a piece; return what is known of it now."""
        self._logprobs += text.logprobs
        return self._told(self._reader.push(text.text))

    def finish(self, ended: RunEnded) -> list[Told]:
        """Return the rest."""
        cut = ended.finish_reason == "length"
        told = self._told(self._reader.finish(cut))
        # The model ended amid a call; one that was cut is none.
        return told if cut or not self._calling else [*told, self._text(self._as_text())]

    def _told(self, parts: list[Part | Thought]) -> list[Told]:
        return [told for part in parts if (told := self._tell(part)) is not None]

    def _tell(self, part: Part | Thought) -> Told | None:
        match part:
            case Thought():
                return part
            case Said(text):
                return self._text(text)
            case CallBegun(_, name):
                self._name, self._arguments, self._calling = name, [], True
            case CallArguments(_, text):
                self._arguments.append(text)
            case CallEnded(index):
                self._calling = False
                call = _call(index, self._name, "".join(self._arguments))
                if call is None:
                    return self._text(self._as_text())
                # The tokens of a call are told as the call, not as what is said next.
                self._logprobs = []
                return call
        return None

    def _text(self, text: str) -> RunText:
        logprobs, self._logprobs = tuple(self._logprobs), []
        return RunText(text, len(logprobs), logprobs)

    def _as_text(self) -> str:
        """Return the last call in words: as models write one."""
        name = json.dumps(self._name, ensure_ascii=False)
        return f'{{"name": {name}, "arguments": {"".join(self._arguments)}}}'


def reading(thinks: bool, names: frozenset[str]) -> Reading | None:
    """Return what reads an answer; None of one that is all text."""
    return Reading(thinks, names) if thinks or names else None


def _call(index: int, name: str, arguments: str) -> Json | None:
    """Return a call in Ollama's form; None of arguments that only look like an object."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    function = {"index": index, "name": name, "arguments": value}
    return {"id": f"call_{secrets.token_hex(4)}", "function": function}
