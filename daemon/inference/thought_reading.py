"""Tells what a model thinks from what it says: thoughts stand before the answer, between marks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dreamer.daemon.inference.tool_reading import (
    HELD_MAX_CHARS,
    Part,
    Said,
    ToolReader,
    half_a_mark,
)

BEGIN, END = "<think>", "</think>"
_BLANKS = " \t\r\n"
# The rest of a piece is copied for each call in it.
_PIECE_CHARS = 1024
_KNOWS = re.compile(rf"{BEGIN}|\benable_thinking\b")


def knows_thinking(template: str) -> bool:
    """Say whether a chat template does anything with thoughts."""
    return _KNOWS.search(template) is not None


@dataclass(frozen=True)
class Thought:
    """What a model thinks before it answers."""

    text: str


class ThoughtReader:
    """Reads one answer: thoughts first, and once these are over all else as it comes."""

    def __init__(self) -> None:
        self._text = ""
        self._began = False
        self._over = False
        self._blank = True

    def push(self, text: str) -> list[Thought | Said]:
        """Take a piece of the answer."""
        if self._over and not self._blank:
            return [Said(text)]
        self._text += text
        if not self._began and not self._over:
            rest = self._text.lstrip(_BLANKS)
            few = len(self._text) - len(rest) <= HELD_MAX_CHARS
            if few and BEGIN.startswith(rest):
                # Nothing yet, or half a mark.
                self._began = rest == BEGIN
                self._text = "" if self._began else self._text
                return []
            self._began = few and rest.startswith(BEGIN)
            self._over = not self._began
            self._blank = self._began
            self._text = rest[len(BEGIN) :] if self._began else self._text
        return self._words() if self._over else self._thoughts()

    def finish(self) -> list[Thought | Said]:
        """Return the rest."""
        text, self._text = self._text, ""
        if not text.strip(_BLANKS) and self._began:
            return []
        return [Thought(text) if self._began and not self._over else Said(text)]

    def _thoughts(self) -> list[Thought | Said]:
        text = self._text.lstrip(_BLANKS) if self._blank else self._text
        thought, mark, rest = text.partition(END)
        if mark:
            self._over, self._blank, self._text = True, True, rest
            thought = thought.rstrip(_BLANKS)
            return [*([Thought(thought)] if thought else []), *self._words()]
        words = text[: len(text) - half_a_mark(text, (END,))]
        sure = words.rstrip(_BLANKS)
        if len(words) - len(sure) > HELD_MAX_CHARS:
            sure = words
        self._text = text[len(sure) :]
        self._blank = self._blank and not sure
        return [Thought(sure)] if sure else []

    def _words(self) -> list[Thought | Said]:
        """Return what follows the thoughts, without the blanks between."""
        text = self._text.lstrip(_BLANKS) if self._blank else self._text
        self._text = ""
        self._blank = self._blank and not text
        return [Said(text)] if text else []


class _Aside:
    """Parts thoughts that nobody wants told apart, marks and all, from what is read for calls."""

    def __init__(self) -> None:
        self._text = ""
        self._began = self._over = False

    def push(self, text: str) -> tuple[str, str]:
        """Take a piece of the answer; return what is thought, and what follows."""
        if self._over:
            return "", text
        self._text += text
        if not self._began:
            rest = self._text.lstrip(_BLANKS)
            few = len(self._text) - len(rest) <= HELD_MAX_CHARS
            self._began = few and rest.startswith(BEGIN)
            if not self._began and few and BEGIN.startswith(rest):
                return "", ""
        return self._thoughts() if self._began else ("", self.finish())

    def finish(self) -> str:
        """Return what was held."""
        self._over = True
        rest, self._text = self._text, ""
        return rest

    def _thoughts(self) -> tuple[str, str]:
        thought, mark, rest = self._text.partition(END)
        if mark:
            self._over, self._text = True, ""
            return thought + mark, rest
        sure = len(self._text) - half_a_mark(self._text, (END,))
        thought, self._text = self._text[:sure], self._text[sure:]
        return thought, ""


class AnswerReader:
    """Reads one answer for what it thinks, says and calls; None of ``names``: nothing is called.

    What a model considers to call while it thinks is no call, whether or not it ``thinks`` in
    parts of their own.
    """

    def __init__(self, thinks: bool, names: frozenset[str] | None) -> None:
        self._thoughts = ThoughtReader() if thinks else None
        self._tools = ToolReader(names) if names is not None else None
        self._aside = _Aside() if self._tools and not thinks else None

    @property
    def calls(self) -> int:
        """How many calls were read."""
        return self._tools.calls if self._tools else 0

    def whole(self, text: str, cut: bool) -> list[Part | Thought]:
        """Return what all of an answer comes to."""
        starts = range(0, len(text), _PIECE_CHARS)
        parts = [part for start in starts for part in self.push(text[start : start + _PIECE_CHARS])]
        return [*parts, *self.finish(cut)]

    def push(self, text: str) -> list[Part | Thought]:
        """Take a piece of the answer; return what is known of it now, often nothing."""
        if self._thoughts is None:
            return self._told([Said(text)])
        return self._told(self._thoughts.push(text))

    def finish(self, cut: bool) -> list[Part | Thought]:
        """Return the rest; ``cut`` says that the answer didn't end by itself."""
        told = self._told(self._thoughts.finish() if self._thoughts else [])
        if self._tools is None:
            return told
        held = self._tools.push(self._aside.finish()) if self._aside else []
        return [*told, *held, *self._tools.finish(cut)]

    def _told(self, read: list[Thought | Said]) -> list[Part | Thought]:
        if self._tools is None:
            return list(read)
        told: list[Part | Thought] = []
        for one in read:
            told += self._called(self._tools, one.text) if isinstance(one, Said) else [one]
        return told

    def _called(self, tools: ToolReader, text: str) -> list[Part]:
        if self._aside is not None:
            thought, text = self._aside.push(text)
            tools.pass_on(thought)
        return tools.push(text)
