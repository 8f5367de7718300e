"""Checksums that stores compare: their text, and the CRC-32 of what lies in parts."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.checksum import (
    Algorithm,
    Checksum,
    checksum,
    crc32_checksum,
    crc32_of_all,
    parse_checksum,
)
from dreamer.protocol.errors import InputError


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_crc_of_the_whole_comes_of_those_of_its_parts(parts: list[bytes]) -> None:
    pairs = [(zlib.crc32(part), len(part)) for part in parts]
    assert crc32_of_all(pairs) == zlib.crc32(b"".join(parts))


def test_checksums_are_what_the_headers_hold() -> None:
    md5 = checksum(Algorithm.MD5, b"dreamer")
    assert md5.header == "Content-MD5"
    assert base64.b64decode(md5.value) == hashlib.md5(b"dreamer").digest()
    crc = checksum(Algorithm.CRC32, b"123456789")
    # The check value of CRC-32/ISO-HDLC.
    assert crc == crc32_checksum(0xCBF43926)
    assert (crc.header, crc.value) == ("x-amz-checksum-crc32", "y/Q5Jg==")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_text_is_read_back(algorithm: Algorithm) -> None:
    made = checksum(algorithm, b"x")
    assert parse_checksum(str(made)) == made


@pytest.mark.parametrize(
    "text",
    ["", "md5", "md5=", "sha1=AAAAAA==", "md5=y/Q5Jg==", f"crc32={'A' * 22}==", "md5=\r\nX: y"],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a checksum is"):
        parse_checksum(text)


def test_checksum_is_a_value() -> None:
    assert Checksum(Algorithm.MD5, "x") == Checksum(Algorithm.MD5, "x")
