"""Checksums that an S3 store computes of what it is sent, and compares with ours.

Against damage on the way only; BLAKE3 decides what is kept. ``Content-MD5`` (RFC 1864) is checked
by every store there is but AWS's directory buckets, which take ``x-amz-checksum-crc32`` instead,
of parts and of the whole (type FULL_OBJECT).
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dreamer.protocol.errors import InputError

_TEXT = re.compile(r"(md5|crc32)=([A-Za-z0-9+/]{22}==|[A-Za-z0-9+/]{6}==)")
_VALUE_CHARS = {"md5": 24, "crc32": 8}
# x**32 is left out, and the lowest power is the highest bit, as in zlib.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


class Algorithm(StrEnum):
    """What a store can be asked to compute, in the order that it is tried in."""

    MD5 = "md5"
    CRC32 = "crc32"


@dataclass(frozen=True)
class Checksum:
    """One checksum, ``value`` in base64 as in the headers."""

    algorithm: Algorithm
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}={self.value}"

    @property
    def header(self) -> str:
        """The name of the header that it is sent in."""
        return "Content-MD5" if self.algorithm is Algorithm.MD5 else "x-amz-checksum-crc32"


def checksum(algorithm: Algorithm, data: bytes) -> Checksum:
    """Return the checksum of some data."""
    if algorithm is Algorithm.MD5:
        return Checksum(algorithm, _base64(hashlib.md5(data, usedforsecurity=False).digest()))
    return crc32_checksum(zlib.crc32(data))


def crc32_checksum(crc: int) -> Checksum:
    """Return a CRC-32 as a checksum."""
    return Checksum(Algorithm.CRC32, _base64(crc.to_bytes(4, "big")))


def parse_checksum(text: str) -> Checksum:
    """Return what ``str(checksum)`` said.

    Raises:
        InputError: it is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None or len(found[2]) != _VALUE_CHARS[found[1]]:
        raise InputError(f"a checksum is md5=BASE64 or crc32=BASE64, not {text!r:.80}")
    return Checksum(Algorithm(found[1]), found[2])


def crc32_of_all(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of data that lies in parts, given the CRC-32 and length in bytes of each.

    The data itself is not read: a CRC is a remainder of polynomials, and what comes after it
    multiplies it by a power of x (as ``crc32_combine`` of zlib does).
    """
    whole = 0
    for crc, length in parts:
        whole = _product(_power(8 * length), whole) ^ crc
    return whole


def _product(a: int, b: int) -> int:
    total = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            total ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return total


def _power(exponent: int) -> int:
    """Return x**exponent."""
    result, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _product(result, square)
        square = _product(square, square)
        exponent >>= 1
    return result


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
