"""A request's JSON as Ollama reads it: unknown fields and null mean nothing.

What is known must be of its type: the message names the field.
"""

from __future__ import annotations

import json
import math
from typing import Any

from aiohttp import web

from dreamer.daemon.rest.body import read_bytes
from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_BODY_MAX_BYTES

# As far as a double counts each number, as JSON's numbers are to most.
_WHOLE_MAX = 2**53


class Fields:
    """The fields of one JSON object; methods raise InputError."""

    def __init__(self, values: Json, what: str = "field") -> None:
        self._values = values
        self._what = what

    def has(self, name: str) -> bool:
        """Say whether a field says anything: not null, not empty, not false."""
        return bool(self._values.get(name))

    def raw(self, name: str) -> Any:
        """Return a field as it is; None if it is not there."""
        return self._values.get(name)

    def text(self, name: str) -> str:
        """Return a text, empty if there is none."""
        value = self._typed(name, str, "a string") or ""
        return _whole_unicode(value, f"{self._what} {name!r}")

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._typed(name, bool, "true or false")
        return default if value is None else bool(value)

    def number(self, name: str, default: float) -> float:
        """Return a finite number."""
        value = self._typed(name, (int, float), "a number")
        if value is None:
            return default
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._wrong(name, "a number")
        return number

    def whole(self, name: str, default: int) -> int:
        """Return a whole number; 3.0 is one."""
        number = self.number(name, default)
        if number != int(number) or abs(number) > _WHOLE_MAX:
            raise self._wrong(name, f"a whole number, at most {_WHOLE_MAX}")
        return int(number)

    def table(self, name: str) -> Json:
        """Return an object, empty if there is none."""
        return self._typed(name, dict, "an object") or {}

    def tables(self, name: str) -> list[Json]:
        """Return a list of objects, empty if there is none."""
        found = self._typed(name, list, "a list") or []
        if not all(isinstance(one, dict) for one in found):
            raise self._wrong(name, "a list of objects")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; one text alone is a list of one."""
        value = self._values.get(name)
        found = [value] if isinstance(value, str) else value or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._wrong(name, "a string or a list of strings")
        return tuple(_whole_unicode(one, f"{self._what} {name!r}") for one in found)

    def _typed(self, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        value = self._values.get(name)
        if value is None:
            return None
        # To Python a bool is a number, to nobody else.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(name, wanted)
        return value

    def _wrong(self, name: str, wanted: str) -> InputError:
        return InputError(f"{self._what} {name!r} must be {wanted}")


async def read_fields(request: web.Request) -> Fields:
    """Return a request's body; none is an empty object.

    Raises:
        InputError: it is no JSON object.
        HTTPRequestEntityTooLarge: it is longer than any good one.
    """
    data = bytes(await read_bytes(request, OLLAMA_BODY_MAX_BYTES))
    return Fields(loads_lenient(data) if data else {})


def model_of(fields: Fields) -> str:
    """Return the model that a request names; older clients call the field ``name``."""
    return fields.text("model") or fields.text("name")


def _whole_unicode(text: str, what: str) -> str:
    """Refuse half of a surrogate pair, which JSON can write and no file or model can take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is no Unicode text: {json.dumps(text):.80}") from error
    return text
