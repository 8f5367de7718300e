"""Bodies in pieces, and when a busy server may be asked again."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

import pytest

from dreamer.daemon.origin.body import pieces
from dreamer.daemon.origin.faults import OriginBusyError
from dreamer.daemon.origin.retry_after import retry_after_s
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ORIGIN_READ_MIN_BYTES,
    ORIGIN_RETRY_AFTER_MAX_S,
)


class Wire:
    """Brings bytes at a rate; the clock is its own."""

    def __init__(self, bytes_s: float) -> None:
        self.bytes_s = bytes_s
        self.now = 0.0
        self.gaps: list[float] = []

    def read(self, size_bytes: int) -> bytes:
        self.now += size_bytes / self.bytes_s
        self.gaps.append(size_bytes / self.bytes_s)
        return bytes(size_bytes)

    def clock(self) -> float:
        return self.now


def sizes(wire: Wire, length: int) -> list[int]:
    return [len(piece) for piece in pieces("key", length, wire.read, wire.clock)]


@pytest.mark.parametrize("length", [1, BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 5, 40 * BLOCK_BYTES])
def test_all_of_it_is_read_and_no_more(length: int) -> None:
    assert sum(sizes(Wire(1e9), length)) == length


def test_quick_body_comes_in_whole_blocks() -> None:
    found = sizes(Wire(1e9), 40 * BLOCK_BYTES)
    assert found[-38:] == [BLOCK_BYTES] * 38


def test_slow_body_shows_a_sign_of_life_every_few_seconds() -> None:
    wire = Wire(8 * 1024.0)
    assert sum(sizes(wire, BLOCK_BYTES)) == BLOCK_BYTES
    assert max(wire.gaps) <= ORIGIN_READ_MIN_BYTES / wire.bytes_s == 2.0


def test_body_that_slows_down_is_read_in_smaller_pieces() -> None:
    wire = Wire(1e9)
    reading = pieces("key", 80 * BLOCK_BYTES, wire.read, wire.clock)
    for _ in range(30):
        next(reading)
    wire.bytes_s = 200_000.0
    for _ in range(8):
        next(reading)
    assert wire.gaps[-1] < 1.0


def test_body_that_ends_early_is_a_passing_fault() -> None:
    read: Callable[[int], bytes] = lambda size_bytes: b""  # noqa: E731
    with pytest.raises(OriginBusyError, match="5 bytes early"):
        list(pieces("key", 5, read))


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("soon", 0.0),
        ("9" * 400, 0.0),
        ("99999", ORIGIN_RETRY_AFTER_MAX_S),
        (formatdate(1_000_030.0, usegmt=True), 30.0),
        (formatdate(999_000.0, usegmt=True), 0.0),
        (formatdate(9_000_000.0, usegmt=True), ORIGIN_RETRY_AFTER_MAX_S),
    ],
)
def test_what_a_server_says_of_later(said: str, wait_s: float) -> None:
    assert retry_after_s(said, lambda: 1_000_000.0) == wait_s
