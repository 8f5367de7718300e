"""Bencoding (BEP 3): how BitTorrent writes torrents, extension messages and tracker answers.

One value has one encoding, so what is decoded strictly can be hashed again: keys of a dictionary
are sorted as bytes, integers have no leading zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import BENCODE_MAX_DEPTH, BENCODE_MAX_ITEMS

Bencoded = int | bytes | list["Bencoded"] | dict[bytes, "Bencoded"]
"""What a decoded text is made of."""

# An info dict counts sizes of a model; nothing in it needs more digits than this.
_INTEGER_MAX_DIGITS = 20


def encode(value: object) -> bytes:
    """Return the one encoding of integers, byte strings, text (as UTF-8), lists and dictionaries.

    Raises:
        InputError: there is something else in it, or a dictionary names a key twice.
    """
    pieces: list[bytes] = []
    _write(value, pieces)
    return b"".join(pieces)


def _write(value: object, pieces: list[bytes]) -> None:
    match value:
        # Before int: True is one to Python.
        case bool():
            raise InputError("bencoding has no true or false")
        case int():
            pieces.append(b"i%de" % value)
        case bytes() | str():
            data = _as_bytes(value)
            pieces.append(b"%d:%b" % (len(data), data))
        case Mapping():
            _write_mapping(value, pieces)
        case Sequence():
            pieces.append(b"l")
            for item in value:
                _write(item, pieces)
            pieces.append(b"e")
        case _:
            raise InputError(f"bencoding has no form for {type(value).__name__}")


def _write_mapping(value: Mapping[object, object], pieces: list[bytes]) -> None:
    keyed = {_as_bytes(key): item for key, item in value.items()}
    if len(keyed) != len(value):
        raise InputError("a key is there twice, as text and as bytes")
    pieces.append(b"d")
    for key in sorted(keyed):
        _write(key, pieces)
        _write(keyed[key], pieces)
    pieces.append(b"e")


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise InputError("a key of a bencoded dictionary must be text or bytes")
    return value


def decode(data: bytes) -> Bencoded:
    """Return the value that ``data`` is the one encoding of.

    Raises:
        InputError: not bencoded, not in its only form, nested too deeply, too many values, or
            followed by something else.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.position != len(data):
        raise InputError("bencoded data with something behind it")
    return value


class _Reader:
    """Reads values one after the other from ``position`` on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0
        self.position = 0

    def value(self, depth: int) -> Bencoded:
        # Counted, or a few megabytes from a stranger would become a hundred in memory.
        self._items += 1
        if self._items > BENCODE_MAX_ITEMS or depth > BENCODE_MAX_DEPTH:
            raise InputError("bencoded data with too many values, or nested too deeply")
        kind = self._data[self.position : self.position + 1]
        if kind == b"i":
            return self._integer(self.position + 1, b"e")
        if kind == b"l":
            return self._list(depth)
        if kind == b"d":
            return self._dictionary(depth)
        return self._string()

    def _integer(self, start: int, end: bytes) -> int:
        stop = self._data.find(end, start, start + _INTEGER_MAX_DIGITS + 2)
        digits = self._data[start:stop] if stop >= 0 else b""
        # Compared with how it is written: int() takes blanks, underscores and signs as well.
        if not digits.removeprefix(b"-").isdigit() or b"%d" % int(digits) != digits:
            raise InputError("a bencoded number that is malformed")
        self.position = stop + 1
        return int(digits)

    def _string(self) -> bytes:
        length = self._integer(self.position, b":")
        stop = self.position + length
        if length < 0 or stop > len(self._data):
            raise InputError("a bencoded string that is longer than the data")
        value = self._data[self.position : stop]
        self.position = stop
        return value

    def _list(self, depth: int) -> list[Bencoded]:
        found: list[Bencoded] = []
        self.position += 1
        while not self._ended():
            found.append(self.value(depth + 1))
        return found

    def _dictionary(self, depth: int) -> dict[bytes, Bencoded]:
        found: dict[bytes, Bencoded] = {}
        last: bytes | None = None
        self.position += 1
        while not self._ended():
            key = self._string()
            if last is not None and key <= last:
                raise InputError("a bencoded dictionary whose keys are not in order")
            last = key
            found[key] = self.value(depth + 1)
        return found

    def _ended(self) -> bool:
        if self._data[self.position : self.position + 1] != b"e":
            return False
        self.position += 1
        return True
