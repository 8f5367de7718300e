"""Large tensors between two members, over a lane of files: verified, bounded, left nowhere."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from blake3 import blake3

from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.offload.payload_files import PayloadFolder
from dreamer.daemon.offload.payloads import Payloads
from dreamer.daemon.offload.tensor_links import ValueLinks
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.transport.vocabulary import (
    REJECTED,
    VERIFIED,
    Expect,
    SendControl,
    Serve,
    ServeFailed,
    Span,
    StopExpecting,
    StopServing,
    ToTransport,
    VerifiedSpan,
)
from dreamer.protocol.errors import BusyError, DiskError, RemoteError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.messages import Message, decode
from dreamer.protocol.link.offload_messages import WantPayload
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOAD_MAX_BYTES
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.shaping.uploads import Slice
from dreamer.protocol.swarm.vocabulary import Lane

DATA = os.urandom(3 * BLOCK_BYTES + 77)


class End:
    """One of two members: its payloads, its link, and a bulk channel that copies files.

    ``blocks_left`` may still be sent over bulk; what is asked for beyond that waits in ``queue``.
    ``sent`` are the blocks that were, over either lane.
    """

    def __init__(
        self, folder: Path, first_number: int, stall_timeout_s: float, pace: Pace | None
    ) -> None:
        self.folder = folder
        self.payloads = Payloads(
            PayloadFolder(folder), itertools.count(first_number, 2), stall_timeout_s, pace
        )
        self.link = Link(1, RoomId(bytes(32)), NodeId(bytes(32)), False, {}, self.pass_on, 0.0)
        self.expected: dict[tuple[int, int], tuple[str, int, int, bytes]] = {}
        self.queue: list[tuple[int, Span]] = []
        self.sent: list[int] = []
        self.heard: list[Message] = []
        self.other: End
        self.corrupt = False
        self.blocks_left = 1000

    def pass_on(self, command: ToTransport) -> None:
        """Carry out a command a little later, as a transport process would."""
        asyncio.get_running_loop().call_soon(self._carry_out, command)

    def _carry_out(self, command: ToTransport) -> None:
        match command:
            case SendControl(_, data):
                self.other.heard.append(decode(data))
                self.other.payloads.message(self.other.link, self.other.heard[-1])
            case Expect(_, request, spans):
                self.expect(request, spans)
            case StopExpecting(_, request, block):
                self.stop_expecting(request, block)
            case StopServing(_, request, block):
                self.stop_serving(request, block)
            case Serve(_, request, spans):
                self.serve(request, spans)

    def serve(self, request: int, spans: list[Span]) -> None:
        """Send blocks, or let them wait."""
        self.queue += [(request, span) for span in spans]
        self.send()

    def stop_serving(self, request: int, block: int) -> None:
        """Leave out what waits."""
        self.queue = [
            (number, span)
            for number, span in self.queue
            if number != request or block not in (-1, span[0])
        ]

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Take blocks when they come."""
        for block, path, offset, length, digest in spans:
            self.expected[request, block] = (path, offset, length, digest)

    def stop_expecting(self, request: int, block: int) -> None:
        """Take them no more."""
        for number, one in list(self.expected):
            if number == request and block in (-1, one):
                del self.expected[number, one]

    def send(self) -> None:
        """Send what waits, as far as it may go."""
        while self.queue and self.blocks_left > 0:
            request, (block, path, offset, length) = self.queue.pop(0)
            self.blocks_left -= 1
            self.give(request, block, path, offset, length)
            if all(number != request for number, _ in self.queue):
                self.payloads.serve_ended(self.link, request, None)

    def give(self, request: int, block: int, path: str, offset: int, length: int) -> None:
        """Take one block to the other end."""
        self.sent.append(block)
        if (data := self._read(request, path, offset, length)) is not None:
            self.other.take(request, block, data)

    def _read(self, request: int, path: str, offset: int, length: int) -> bytes | None:
        try:
            data = Path(path).read_bytes()[offset : offset + length]
        except OSError as error:
            failed = ServeFailed(1, request, path, str(error))
            self.payloads.serve_ended(self.link, request, failed)
            return None
        return bytes(length) if self.corrupt else data

    def take(self, request: int, block: int, data: bytes) -> None:
        """Take a block, verify it, write it."""
        if (request, block) not in self.expected:
            return
        path, offset, length, digest = self.expected.pop((request, block))
        good = len(data) == length and blake3(data).digest() == digest
        if good:
            with Path(path).open("r+b") as file:
                file.seek(offset)
                file.write(data)
        verdict = VERIFIED if good else REJECTED
        self.payloads.block_done(self.link, request, block, verdict)

    def files(self) -> list[Path]:
        return list(self.folder.glob("*"))


