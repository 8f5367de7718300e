"""Large tensors between two members, over a lane of files: verified, bounded, left nowhere."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.links.link import Link
from dreamer.daemon.offload.payload_files import PayloadFolder
from dreamer.daemon.offload.payloads import Payload, Payloads
from dreamer.daemon.transport.vocabulary import (
    REJECTED,
    VERIFIED,
    Expect,
    SendControl,
    Serve,
    ServeFailed,
    StopExpecting,
    StopServing,
    ToTransport,
)
from dreamer.protocol.errors import BusyError, DiskError, RemoteError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.messages import decode
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOAD_MAX_BYTES

DATA = os.urandom(3 * BLOCK_BYTES + 77)


class End:
    """One of two members: its payloads, its link, and a bulk channel that copies files."""

    def __init__(self, folder: Path, first_number: int, stall_timeout_s: float) -> None:
        self.folder = folder
        self.payloads = Payloads(
            PayloadFolder(folder), itertools.count(first_number, 2), stall_timeout_s
        )
        self.link = Link(1, RoomId(bytes(32)), NodeId(bytes(32)), False, {}, self.pass_on, 0.0)
        self.expected: dict[tuple[int, int], tuple[str, int, int, bytes]] = {}
        self.stopped: set[int] = set()
        self.other: End
        self.corrupt = False
        self.blocks_left = 1000

    def pass_on(self, command: ToTransport) -> None:
        """Carry out a command a little later, as a transport process would."""
        asyncio.get_running_loop().call_soon(self._carry_out, command)

    def _carry_out(self, command: ToTransport) -> None:
        match command:
            case SendControl(_, data):
                self.other.payloads.message(self.other.link, decode(data))
            case Expect(_, request, spans):
                for block, path, offset, length, digest in spans:
                    self.expected[request, block] = (path, offset, length, digest)
            case StopExpecting(_, request, _):
                self.expected = {
                    key: one for key, one in self.expected.items() if key[0] != request
                }
            case StopServing(_, request, _):
                self.stopped.add(request)
            case Serve(_, request, spans):
                for block, path, offset, length in spans:
                    if self.blocks_left > 0 and request not in self.stopped:
                        self.blocks_left -= 1
                        data = self._read(request, path, offset, length)
                        if data is not None:
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


Ends = tuple[End, End]


@pytest.fixture
def make_ends(tmp_path: Path) -> Iterator[Callable[..., Ends]]:
    def make(stall_timeout_s: float = 5.0) -> Ends:
        ends = tuple(End(tmp_path / str(n), n, stall_timeout_s) for n in (1, 2))
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


async def test_rest_is_asked_for_over_the_new_lane(ends: Ends) -> None:
    giver, taker = ends
    payload = await giver.payloads.offer(giver.link, [DATA])
    giver.blocks_left = 2
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    async with asyncio.timeout(5):
        while giver.blocks_left:
            await asyncio.sleep(0)
    giver.blocks_left = 1000
    taker.payloads.lane_changed(taker.link)
    assert bytes(await fetching) == DATA
    # Two came over the first lane, and only the other two were sent again.
    assert giver.blocks_left == 998
    giver.payloads.withdraw(giver.link, payload)


async def test_nothing_is_asked_for_until_a_lane_is_there(ends: Ends) -> None:
    giver, taker = ends
    taker.link.deciding = True
    payload = await giver.payloads.offer(giver.link, [DATA])
    fetching = asyncio.create_task(taker.payloads.fetch(taker.link, payload))
    async with asyncio.timeout(5):
        while not taker.payloads.waits_on(taker.link):
            await asyncio.sleep(0)
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
    async with asyncio.timeout(5):
        while giver.blocks_left:
            await asyncio.sleep(0)
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
