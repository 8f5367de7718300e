"""What the giving side of a payload holds back, hands out and forgets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.offload.payload_giving import PayloadGiving
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.transport.vocabulary import Span, ToTransport
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.offload_messages import WantPayload
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.swarm.vocabulary import Lane

BLOCKS = 10
PAYLOAD = Payload(7, BLOCKS * BLOCK_BYTES, bytes(32 * BLOCKS))


class Giver:
    """A direct connection that sends nothing, and notes what it was told."""

    def __init__(self) -> None:
        self.served: list[int] = []
        self.stopped: list[int] = []

    def serve(self, request: int, spans: list[Span]) -> None:
        self.served += [span[0] for span in spans]

    def stop_serving(self, request: int, block: int) -> None:
        self.stopped.append(block)


class Giving:
    """A payload of ten blocks that is offered over a link, 1 MiB a second, of which one block
    may go at once. The clock stands.
    """

    def __init__(self) -> None:
        self.giver = Giver()
        self.bulk: list[ToTransport] = []
        peer = NodeId(bytes(32))
        self.link = Link(1, RoomId(bytes(32)), peer, False, {}, self.bulk.append, 0.0)
        self.link.direct_up = self.giver
        limits = Limits(always=Rates(up=BLOCK_BYTES))
        self.pace = Pace(limits, clock=lambda: 1000.0, minute=lambda: 0)
        self.giving = PayloadGiving(self.pace)
        self.giving.offer(self.link, PAYLOAD, Path("tensors"))

    async def ask(self, request: int, first: int) -> bool:
        """Ask for blocks, and let those go that may."""
        taken = self.giving.serve(self.link, WantPayload(request, PAYLOAD.number, first, True))
        told = asyncio.Event()
        asyncio.get_running_loop().call_later(0.0, told.set)
        await told.wait()
        return taken

    @property
    def room_blocks(self) -> float:
        """Of how many blocks the limit lets others send now."""
        return self.pace._shaping.up.level(Lane.DIRECT, False, 1000.0) / BLOCK_BYTES


@pytest.fixture
async def given() -> Giving:
    return Giving()


@pytest.mark.parametrize("first", [BLOCKS, BLOCKS + 5, 2**40])
async def test_request_behind_the_last_block_is_over_at_once(given: Giving, first: int) -> None:
    assert await given.ask(1, first)
    assert not given.giving.sends(given.link)
    assert given.room_blocks == 1


async def test_blocks_that_wait_are_left_out_each_by_its_number(given: Giving) -> None:
    await given.ask(1, 0)
    assert given.giver.served == [0]
    assert given.room_blocks == -9
    for _ in range(3):
        given.giving.cancel(given.link, 1, 4)
    given.giving.cancel(given.link, 1, 99)
    assert given.room_blocks == -8
    # The lane hears of none that it doesn't have.
    assert not given.giver.stopped
    given.giving.cancel(given.link, 1, 0)
    assert given.giver.stopped == [0]
    given.giving.cancel(given.link, 1, -1)
    assert given.room_blocks == 0
    given.giving.ended(given.link, 1, None)
    assert not given.giving.sends(given.link)


async def test_lane_that_is_gone_is_handed_nothing_and_its_rest_is_given_back(
    given: Giving,
) -> None:
    await given.ask(1, 0)
    given.link.direct_up = None
    given.giving.ended(given.link, 1, None)
    assert given.giver.served == [0]
    assert not given.giving.sends(given.link)
    assert given.room_blocks == 0
    # Another connection has nothing of it either, until it is asked.
    given.link.direct_up = Giver()
    await given.ask(2, 3)
    assert given.giving.sends(given.link)


async def test_lane_that_is_gone_before_it_was_handed_anything_ends_its_request(
    given: Giving,
) -> None:
    assert given.giving.serve(given.link, WantPayload(1, PAYLOAD.number, 0, True))
    given.link.direct_up = None
    told = asyncio.Event()
    asyncio.get_running_loop().call_later(0.0, told.set)
    await told.wait()
    assert not given.giver.served
    assert not given.giving.sends(given.link)
    assert not given.bulk
