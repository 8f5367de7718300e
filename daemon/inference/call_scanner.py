"""Reads one tool call out of text that comes in pieces: JSON, character by character.

It is not parsed when it is whole, since its arguments may be long and are passed on as they come.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from dreamer.daemon.inference.tool_forms import ARGUMENT_KEYS, NAME_END

_WRAPPERS = ("function", "tool_call")
_KNOWN_KEYS = frozenset(("name", "id", "type", "description", *ARGUMENT_KEYS, *_WRAPPERS))
_BLANKS = " \t\r\n"


class _At(Enum):
    """What may come next."""

    OBJECT = "the opening brace"
    KEY = "a key or the closing brace"
    COLON = "a colon"
    VALUE = "more of a value"
    NAME = "more of a name that stands before the arguments"


class CallScanner:
    """One call. ``push`` takes text until ``done``; ``broken`` says that it is no call.

    ``name`` is "" until it is known. ``taken`` hands over the arguments that came since it was
    last asked; they are held while they may turn out to be JSON inside a string. Of arguments that
    are written twice the first count. ``whole`` says that they are all there, even if what follows
    them is broken.
    """

    def __init__(self, named: bool = False) -> None:
        """``named``: the name stands before the arguments, and not among them."""
        self.name = ""
        self.done = False
        self.broken = False
        self.foreign_key = False
        self.arguments_begun = False
        self.whole = False
        self._at = _At.NAME if named else _At.OBJECT
        self._named = named
        # The brackets that are open: the call's own brace is the first.
        self._open: list[str] = []
        self._braces = 0
        self._key = ""
        self._value: list[str] = []
        self._in_string = self._escaped = False
        self._arguments: list[str] = []
        self._streams = False

    @property
    def sure(self) -> bool:
        """It is a call, whatever follows."""
        return bool(self.name) and self.arguments_begun and not self.broken

    def push(self, text: str) -> str:
        """Take text; return what follows the call, once it is done or broken.

        Text is also returned at the moment it is ``sure``: what a caller makes of it mustn't depend
        on how much of the rest came along.
        """
        before = self.sure
        for place, char in enumerate(text):
            if self._in_string:
                self._in_text(char)
            else:
                self._next(char)
            if self.broken:
                return text[place:]
            if self.done or (not before and self.sure):
                return text[place + 1 :]
        return ""

    def taken(self) -> str:
        """Return the arguments since the last call."""
        text = "".join(self._arguments)
        self._arguments.clear()
        return text

    def _next(self, char: str) -> None:
        match self._at:
            case _At.VALUE:
                self._in_value(char)
            case _At.NAME:
                self._in_name(char)
            case _ if char in _BLANKS:
                pass
            case _At.OBJECT if char == "{":
                self._at = _At.KEY
                self._opens(char)
            case _At.KEY if char == '"':
                self._in_string, self._value = True, [char]
            case _At.KEY if char == "}":
                self._end()
            case _At.KEY if char == ",":
                pass
            case _At.COLON if char == ":":
                self._at, self._value, self._streams = _At.VALUE, [], False
            case _:
                self.broken = True

    def _in_text(self, char: str) -> None:
        self._keep(char)
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = False
            if self._at is _At.KEY:
                self._key = str(_loaded("".join(self._value)))
                self._at = _At.COLON
                self.foreign_key |= self._key not in _KNOWN_KEYS

    def _in_value(self, char: str) -> None:
        if char == "}" and self._braces == 1:
            self._value_ends()
            self._end()
        elif char == "," and len(self._open) == 1:
            self._value_ends()
        elif self._value or char not in _BLANKS:
            self._more(char)

    def _more(self, char: str) -> None:
        """Take a character of a value, which the call's own brackets are no part of."""
        if self._streams and self.whole:
            self.broken = char not in _BLANKS
            return
        if not self._value and char == "{" and self._key in ARGUMENT_KEYS:
            self._streams = not self.arguments_begun
            self.arguments_begun = True
        self._keep(char)
        if char == '"':
            self._in_string = True
        elif char in "{[":
            self._opens(char)
        elif char in "}]":
            self._close("{" if char == "}" else "[")

    def _opens(self, bracket: str) -> None:
        self._open.append(bracket)
        self._braces += bracket == "{"

    def _close(self, bracket: str) -> None:
        """Close the last such bracket, and with a brace all that was left open in it.

        Else one that is forgotten would make all the rest of an answer part of the call.
        """
        if bracket == "{":
            self._braces -= 1
            while self._open.pop() != bracket:
                pass
        elif self._open[-1] == bracket:
            self._open.pop()
        if self._streams and len(self._open) == 1:
            self.whole = True
            if self._named:
                self._end()

    def _in_name(self, char: str) -> None:
        """Take ``name[CALL_ID]id[ARGS]{…``: what is neither name nor arguments is passed over."""
        if char == "{":
            head = "".join(self._value).removesuffix(NAME_END)
            self._take_name(head.partition("[")[0].strip())
            self._at, self._value, self._key = _At.VALUE, [], ARGUMENT_KEYS[0]
            self._opens(char)
            self.broken |= not self.name
            if not self.broken:
                self._in_value(char)
        elif char in "\r\n" and self._value:
            self.broken = True
        else:
            self._value.append(char)

    def _keep(self, char: str) -> None:
        if self._streams and self._at is _At.VALUE:
            self._arguments.append(char)
            if not self._value:
                self._value.append(char)
        else:
            self._value.append(char)

    def _value_ends(self) -> None:
        self._at = _At.KEY
        if self._streams:
            self._streams = False
            return
        value = _loaded("".join(self._value))
        if self._key == "name" and isinstance(value, str):
            self._take_name(value)
        elif self._key in ARGUMENT_KEYS:
            self._whole_arguments(value)
        elif self._key in _WRAPPERS and isinstance(value, dict):
            # {"type": "function", "function": {"name": …}}, as the APIs write it.
            self._take_name(self.name or str(value.get("name") or ""))
            found = next((value[key] for key in ARGUMENT_KEYS if key in value), None)
            if found is not None:
                self._whole_arguments(found)

    def _take_name(self, name: str) -> None:
        # JSON can say half a character (a lone surrogate), which no answer could be sent with.
        self.broken |= not _encodable(name)
        self.name = name

    def _whole_arguments(self, value: Any) -> None:
        if self.arguments_begun:
            return
        self.arguments_begun = self.whole = True
        text, value = (value, _loaded(value)) if isinstance(value, str) else ("", value)
        if not isinstance(value, dict):
            self._arguments.append("{}")
            return
        text = text or json.dumps(value, ensure_ascii=False)
        self._arguments.append(text if _encodable(text) else json.dumps(value))

    def _end(self) -> None:
        if not self.name:
            self.broken = True
            return
        if not self.arguments_begun:
            self._whole_arguments(None)
        self.done = True


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
