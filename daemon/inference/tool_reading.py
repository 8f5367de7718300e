"""Tells what a model says from the tools that it calls, while its text comes.

Nothing that belongs to a call is ever given out as text: what may be the beginning of one is held
until it is known. What only looked like a call is text after all, and comes whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.daemon.inference.call_scanner import CallScanner
from dreamer.daemon.inference.tool_forms import MARKS, MISTRAL

_BLANKS = " \t\r\n"
# What stands between calls, and at the end of lists of them.
_BETWEEN = _BLANKS + ",;]"
# And behind a call that a model closed once too often.
_AFTER = _BETWEEN + "}"
# What goes before a call's name, without blanks.
_HEADS = ("{", '{"type":"function",', '{"type":"function","function":{')
HELD_MAX_CHARS = 256
"""Blanks and brackets beyond this many are text: a model that writes nothing else has lost its way,
and all that is held is looked at again with each piece.
"""
_BEGINS = tuple(begin for begin, _ in MARKS)


@dataclass(frozen=True)
class Said:
    """Text for whoever asked."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call of the tool ``name``, the ``index``-th of the answer."""

    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """A piece of a call's arguments, which are JSON together."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnded:
    """A call is whole; one that never ends was cut off."""

    index: int


Part = Said | CallBegun | CallArguments | CallEnded


@dataclass
class _Place:
    """Where calls are looked for: behind ``mark``, up to ``end``; both "" where there are none.

    ``mark`` is forgotten with the first call, as are the ``blanks`` before it: until then they may
    have been text. ``over`` says that only ``end`` is looked for.
    """

    mark: str = ""
    end: str = ""
    bare: bool = False
    blanks: str = ""
    over: bool = False

    def text(self) -> str:
        """Return what was read of it so far, if it is text."""
        return self.blanks + self.mark

    def called(self) -> None:
        """Take note of a call: what was read is none."""
        self.mark = self.blanks = ""

    @property
    def closing(self) -> bool:
        """A call was read, and the end is to come."""
        return bool(self.end) and not self.mark


class ToolReader:
    """Reads one answer; ``names`` are the tools that it may call.

    A call without marks, as Llama writes it, is one only if nothing was said before it and its
    tool is among those; between marks anything that has a name is.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self.calls = 0
        self._names = names
        self._text = ""
        self._place: _Place | None = None
        self._scanner: CallScanner | None = None
        # All of a call, while it is not sure that it is one; in pieces, since that may be long.
        self._unsure: list[str] | None = None
        self._said = False
        self._blank = True
        self._parts: list[Part] = []

    def push(self, text: str) -> list[Part]:
        """Take a piece of the answer; return what is known of it now, often nothing."""
        self._text += text
        while self._step():
            pass
        return self._taken()

    def finish(self, cut: bool) -> list[Part]:
        """Return the rest; ``cut`` says that the answer didn't end by itself."""
        if self._place is None:
            # Half a mark at the end of what was cut off would have become a call.
            half = half_a_mark(self._text, _BEGINS) if cut else 0
            self._say(self._text[: len(self._text) - half])
        else:
            self._finish_calls(self._place, cut)
        self._text, self._scanner = "", None
        return self._taken()

    def pass_on(self, text: str) -> None:
        """Take text that stands before all else, in which no calls are looked for."""
        self._say(text)

    def _finish_calls(self, place: _Place, cut: bool) -> None:
        held = "".join(self._unsure or ())
        if self._unsure is None and not place.mark:
            # Calls were read; what is held follows them.
            half = half_a_mark(self._text, (place.end, MISTRAL.begin))
            self._say("" if cut else self._text[: len(self._text) - half].lstrip(_AFTER))
        elif not cut:
            # It ended amid what is no call yet, and so is none.
            self._say(place.text() + held + self._text)
        elif place.bare and not self.calls and not self._names_a_tool(held):
            # An answer in JSON that was cut.
            self._say(held)

    def _names_a_tool(self, held: str) -> bool:
        """Say whether a bare answer that was cut names a tool, or begins to."""
        if self._scanner is not None and self._scanner.name:
            return True
        begun = "".join(held.split())
        calls = [f'{head}"name":"{name}"' for head in _HEADS for name in self._names]
        return any(call.startswith(begun) or begun.startswith(call) for call in calls)

    def _taken(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    def _step(self) -> bool:
        """Go on by one step; False when more text is needed."""
        if self._scanner is not None:
            return self._scan(self._scanner)
        return self._in_words() if self._place is None else self._in_calls(self._place)

    def _in_words(self) -> bool:
        """Pass text on, up to where a call begins or may begin."""
        rest = self._text.lstrip(_BLANKS)
        if rest.startswith("{") and not self._said and not self.calls:
            self._place, self._text = _Place(bare=True), rest
            return True
        found = [(at, mark, end) for mark, end in MARKS if (at := self._text.find(mark)) >= 0]
        if found:
            at, mark, end = min(found)
            said = self._text[:at].rstrip(_BLANKS)
            self._say(said)
            self._place = _Place(mark, end, blanks=self._text[len(said) : at])
            self._text = self._text[at + len(mark) :]
            return True
        sure = len(self._text) - _may_begin(self._text)
        self._say(self._text[:sure])
        self._text = self._text[sure:]
        return False

    def _in_calls(self, place: _Place) -> bool:
        """Look for the next call, or for the end of them."""
        rest = self._text.lstrip(_AFTER if place.closing else _BETWEEN)
        if len(self._text) - len(rest) + len(place.mark) > HELD_MAX_CHARS:
            self._leave(place, rest)
        elif place.end and rest.startswith(place.end):
            self._place, self._text = None, rest[len(place.end) :]
        elif not rest or place.end.startswith(rest) or MISTRAL.begin.startswith(rest):
            return False
        elif place.over:
            return self._pass_to_end(place, rest)
        elif rest.startswith("{"):
            self._begin(rest, CallScanner())
        elif rest.startswith("[") and not rest.startswith(MISTRAL.begin):
            self._pass_over(place, rest[1:])
        elif place.mark.startswith(MISTRAL.begin) and _names(rest):
            self._begin(rest, CallScanner(named=True))
        elif place.closing:
            place.over = True
        else:
            self._leave(place, rest)
        return True

    def _leave(self, place: _Place, rest: str) -> None:
        """No call stands here, or no more of them: it was text, and the next may be as well."""
        self._place = None
        self._say(place.text())
        self._text = self._text if place.mark else rest

    def _pass_to_end(self, place: _Place, rest: str) -> bool:
        """Leave out what a model wrote too much between a call and the end of its place."""
        end = rest.find(place.end, 0, HELD_MAX_CHARS)
        begins = any(begin in rest[: end if end >= 0 else HELD_MAX_CHARS] for begin in _BEGINS)
        if end >= 0 and not begins:
            self._place, self._text = None, rest[end + len(place.end) :]
        elif begins or len(rest) >= HELD_MAX_CHARS:
            # The end was forgotten.
            self._leave(place, rest)
        else:
            self._text = rest
            return False
        return True

    def _begin(self, rest: str, scanner: CallScanner) -> None:
        self._unsure = [self._text[: len(self._text) - len(rest)]]
        self._text, self._scanner = rest, scanner

    def _pass_over(self, place: _Place, rest: str) -> None:
        """Go on at ``rest``; what is before it was text if no call follows."""
        if place.mark:
            place.mark += self._text[: len(self._text) - len(rest)]
        self._text = rest

    def _scan(self, scanner: CallScanner) -> bool:
        if not self._text:
            return False
        before, self._text = self._text, scanner.push(self._text)
        if self._unsure is not None:
            self._unsure.append(before[: len(before) - len(self._text)])
            self._decide(scanner)
            if self._scanner is not None and scanner.sure and not scanner.done:
                # It stopped there only to let that be decided.
                self._text = scanner.push(self._text)
        if self._unsure is None:
            self._pass_on(scanner)
        return True

    def _decide(self, scanner: CallScanner) -> None:
        """Say that it is a call once that is sure, or that it is none."""
        place, unsure = self._place, self._unsure
        assert place is not None, "a call is being read"
        assert unsure is not None, "and it isn't known yet what it is"
        stranger = scanner.foreign_key or (scanner.name and scanner.name not in self._names)
        if scanner.broken and place.closing:
            self._scanner = self._unsure = None
            place.over, self._text = True, "".join(unsure) + self._text
        elif scanner.broken or (place.bare and stranger):
            self._place = self._scanner = self._unsure = None
            self._say(place.text() + "".join(unsure))
        elif scanner.name and scanner.arguments_begun:
            self._unsure = None
            place.called()
            self._blank = True
            self._parts.append(CallBegun(self.calls, scanner.name))
            self.calls += 1

    def _pass_on(self, scanner: CallScanner) -> None:
        """Tell what came of a call's arguments."""
        if self._scanner is None:
            return
        index = self.calls - 1
        if arguments := scanner.taken():
            self._parts.append(CallArguments(index, arguments))
        if scanner.done or (scanner.broken and scanner.whole):
            self._parts.append(CallEnded(index))
        if scanner.done or scanner.broken:
            self._scanner = None

    def _say(self, text: str) -> None:
        """Give out text; blanks before the first word, and around calls, are left out."""
        if self._blank:
            text = text.lstrip(_BLANKS)
        if text:
            self._said, self._blank = True, False
            self._parts.append(Said(text))


def _names(text: str) -> bool:
    """Say whether a text may begin with the name of a tool."""
    return text[:1].isalnum() or text[:1] == "_"


def half_a_mark(text: str, marks: Sequence[str]) -> int:
    """Return how long the longest end of ``text`` is that one of ``marks`` begins with."""
    longest = min(len(text), max(map(len, marks)) - 1)
    for size in range(longest, 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0


def _may_begin(text: str) -> int:
    """Return how long the end of ``text`` is that may go before a call: blanks, half a mark."""
    rest = text[: len(text) - half_a_mark(text, _BEGINS)]
    held = len(text) - len(rest.rstrip(_BLANKS))
    return held if held <= HELD_MAX_CHARS else len(text) - len(rest)
