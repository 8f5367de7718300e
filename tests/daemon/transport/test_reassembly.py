"""Fragments of a stream become the same messages as in aiortc, whatever order they come in."""

from __future__ import annotations

from random import Random

import pytest
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    DataChunk,
    InboundStream,
)

from dreamer.daemon.transport.reassembly import RunningStream

TSN = 2**32 - 5
"""Numbers that wrap around soon."""


def fragments(ordered: bool, *sizes: int) -> list[DataChunk]:
    """Return messages of so many fragments each, cut as a sender cuts them."""
    chunks, tsn = [], TSN
    for sequence, size in enumerate(sizes):
        for number in range(size):
            flags = 0 if ordered else SCTP_DATA_UNORDERED
            flags |= SCTP_DATA_FIRST_FRAG if number == 0 else 0
            flags |= SCTP_DATA_LAST_FRAG if number == size - 1 else 0
            chunk = DataChunk(flags)
            chunk.tsn, chunk.stream_id, chunk.protocol = tsn % 2**32, 1, 53
            chunk.stream_seq = sequence if ordered else 0
            chunk.user_data = b"%d.%d;" % (sequence, number)
            chunks.append(chunk)
            tsn += 1
    return chunks


def messages(stream: InboundStream, chunks: list[DataChunk]) -> list[bytes]:
    """Return what aiortc's own stream makes of them."""
    found = []
    for chunk in chunks:
        stream.add_chunk(chunk)
        found += [data for _, _, data in stream.pop_messages()]
    return found


def taken(stream: RunningStream, chunks: list[DataChunk]) -> list[bytes]:
    """Return what ours makes of them, used as the association uses it."""
    found = []
    for chunk in chunks:
        parts = stream.take(chunk)
        if parts is not None:
            found.append(b"".join(parts))
        elif stream.scattered:
            found += [data for _, _, data in stream.pop_messages()]
    return found


@pytest.mark.parametrize("ordered", [True, False])
def test_fragments_in_order_are_joined_without_a_list_to_look_through(ordered: bool) -> None:
    stream = RunningStream()
    chunks = fragments(ordered, 1, 3, 113, 1)
    assert taken(stream, chunks) == messages(InboundStream(), chunks)
    assert not stream.scattered


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_fragments_out_of_order_come_out_as_with_aiortc(ordered: bool, seed: int) -> None:
    rng = Random(seed)
    chunks = fragments(ordered, *(rng.randint(1, 6) for _ in range(12)))
    for _ in range(rng.randint(1, 10)):
        one = rng.randrange(len(chunks))
        chunks.insert(min(len(chunks), one + rng.randint(0, 8)), chunks.pop(one))
    assert taken(RunningStream(), chunks) == messages(InboundStream(), chunks)


def test_a_run_cut_short_is_kept_until_the_rest_comes() -> None:
    first, second, third, other = fragments(False, 3, 1)
    stream = RunningStream()
    taken(stream, [first, other])
    assert stream.scattered
    found = taken(stream, [second, third])
    assert b"0.0;0.1;0.2;" in found
    assert found == messages(InboundStream(), [first, other, second, third])
    assert not stream.scattered


def test_fragments_given_up_by_the_sender_are_dropped() -> None:
    first, second, _ = fragments(False, 3)
    stream = RunningStream()
    assert taken(stream, [first]) == []
    assert stream.prune_chunks(second.tsn) == len(first.user_data)
    assert not stream.scattered
