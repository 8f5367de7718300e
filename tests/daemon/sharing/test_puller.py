"""Whole pulls: manifest, blocks, directory, receipt; shared, cancelled and taken up again."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.daemon.ports import Progress, PullReceipt
from dreamer.daemon.sharing import described
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.shared_pull import PullerParts
from dreamer.protocol.errors import LocalError, RemoteError
from dreamer.protocol.link.messages import GetObject, ObjectPiece
from dreamer.protocol.swarm import bitfield


class Origins:
    def __init__(self, origin=None) -> None:
        self.origin = origin

    def of(self, card):
        return self.origin

    def of_model(self, card, model):
        return self.origin


@pytest.fixture
def quick(monkeypatch) -> None:
    """Nobody waits for members that are not there."""
    monkeypatch.setattr(described, "DISCOVERY_MAX_S", 0.0)
    monkeypatch.setattr(described, "OBJECT_RETRY_S", 0.01)


@pytest.fixture
def puller_of(kit):
    def make(node, origin=None) -> Puller:
        context = node.context(origin)
        return Puller(
            PullerParts(
                node.store,
                node.state,
                node.library,
                Origins(origin),
                lambda *_: context,
                node.tasks,
            )
        )

    return make


@pytest.fixture
def pull(two, kit, puller_of):
    """Pull the taker's model; return all that the pull said."""
    puller = puller_of(two.taker)

    async def run(holders=None, by=puller, output=None):
        holders = [two.giver] if holders is None else holders
        session = kit.session_of(two.taker, holders)
        async with asyncio.timeout(20):
            return [e async for e in by.pull(session, kit.model_of(two.manifest), output)]

    return run


async def test_a_pull_ends_with_a_directory_and_a_receipt(two, pull, sharing_contents) -> None:
    *progress, receipt = await pull()
    assert isinstance(receipt, PullReceipt)
    assert all(isinstance(one, Progress) for one in progress)
    assert receipt.bytes["webrtc"] == receipt.size_bytes == two.manifest.size_bytes
    assert receipt.peers == {two.giver.id.hex(): two.manifest.size_bytes}
    assert (receipt.resumed, receipt.blamed) == (0, ())
    place = two.taker.store.root / receipt.path
    assert {name: (place / name).read_bytes() for name in sharing_contents} == sharing_contents


async def test_a_second_pull_moves_no_byte_and_needs_nobody(two, pull) -> None:
    await pull()
    two.giver_end.cut("gone")
    *_, receipt = await pull(holders=[])
    moved = {lane: size for lane, size in receipt.bytes.items() if size}
    assert moved == {"cache": two.manifest.size_bytes}


async def test_a_pulled_model_is_offered_whole_whatever_happened_meanwhile(two, pull, kit) -> None:
    library, share = two.taker.library, two.taker.library.offer
    seen = []

    def offer_and_once_withdraw(*what):
        share(*what)
        seen.append(what)
        if len(seen) == 4:
            library.withdraw_everywhere(two.manifest.id)

    library.offer = offer_and_once_withdraw
    await pull()
    assert library.holds(kit.room, two.manifest.id)


async def test_a_model_that_lost_a_file_is_not_offered_while_it_is_pulled_again(
    two, pull, kit
) -> None:
    await pull()
    for file in two.taker.store.root.joinpath(".dreamer", "files").iterdir():
        file.unlink()
    assert two.taker.library.holds(kit.room, two.manifest.id), "nobody has noticed yet"
    two.giver.stuck = True
    running = asyncio.ensure_future(pull())
    await kit.until(lambda: two.taker_end.expected)
    offered = two.taker.library.find(kit.room, two.manifest.id)
    assert not offered.whole
    assert offered.blocks.bit_count() < two.manifest.block_count
    two.giver.stuck = False
    two.giver_end.send_next()
    *_, receipt = await running
    assert receipt.bytes["webrtc"] > 0
    assert two.taker.library.holds(kit.room, two.manifest.id)


async def test_two_that_want_the_same_model_share_one_pull(two, pull) -> None:
    first, second = await asyncio.gather(pull(), pull())
    assert first[-1].bytes == second[-1].bytes
    assert two.giver.sent_blocks == two.manifest.block_count


