"""Reads the fields of a JSON object one by one and keeps what a later version added."""

from __future__ import annotations

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex

INTEGER_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""


def check_count(value: object, what: str) -> int:
    """Return ``value`` if it is an integer from 0 to ``INTEGER_MAX``.

    Raises:
        InputError: it is something else.
    """
    # In Python true is an int, in JSON it is none.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INTEGER_MAX:
        raise InputError(f"{what} must be a whole number, not {value!r:.80}")
    return value


class Reader:
    """Takes typed fields out of one object; what nobody took is in ``rest``."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where} must be an object, not {type(value).__name__}")
        self._left: Json = dict(value)
        self._where = where

    def any(self, key: str) -> object:
        """Return the value of ``key``, whatever it is."""
        try:
            return self._left.pop(key)
        except KeyError:
            raise InputError(f"{self._where} lacks {key!r}") from None

    def optional(self, key: str) -> object:
        """Return the value of ``key``, whatever it is; None if it isn't there."""
        return self._left.pop(key, None)

    def text(self, key: str) -> str:
        """Return a string."""
        value = self.any(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.any(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def integer(self, key: str) -> int:
        """Return an integer from 0 to ``INTEGER_MAX``."""
        return check_count(self.any(key), f"{self._where}: {key}")

    def seconds(self, key: str) -> float:
        """Return a time in seconds since the epoch."""
        value = self.any(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a time in seconds", value)
        # Also refuses infinity and NaN, which Python's parser lets through.
        if not 0 <= value <= INTEGER_MAX:
            raise self._wrong(key, "a time in seconds", value)
        return float(value)

    def hex_bytes(self, key: str, size_bytes: int = 32) -> bytes:
        """Return the bytes of a hex string of exactly ``size_bytes``."""
        return from_hex(self.any(key), f"{self._where}: {key}", size_bytes)

    def mapping(self, key: str) -> Json:
        """Return an object."""
        value = self.any(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return value

    def items(self, key: str) -> list[object]:
        """Return a list."""
        value = self.any(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def has(self, key: str) -> bool:
        """Return whether ``key`` is there and means something: null means nothing."""
        return self._left.get(key) is not None

    def kind(self, expected: str) -> None:
        """Take the kind of a statement.

        Raises:
            InputError: it is of another kind.
        """
        found = self.text("kind")
        if found != expected:
            raise InputError(f"a {expected} record is of kind {found!r:.40}")

    def nothing_else(self) -> None:
        """Refuse fields that nobody took, where they could not be written back.

        Raises:
            InputError: there are some: a later version of the format has added them.
        """
        # What is signed and isn't written back as it was would break the signature.
        if self._left:
            raise InputError(f"{self._where} has fields not known here: update Dreamer")

    def rest(self) -> Json:
        """Return the fields that nobody took: those of a later version of the format."""
        return self._left

    def _wrong(self, key: str, wanted: str, value: object) -> InputError:
        return InputError(f"{self._where}: {key} must be {wanted}, not {value!r:.80}")