class Direct:
    """A direct connection from one end to the other; ``holds`` keeps what is sent on the way."""

    def __init__(self, giver: End, taker: End, *, holds: bool = False) -> None:
        self.giver, self.taker = giver, taker
        self.holds = holds
        self.held: list[tuple[int, Span]] = []
        giver.link.direct_up = taker.link.direct = self

    def serve(self, request: int, spans: list[Span]) -> None:
        """Send blocks, unless they are held."""
        if self.holds:
            self.held += [(request, span) for span in spans]
            return
        for block, *place in spans:
            self.giver.give(request, block, *place)
        self.giver.payloads.serve_ended(self.giver.link, request, None)

    def stop_serving(self, request: int, block: int) -> None:
        """Leave out what is held."""
        self.held = [one for one in self.held if one[0] != request or block not in (-1, one[1][0])]

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Take blocks when they come."""
        self.taker.expect(request, spans)

    def stop_expecting(self, request: int, block: int) -> None:
        """Take them no more."""
        self.taker.stop_expecting(request, block)

    def bring(self, count: int) -> None:
        """Bring blocks that are held."""
        for _ in range(count):
            request, (block, *place) = self.held.pop(0)
            self.giver.give(request, block, *place)

    def break_off(self) -> None:
        """Be gone, with what is held."""
        self.giver.link.direct_up = self.taker.link.direct = None
        self.taker.payloads.lane_changed(self.taker.link)


Ends = tuple[End, End]


@pytest.fixture
def make_ends(tmp_path: Path) -> Iterator[Callable[..., Ends]]:
    def make(stall_timeout_s: float = 5.0, pace: Pace | None = None) -> Ends:
        ends = tuple(End(tmp_path / str(n), n, stall_timeout_s, pace) for n in (1, 2))
        ends[0].other, ends[1].other = ends[1], ends[0]
        return ends[0], ends[1]

    yield make
    assert not list(tmp_path.glob("*/*"))


@pytest.fixture
def ends(make_ends: Callable[..., Ends]) -> Ends:
    return make_ends()


@pytest.mark.parametrize(
    "parts",
    [
        [b"x"],
        [DATA],
        [DATA[:5], b"", DATA[5 : BLOCK_BYTES + 9], memoryview(DATA)[BLOCK_BYTES + 9 :]],
        [DATA[: 2 * BLOCK_BYTES]],
    ],
)
async def test_bytes_arrive_as_they_were(ends: Ends, parts: list[bytes]) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, parts)
    got = await taker.payloads.fetch(taker.link, payload)
    assert bytes(got) == b"".join(bytes(part) for part in parts)
    assert len(giver.files()) == 1
    giver.payloads.withdraw(giver.link, payload)
    assert not taker.expected


async def test_what_is_not_what_was_told_is_refused(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.corrupt = True
    with pytest.raises(RemoteError, match="not what it said"):
        await taker.payloads.fetch(taker.link, payload)
    giver.payloads.withdraw(giver.link, payload)


async def test_payload_that_is_withdrawn_can_not_be_fetched(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.payloads.withdraw(giver.link, payload)
    with pytest.raises(RemoteError, match="not offered"):
        await taker.payloads.fetch(taker.link, payload)


async def test_other_links_can_not_fetch_it(ends: Ends) -> None:
    giver, taker = ends
    stranger = replace(giver.link, number=2)
    payload = await giver.payloads.offer(stranger, [DATA])
    with pytest.raises(RemoteError, match="not offered"):
        await taker.payloads.fetch(taker.link, payload)
    giver.payloads.withdraw(stranger, payload)


async def happened(what: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    async with asyncio.timeout(5):
        while not what():
            await asyncio.sleep(0)


LONG = os.urandom(9 * BLOCK_BYTES + 5)


async def test_direct_connection_is_asked_only_for_what_is_not_on_its_way(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [LONG])
    giver.blocks_left = 3
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: not giver.blocks_left)
    Direct(giver, taker)
    taker.payloads.lane_changed(taker.link)
    await happened(lambda: 9 in giver.sent)
    # Three came over bulk, which is in the middle of the next two; the others come straight.
    assert giver.sent == [0, 1, 2, 5, 6, 7, 8, 9]
    await happened(lambda: [span[0] for _, span in giver.queue] == [3, 4])
    giver.blocks_left = 1000
    giver.send()
    assert bytes(await fetching) == LONG
    assert sorted(giver.sent) == list(range(10))
    giver.payloads.withdraw(giver.link, payload)


async def test_what_the_old_lane_does_not_end_is_asked_for_again(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [LONG])
    giver.blocks_left = 3
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: not giver.blocks_left)
    Direct(giver, taker)
    taker.payloads.lane_changed(taker.link)
    assert bytes(await fetching) == LONG
    assert giver.sent == [0, 1, 2, 5, 6, 7, 8, 9, 3, 4]
    giver.payloads.withdraw(giver.link, payload)


async def test_verdicts_that_wait_behind_the_change_of_a_lane_count(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [LONG])
    giver.blocks_left = 0
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: len(giver.queue) == 10)
    Direct(giver, taker)
    # The daemon was busy: it hears of the lane before it hears of what has long come.
    taker.payloads.lane_changed(taker.link)
    giver.blocks_left = 1000
    giver.send()
    assert bytes(await fetching) == LONG
    assert giver.sent == list(range(10))
    giver.payloads.withdraw(giver.link, payload)


async def test_change_of_path_below_the_same_lane_asks_for_nothing_anew(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.blocks_left = 2
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: not giver.blocks_left)
    taker.link.relayed = True
    taker.payloads.lane_changed(taker.link)
    giver.blocks_left = 1000
    giver.send()
    assert bytes(await fetching) == DATA
    assert sum(isinstance(one, WantPayload) for one in giver.heard) == 1
    assert giver.sent == [0, 1, 2, 3]
    giver.payloads.withdraw(giver.link, payload)


async def test_direct_connection_that_breaks_loses_only_what_it_had_not_brought(
    ends: Ends,
) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [LONG])
    giver.blocks_left = 0
    direct = Direct(giver, taker, holds=True)
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: len(direct.held) == 10)
    direct.held.append(direct.held.pop(0))
    direct.bring(4)
    direct.break_off()
    # All of them but those that are here, though the first one is missing.
    await happened(lambda: [span[0] for _, span in giver.queue] == [0, 5, 6, 7, 8, 9])
    giver.blocks_left = 1000
    giver.send()
    assert bytes(await fetching) == LONG
    assert sorted(giver.sent) == list(range(10))
    giver.payloads.withdraw(giver.link, payload)


async def test_peer_that_asks_again_and_again_is_served_over_two_lanes_at_most(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [LONG])
    giver.blocks_left = 0
    for first in range(10):
        taker.link.send(WantPayload(100 + first, payload.number, first, False))
    await happened(lambda: len(giver.heard) == 10)
    await asyncio.sleep(0)
    assert {request for request, _ in giver.queue} <= {108, 109}
    giver.payloads.withdraw(giver.link, payload)
    await asyncio.sleep(0)
    assert not giver.queue


class Moves:
    """Payloads of which so much has moved each time somebody looks; None: none is under way."""

    def __init__(self, *seen: int | None) -> None:
        self.seen = list(seen)

    def progress(self, link: object) -> int | None:
        return self.seen.pop(0) if self.seen else None


async def test_nobody_is_left_while_something_moves() -> None:
    moves: Any = Moves(1, 2, 3)
    with pytest.raises(TimeoutError):
        async with ValueLinks(moves).patience(cast(Link, None), 0.7):
            await asyncio.Event().wait()
    # It was looked at after the time in which nothing may move, as something had.
    assert not moves.seen


async def test_what_moves_no_more_is_left() -> None:
    moves: Any = Moves(*[1] * 10)
    with pytest.raises(TimeoutError):
        async with ValueLinks(moves).patience(cast(Link, None), 0.7):
            await asyncio.Event().wait()
    assert len(moves.seen) >= 7


class Clock:
    """Seconds, as they are told to be; timers of the loop are moved with it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_tensors_keep_to_the_upload_limit_and_models_wait_for_them(
    make_ends: Callable[..., Ends],
) -> None:
    # 1 MiB a second, of which the first may go at once.
    clock = Clock()
    pace = Pace(Limits(always=Rates(up=BLOCK_BYTES)), clock=clock, minute=lambda: 0)
    giver, taker = make_ends(pace=pace)
    payload = await giver.payloads.offer(giver.link, [LONG])
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: len(giver.sent) == 1)
    assert pace.promised_wait_s(Lane.WEBRTC, False) == pytest.approx(0.0, abs=1.1)
    for seconds in range(1, 4):
        clock.now += 1.0
        giver.payloads._giving._send()
        await happened(lambda seconds=seconds: len(giver.sent) >= 1 + seconds)
        assert len(giver.sent) == 1 + seconds
    # A model's blocks would have to wait until all that was asked for has gone.
    blocks: list[Slice] = []
    pace.ask((9, 9), "a member", Lane.WEBRTC, range(2), blocks.append, lan=False)
    pace.settle()
    assert not blocks
    giver.payloads.withdraw(giver.link, payload)
    clock.now += 2.0
    pace.ask((9, 8), "a member", Lane.WEBRTC, range(2), blocks.append, lan=False)
    pace.settle()
    assert blocks
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)