async def test_a_pull_goes_on_while_anybody_waits_for_it(two, pull, kit) -> None:
    two.giver.stuck = True
    first, second = asyncio.ensure_future(pull()), asyncio.ensure_future(pull())
    await kit.until(lambda: two.taker_end.expected)
    first.cancel()
    await asyncio.wait([first])
    two.giver.stuck = False
    two.giver_end.send_next()
    assert (await second)[-1].bytes["webrtc"] == two.manifest.size_bytes


async def test_a_cancelled_pull_is_taken_up_at_once_by_the_next(two, pull, kit) -> None:
    given = []

    def five_blocks(data):
        given.append(data)
        two.giver.stuck = len(given) == 5
        return data

    two.giver.tamper = five_blocks
    first = asyncio.ensure_future(pull())
    await kit.until(lambda: len(given) == 5 and len(two.taker_end.expected) == 4)
    first.cancel()
    await asyncio.wait([first])
    assert not two.taker.library.holds(kit.room, two.manifest.id)
    two.giver.stuck = False
    *_, receipt = await pull()
    assert receipt.resumed > 0
    here = receipt.resumed + receipt.bytes["cache"]
    assert here + receipt.bytes["webrtc"] == two.manifest.size_bytes
    assert two.giver.sent_blocks == two.manifest.block_count


async def test_a_model_that_nobody_online_has_says_what_to_do(two, pull, quick) -> None:
    with pytest.raises(RemoteError, match="start a node that has it and pull again"):
        await pull(holders=[])


async def test_without_members_manifest_and_blocks_come_from_the_origin(
    two, pull, puller_of, kit, quick
) -> None:
    two.giver_end.cut("gone")
    origin = kit.memory_origin(two.giver.store)
    *_, receipt = await pull([], puller_of(two.taker, origin))
    assert receipt.bytes["origin"] == two.manifest.size_bytes


async def test_a_member_that_sends_another_manifest_is_punished(two, pull, kit, quick) -> None:
    def lie(link, message):
        if isinstance(message, GetObject):
            link.send(ObjectPiece(message.request, 2, 0, b"{}"))

    two.giver.fanout.remove(two.giver.serving)
    two.giver.heard.message = lie
    with pytest.raises(RemoteError):
        await pull()
    assert two.taker.punished == [two.giver.id]
    assert two.taker.store.get_object(two.manifest.id) is None


async def test_a_full_disk_is_said_and_nothing_is_left_open(two, pull, monkeypatch) -> None:
    def full(*_):
        raise LocalError("the disk is full: free some space")

    with monkeypatch.context() as patched:
        patched.setattr(two.taker.store, "open_download", full)
        with pytest.raises(LocalError, match="free some space"):
            await pull()
    *_, receipt = await pull()
    assert receipt.bytes["webrtc"] == two.manifest.size_bytes


async def test_a_failed_pull_is_offered_no_more(two, pull, kit, monkeypatch) -> None:
    def broken(*_):
        raise LocalError("the disk failed")

    monkeypatch.setattr("dreamer.daemon.store.download.Download.finish_file", broken)
    with pytest.raises(LocalError):
        await pull()
    assert two.taker.library.find(kit.room, two.manifest.id) is None


async def test_progress_counts_up_to_the_whole(two, pull) -> None:
    *progress, receipt = await pull()
    assert progress[-1] == Progress("finish", receipt.size_bytes, receipt.size_bytes)
    assert all(0 <= one.done <= one.total == receipt.size_bytes for one in progress)


async def test_a_transfer_is_recorded_by_lane(two, pull) -> None:
    await pull()
    held = two.taker.state.model(two.manifest.id)
    assert held is not None
    assert held.name == "tiny"
    assert (
        bitfield.full(two.manifest.block_count)
        == two.taker.library.find(held.room_id, two.manifest.id).blocks
    )


async def test_one_model_pulled_in_two_rooms_at_once_is_fetched_once(two, kit, puller_of) -> None:
    puller = puller_of(two.taker)
    model = kit.model_of(two.manifest)

    async def one(room: bytes) -> PullReceipt:
        session = kit.session_of(two.taker, [two.giver])
        session.room_id = room
        async with asyncio.timeout(20):
            return [event async for event in puller.pull(session, model, None)][-1]

    receipts = await asyncio.gather(one(kit.room), one(b"2" * 32))
    assert sorted(receipt.bytes["webrtc"] for receipt in receipts) == [0, two.manifest.size_bytes]
