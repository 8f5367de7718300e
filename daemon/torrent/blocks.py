"""Whether a block on disk has its hash: read back from the file, as libtorrent wrote it there."""

from __future__ import annotations

import os
import time

from blake3 import blake3

from dreamer.daemon.store import beneath
from dreamer.daemon.store.copying import fill
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.limits import TORRENT_WRITTEN_POLL_S, TORRENT_WRITTEN_TIMEOUT_S


def right_on_disk(spans: list[VerifiedSpan]) -> list[int]:
    """Return the blocks whose bytes have the right hash; a file that can't be read has none."""
    return [span[0] for span in spans if _is_right(span)]


def _is_right(span: VerifiedSpan) -> bool:
    _, path, offset, length, digest = span
    buffer = memoryview(bytearray(length))
    try:
        with beneath.opened(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as fd:
            count = fill(fd, buffer, offset)
    except OSError:
        return False
    return count == length and blake3(buffer).digest() == digest


def await_on_disk(spans: list[VerifiedSpan]) -> tuple[list[int], list[int]]:
    """Return the blocks of a finished piece that are right, and those that are wrong.

    libtorrent says that a piece is whole when its own hash is right, which may be before its last
    write: a block that is wrong is looked at again until ``TORRENT_WRITTEN_TIMEOUT_S`` have passed.
    """
    ends = time.monotonic() + TORRENT_WRITTEN_TIMEOUT_S
    good = right_on_disk(spans)
    while len(good) < len(spans) and time.monotonic() < ends:
        time.sleep(TORRENT_WRITTEN_POLL_S)
        missing = [span for span in spans if span[0] not in good]
        good += right_on_disk(missing)
    return good, [span[0] for span in spans if span[0] not in good]
