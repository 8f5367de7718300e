"""What a peer may put into a bulk channel, and what costs it the link."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.transport.inbox import FRAMES_PER_BLOCK_MAX, OPEN_BLOCKS_MAX, Inbox
from dreamer.daemon.transport.vocabulary import BlockDone
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import MIB
from dreamer.protocol.link.bulk import encode_header


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    done: list[BlockDone] = []
    target = tmp_path / "target"
    target.write_bytes(b"")
    with ThreadPoolExecutor(1) as writers:
        inbox = Inbox(1, writers, done.append)
        digest = blake3(bytes(MIB)).digest()
        inbox.expect(7, [(block, str(target), 0, MIB, digest) for block in range(40)])
        yield inbox


def frame(block: int, offset: int, payload: bytes, request: int = 7) -> bytes:
    return encode_header(request, block, offset) + payload


def test_what_nobody_asked_for_is_no_proof_of_life(inbox: Inbox) -> None:
    inbox.receive(frame(0, 0, b"x", request=8))
    inbox.receive(frame(99, 0, b"x"))
    assert inbox.received_bytes == 0
    inbox.receive(frame(0, 0, b"x"))
    assert inbox.received_bytes == 1


def test_a_cancelled_block_is_thrown_away(inbox: Inbox) -> None:
    inbox.receive(frame(0, 0, b"x"))
    inbox.stop(7, 0)
    inbox.receive(frame(0, 1, b"x"))
    assert inbox.received_bytes == 1


def test_a_block_in_crumbs_breaks_the_protocol(inbox: Inbox) -> None:
    for offset in range(FRAMES_PER_BLOCK_MAX):
        inbox.receive(frame(0, offset, b"x"))
    with pytest.raises(RemoteProtocolError, match="too many pieces"):
        inbox.receive(frame(0, FRAMES_PER_BLOCK_MAX, b"x"))


def test_more_blocks_begun_than_may_be_open_break_the_protocol(inbox: Inbox) -> None:
    for block in range(OPEN_BLOCKS_MAX):
        inbox.receive(frame(block, 0, b"x"))
    with pytest.raises(RemoteProtocolError, match="too many blocks"):
        inbox.receive(frame(OPEN_BLOCKS_MAX, 0, b"x"))


@pytest.mark.parametrize("offset", [0, MIB - 1, MIB, 2**32 - 1])
def test_a_repeated_or_overlong_frame_breaks_the_protocol(inbox: Inbox, offset: int) -> None:
    inbox.receive(frame(0, 0, b"xx"))
    with pytest.raises(RemoteProtocolError):
        inbox.receive(frame(0, offset, b"xx"))
