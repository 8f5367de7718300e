"""The planner and the upload queue with blocks that each stand for 64 MiB."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    MIB,
    REQUEST_FIRST_BLOCKS,
    REQUEST_MAX_BLOCKS,
    REQUEST_ORIGIN_MAX_BLOCKS,
    UPLOAD_COARSE_SLOTS_MIN,
    UPLOAD_SLICE_BLOCKS,
    UPLOAD_SLOTS,
)
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.shaping.uploads import Uploads
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.grain import blocks_for, slots_for
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    Fetch,
    Lane,
    SourceId,
    SourceJoined,
)

COARSE = 64 * MIB
SIZES = (300 * COARSE + 5, 0, 17, COARSE)
PEER = SourceId("peer")


def test_an_amount_is_as_many_blocks_as_hold_it_and_at_least_one() -> None:
    assert [blocks_for(count, BLOCK_BYTES) for count in (1, 4, 1024)] == [1, 4, 1024]
    assert [blocks_for(count, COARSE) for count in (1, 4, 64, 1024)] == [1, 1, 1, 16]


def test_fewer_are_sent_to_at_once_where_a_block_stands_for_many() -> None:
    assert slots_for(1024, BLOCK_BYTES) == 1024, "as the owner of a node has set it"
    assert slots_for(UPLOAD_SLOTS, COARSE) == 14
    assert slots_for(UPLOAD_SLOTS, 4 * COARSE) == UPLOAD_COARSE_SLOTS_MIN
    assert slots_for(2, 4 * COARSE) == 2


def test_a_coarse_queue_turns_away_whoever_comes_after_its_slots_are_taken() -> None:
    uploads = Uploads(UPLOAD_SLOTS, Buckets(lan_exempt=True), 4 * COARSE)
    admitted = []
    for peer in range(UPLOAD_SLOTS):
        if uploads.admits(peer, Lane.WEBRTC, False, 0.0):
            uploads.ask((peer, 1), peer, Lane.WEBRTC, [0], 0.0)
            admitted.append(peer)
    assert len(admitted) == UPLOAD_COARSE_SLOTS_MIN


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, COARSE])
def test_a_pull_counts_the_same_bytes_whatever_a_block_stands_for(block_bytes) -> None:
    layout = Layout(SIZES, block_bytes)
    core = Download(layout, 0, itertools.count(1), Random(1), 0.0)
    assert core.missing_bytes == sum(SIZES)
    last = layout.blocks_of_file(0)[-1]
    core.handle(BlockVerified(PEER, 1, last), 0.0)
    assert core.missing_bytes == sum(SIZES) - 5
    assert sum(layout.block_size(block) for block in range(layout.block_count)) == sum(SIZES)


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, COARSE])
def test_requests_hold_a_second_of_the_measured_rate_whatever_a_block_stands_for(
    block_bytes,
) -> None:
    source = Source(PEER, Lane.WEBRTC, 0, block_bytes)
    assert source.request_blocks() == max(REQUEST_FIRST_BLOCKS * BLOCK_BYTES // block_bytes, 1)
    source.meter.begin(0.0)
    source.meter.add(640 * MIB, 1.0)
    assert source.request_blocks() * block_bytes == 640 * MIB
    assert source.seconds_for(1) == pytest.approx(block_bytes / (640 * MIB))
    source.meter.begin(1.0)
    source.meter.add(2**40, 2.0)
    assert source.request_blocks() * block_bytes == REQUEST_MAX_BLOCKS * BLOCK_BYTES
    source.lane = Lane.ORIGIN
    assert source.request_blocks() == max(REQUEST_ORIGIN_MAX_BLOCKS * BLOCK_BYTES // block_bytes, 1)


class Allowance:
    """What may be taken in: so many bytes, once."""

    def __init__(self, size_bytes: float) -> None:
        self.left = size_bytes

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        return self.left

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        self.left -= size_bytes


def test_a_limit_of_what_comes_in_is_charged_for_what_a_block_stands_for() -> None:
    layout, pace = Layout(SIZES, COARSE), Allowance(3 * COARSE)
    core = Download(layout, 0, itertools.count(1), Random(1), 0.0, pace=pace)
    everything = bitfield.full(layout.block_count)
    asked = [core.handle(SourceJoined(SourceId(n), Lane.WEBRTC, everything), 0.0) for n in "abc"]
    fetches = [one for said in asked for one in said if isinstance(one, Fetch)]
    assert sum(one.count for one in fetches) == 3
    assert pace.left == 0


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, COARSE])
def test_uploads_take_turns_and_keep_a_limit_in_bytes(block_bytes) -> None:
    buckets, rate = Buckets(lan_exempt=True), 100.0 * MIB
    buckets.set_rates(rate, {}, 0.0)
    uploads = Uploads(4, buckets, block_bytes)
    for number, peer in enumerate("ab"):
        uploads.ask((number, 1), peer, Lane.WEBRTC, range(6400 * MIB // block_bytes), 0.0)
    now, sent_bytes = 0.0, 0
    while now < 30.0:
        for one in uploads.next(now):
            assert len(one.blocks) * block_bytes <= max(2 * UPLOAD_SLICE_BLOCKS * MIB, block_bytes)
            sent_bytes += len(one.blocks) * block_bytes
            uploads.sent(one.key)
        now = min(uploads.ready_at(now), 30.0)
    assert sent_bytes == pytest.approx(rate * 30.0, rel=0.05)