async def test_nothing_is_asked_for_until_a_lane_is_there(ends: Ends) -> None:
    giver, taker = ends
    taker.link.deciding = True
    payload = await giver.payloads.offer(giver.link, [DATA])
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: taker.payloads.waits_on(taker.link))
    assert giver.blocks_left == 1000
    taker.link.deciding = False
    taker.payloads.lane_changed(taker.link)
    assert bytes(await fetching) == DATA
    giver.payloads.withdraw(giver.link, payload)


async def test_relay_that_may_carry_no_more_is_a_reason_to_go_elsewhere(ends: Ends) -> None:
    giver, taker = ends
    taker.link.bulk_spent = True
    payload = await giver.payloads.offer(giver.link, [DATA])
    with pytest.raises(RemoteError, match="relay"):
        await taker.payloads.fetch(taker.link, payload)
    giver.payloads.withdraw(giver.link, payload)


async def test_link_that_is_lost_fails_at_once_and_leaves_nothing(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.blocks_left = 1
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    await happened(lambda: not giver.blocks_left)
    for end in ends:
        end.payloads.link_down(end.link, "cut")
    with pytest.raises(RemoteError, match="lost the link"):
        await fetching
    assert not giver.files()
    assert not giver.payloads.uses(giver.link)


async def test_giver_that_stands_still_is_left(make_ends: Callable[..., Ends]) -> None:
    giver, taker = make_ends(stall_timeout_s=0.05)
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.blocks_left = 1
    with pytest.raises(RemoteError, match="nothing of the tensors came"):
        await taker.payloads.fetch(taker.link, payload)
    giver.payloads.withdraw(giver.link, payload)


async def test_payload_whose_file_is_gone_is_told_of(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.files()[0].unlink()
    with pytest.raises(RemoteError, match="can't be read there"):
        await taker.payloads.fetch(taker.link, payload)
    giver.payloads.withdraw(giver.link, payload)


@pytest.mark.parametrize(
    "payload",
    [
        Payload(1, 0, b""),
        Payload(1, -5, b""),
        Payload(1, 10, b""),
        Payload(1, 10, bytes(33)),
        Payload(1, BLOCK_BYTES + 1, bytes(32)),
        Payload(1, OFFLOAD_PAYLOAD_MAX_BYTES + 1, bytes(32 * 1025)),
    ],
)
async def test_payload_that_can_not_be_is_the_peers_fault(ends: Ends, payload: Payload) -> None:
    with pytest.raises(RemoteProtocolError):
        await ends[1].payloads.fetch(ends[1].link, payload)


async def test_folder_holds_so_much_and_no_more(tmp_path: Path) -> None:
    folder = PayloadFolder(tmp_path / "tensors", limit_bytes=100)
    first = folder.create(60)
    with pytest.raises(BusyError):
        folder.create(41)
    folder.remove(first)
    folder.remove(folder.create(100))
    assert (tmp_path / "tensors").stat().st_mode & 0o777 == 0o700


def test_folder_is_emptied_at_the_start(tmp_path: Path) -> None:
    left = PayloadFolder(tmp_path / "tensors").create(10)
    assert left.exists()
    PayloadFolder(tmp_path / "tensors")
    assert not left.exists()


async def test_folder_that_can_not_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="DREAMER_HOME"):
        PayloadFolder(tmp_path / "file" / "tensors").create(1)
