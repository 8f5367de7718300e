"""Reading the body of an answer in pieces that suit its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from dreamer.daemon.origin.faults import OriginBusyError, OriginError
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ORIGIN_READ_MAX_BYTES,
    ORIGIN_READ_MIN_BYTES,
    ORIGIN_READ_QUICK_S,
    ORIGIN_READ_SLOW_S,
)
from dreamer.protocol.presign import sound_etag
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES


def checked_whole(what: str, data: bytes, size_bytes: int | None) -> bytes:
    """Return a document that was read up to one byte more than it may have.

    ``size_bytes`` is its size as declared. Half of one would look like a damaged one, which whoever
    changes the registry puts right.

    Raises:
        OriginError: it is too large.
        OriginBusyError: it was cut short.
    """
    if size_bytes is not None and len(data) < min(size_bytes, REGISTRY_MAX_BYTES + 1):
        raise OriginBusyError(f"{what}: the answer ended {size_bytes - len(data)} bytes early")
    if len(data) > REGISTRY_MAX_BYTES:
        raise OriginError(f"{what}: too large to be a registry; remove it")
    return data


def checked_etag(what: str, etag: str | None) -> str:
    """Return an ETag that is to be sent back in a header.

    Raises:
        OriginError: there is none, or not one that a header can hold.
    """
    if etag is None or not sound_etag(etag):
        raise OriginError(f"{what}: its server sends no usable ETag; check the endpoint URL")
    return etag


def pieces(
    what: str,
    length: int,
    read: Callable[[int], bytes],
    clock: Callable[[], float] = time.monotonic,
) -> Generator[bytes, None, None]:
    """Yield ``length`` bytes as ``read`` brings them; it returns none only at the end.

    ``read(n)`` waits until it has n bytes, so that of a slow origin nothing would be seen for
    long: it is asked for less. What a quick one sends comes in whole blocks, counted from the
    beginning, which then need not be put together.

    Raises:
        OriginBusyError: the body was cut short.
    """
    done, ask_for = 0, ORIGIN_READ_MIN_BYTES
    while done < length:
        until_block = BLOCK_BYTES - done % BLOCK_BYTES
        began = clock()
        piece = read(min(ask_for, until_block, length - done))
        took_s = clock() - began
        # botocore does not always mind a body shorter than announced.
        if not piece:
            raise OriginBusyError(f"{what}: the answer ended {length - done} bytes early")
        if took_s < ORIGIN_READ_QUICK_S:
            ask_for = min(ORIGIN_READ_MAX_BYTES, 2 * ask_for)
        elif took_s > ORIGIN_READ_SLOW_S:
            ask_for = max(ORIGIN_READ_MIN_BYTES, ask_for // 2)
        done += len(piece)
        yield piece
