"""Pulls between real stores: what arrives is right, whoever misbehaves."""

from __future__ import annotations

import asyncio
import random

import pytest

from dreamer.daemon.origin.faults import OriginMissingError
from dreamer.daemon.store.download import Download
from dreamer.protocol.errors import LocalError, RemoteError, StoppedError
from dreamer.protocol.limits import MIB
from dreamer.protocol.link.messages import CancelWant, Gained, Have, Refuse, Unfollow, Want
from dreamer.protocol.swarm import bitfield, crowd
from dreamer.protocol.swarm.vocabulary import BlocksFound


async def test_a_pull_brings_every_file_and_offers_it(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    await pulling.run()
    assert pulling.whole
    assert two.taker.library.holds(kit.room, two.manifest.id)
    moved = pulling.job.moved()
    assert moved.by_lane["webrtc"] == two.manifest.size_bytes
    assert moved.by_lane["origin"] == 0
    assert moved.by_peer == {two.giver.id.hex(): two.manifest.size_bytes}
    assert moved.seconds["webrtc"] > 0
    assert pulling.job.progress("fetch").done == two.manifest.size_bytes
    await kit.until(lambda: any(isinstance(m, Unfollow) for m in two.giver.heard.messages))


async def test_a_pull_uses_several_members_at_once(two, world, kit) -> None:
    second = world.node()
    second.offer(second.ingest(world.root / "source"))
    world.join(second, two.taker)
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    await pulling.run()
    assert pulling.whole
    assert len(pulling.job.moved().by_peer) == 2


async def test_a_partial_download_is_shared_while_it_runs(two, world, kit) -> None:
    third = world.node()
    first_pull = kit.pulling(two.taker, two.manifest, two.giver)
    # The giver stops after some blocks, so that the taker stays half-way.
    given = []

    def three_blocks(data):
        given.append(data)
        two.giver.stuck = len(given) == 4
        return data

    two.giver.tamper = three_blocks
    running = asyncio.ensure_future(first_pull.run())
    await kit.until(lambda: first_pull.job._core.present.bit_count() == 4)
    world.join(two.taker, third)
    second_pull = kit.pulling(third, two.manifest, two.giver)
    follower = asyncio.ensure_future(second_pull.run())
    await kit.until(lambda: second_pull.job._core.present.bit_count() == 4)
    assert second_pull.job.moved().by_peer.keys() == {two.taker.id.hex()}
    two.giver.stuck = False
    two.giver_end.send_next()
    await asyncio.gather(running, follower)
    assert first_pull.whole
    assert second_pull.whole


async def test_a_liar_is_blamed_and_the_rest_comes_from_elsewhere(two, world, kit) -> None:
    liar = world.node()
    liar.offer(liar.ingest(world.root / "source"))
    liar.tamper = lambda data: bytes(len(data))
    world.join(liar, two.taker)
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    await pulling.run()
    assert pulling.whole
    assert two.taker.punished == [liar.id]
    assert pulling.job.moved().blamed == [liar.id.hex()]
    assert two.taker.links.link(liar.id) is None
    assert pulling.job.moved().by_peer == {two.giver.id.hex(): two.manifest.size_bytes}


async def test_a_bad_copy_of_a_block_that_is_here_already_is_blamed_too(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    two.giver.stuck = True
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: two.taker_end.expected)
    request, block = next(iter(two.taker_end.expected))
    pulling.job._core.present |= 1 << block
    pulling.job.block_done(two.taker_end.link, request, block, "rejected")
    assert two.taker.punished == [two.giver.id]
    await _cancelled(running)


async def test_a_member_with_a_damaged_file_loses_nothing_but_its_part(two, world, kit) -> None:
    second = world.node()
    second.offer(second.ingest(world.root / "source"))
    world.join(second, two.taker)
    for file in two.giver.store.root.joinpath(".dreamer", "files").iterdir():
        file.chmod(0o600)
        file.write_bytes(b"cut short")
    pulling = kit.pulling(two.taker, two.manifest, second)
    await pulling.run()
    assert pulling.whole
    assert two.taker.punished == []
    assert pulling.job.moved().by_peer == {second.id.hex(): two.manifest.size_bytes}


async def test_a_pull_resumes_with_what_is_on_disk(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    for block in range(4):
        place = two.giver.store.locate(two.manifest, block)
        with place.path.open("rb") as file:
            file.seek(place.offset)
            pulling.download.write(block, file.read(place.length))
    pulling.download.close()
    again = kit.pulling(two.taker, two.manifest, two.giver)
    await again.run()
    resumed = again.download.resumed_bytes
    assert resumed > 0
    assert again.job.moved().by_lane["webrtc"] == two.manifest.size_bytes - resumed
    assert again.whole


async def test_a_cancelled_pull_lets_go_and_keeps_what_it_has(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    given = []

    def two_blocks(data):
        given.append(data)
        two.giver.stuck = len(given) == 2
        return data

    two.giver.tamper = two_blocks
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: pulling.job._core.present.bit_count() == 2)
    await _cancelled(running)
    assert two.taker_end.expected == {}
    await kit.until(lambda: any(isinstance(m, CancelWant) for m in two.giver.heard.messages))
    await kit.until(lambda: not two.giver_end.queue)
    two.giver.stuck = False
    again = kit.pulling(two.taker, two.manifest, two.giver)
    assert again.download.present.bit_count() == 2
    await again.run()
    assert again.whole


async def test_member_hears_that_all_of_a_request_is_called_off(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    two.giver.stuck = True
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: two.taker_end.expected)
    expected = list(two.taker_end.expected)
    request = expected[0][0]
    blocks = [block for asked, block in expected if asked == request]
    assert len(blocks) > 1
    # The planner then says of each block by itself that it is not to come.
    pulling.job.feed(BlocksFound(sum(1 << block for block in blocks)))
    assert not any(asked == request for asked, _ in two.taker_end.expected)
    await kit.until(lambda: any(isinstance(m, CancelWant) for m in two.giver.heard.messages))
    await kit.until(lambda: not any(asked == request for asked, _ in two.giver_end.queue))
    await _cancelled(running)


async def _cancelled(running) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_files_with_the_same_bytes_are_fetched_once(world, kit) -> None:
    giver, taker = world.node(), world.node()
    same = random.Random(5).randbytes(3 * MIB + 1)
    contents = {"a": same, "b": same, "c": b"", "d": b"", "e": same[:MIB]}
    manifest = giver.ingest(world.files(contents))
    giver.offer(manifest)
    world.join(giver, taker)
    pulling = kit.pulling(taker, manifest, giver)
    await pulling.run()
    assert pulling.whole
    assert taker.library.holds(kit.room, manifest.id)
    asked = [message for message in giver.heard.messages if isinstance(message, Want)]
    assert sum(want.count for want in asked) <= manifest.block_count
    path = taker.store.lay_out(manifest.id, manifest, "m", None)
    assert {name: (path / name).read_bytes() for name in contents} == contents


async def test_a_model_of_empty_files_needs_nobody(world, kit) -> None:
    giver, taker = world.node(), world.node()
    manifest = giver.ingest(world.files({"a": b"", "b": b""}))
    pulling = kit.pulling(taker, manifest, giver)
    await pulling.run()
    assert pulling.whole


async def test_a_disk_that_fails_ends_the_pull_and_keeps_what_is_there(two, kit) -> None:
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    arrived = []

    def full_after_three(request, block, data):
        arrived.append(block)
        if len(arrived) < 4:
            return arrive(request, block, data)
        two.taker_end.expected.pop((request, block), None)
        return two.taker.fanout.block_done(
            two.taker_end.link, request, block, "can't write to weights.bin: the disk is full"
        )

    arrive, two.taker_end.arrive = two.taker_end.arrive, full_after_three
    with pytest.raises(LocalError, match=r"disk is full: make room and run the pull again"):
        await pulling.run()
    assert two.taker.punished == [], "it is not the peer's fault"
    again = kit.pulling(two.taker, two.manifest, two.giver)
    assert again.download.present.bit_count() == 3
    again.download.close()


async def test_a_file_that_is_wrong_as_a_whole_ends_the_pull(two, kit, monkeypatch) -> None:
    def broken(self, file_index, stop=None):
        raise LocalError("is not whole on disk: pull again to fetch what is missing")

    monkeypatch.setattr(Download, "finish_file", broken)
    with pytest.raises(LocalError, match="pull again"):
        await kit.pulling(two.taker, two.manifest, two.giver).run()


async def test_the_origin_gives_what_no_member_has(two, kit, monkeypatch) -> None:
    # The member offers a part and fetches nothing more: its share is waited for no longer.
    monkeypatch.setattr(crowd, "CROWD_PATIENCE_S", 0.2)
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.offer(two.manifest, 0b1111)
    origin = kit.memory_origin(two.giver.store)
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    await pulling.run()
    assert pulling.whole
    moved = pulling.job.moved()
    assert moved.by_lane["origin"] == origin.bytes
    layout = two.manifest.layout
    assert moved.by_lane["webrtc"] == sum(layout.block_size(block) for block in range(4))
    assert moved.by_lane["origin"] == two.manifest.size_bytes - moved.by_lane["webrtc"]


async def test_the_origin_gives_nothing_that_a_member_has(two, kit) -> None:
    origin = kit.memory_origin(two.giver.store)
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    await pulling.run()
    assert origin.bytes == 0


async def test_a_damaged_origin_and_nobody_else_gives_up_with_what_to_do(two, kit) -> None:
    two.giver_end.cut("gone")
    origin = kit.memory_origin(two.giver.store)
    origin.tamper = lambda data: bytes(len(data))
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: origin.bytes and not pulling.job._core.busy_lanes())
    assert pulling.job.moved().blamed
    assert set(pulling.job.moved().blamed) == {"origin"}
    pulling.job._give_up("nobody who is online has the missing blocks")
    with pytest.raises(RemoteError, match="what is here is kept"):
        await running
    assert pulling.download.present == 0


async def test_a_file_that_the_origin_lacks_comes_from_a_member_and_the_rest_from_it(
    two, world, kit
) -> None:
    layout = two.manifest.layout
    lost = two.manifest.files[-1]
    last = layout.blocks_of_file(layout.file_count - 1)
    two.giver.library.withdraw_everywhere(two.manifest.id)
    origin = kit.memory_origin(two.giver.store)
    read = origin.read

    def read_but_one(digest, *what):
        if digest == lost.digest:
            raise OriginMissingError("files/LAST: not there")
        return read(digest, *what)

    origin.read = read_but_one
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: pulling.job._core.missing == bitfield.span(last.start, len(last)))
    two.giver.offer(two.manifest, bitfield.span(last.start, len(last)))
    await running
    assert pulling.whole
    assert pulling.job.moved().by_lane["webrtc"] == lost.size_bytes
    assert pulling.job.moved().by_lane["origin"] == two.manifest.size_bytes - lost.size_bytes


async def test_an_origin_request_of_which_nothing_is_wanted_any_more_is_ended(two, kit) -> None:
    two.giver_end.cut("gone")
    origin = kit.memory_origin(two.giver.store)
    stops = []

    def read(digest, offset, length, stop):
        stops.append(stop)
        stop.wait(10)
        raise StoppedError("stopped")
        yield b""

    origin.read = read
    pulling = kit.pulling(two.taker, two.manifest, two.giver, origin)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: stops)
    # All of it but one block is found elsewhere: the request goes on for that one.
    pulling.job.feed(BlocksFound(0b1110))
    assert not stops[0].is_set()
    pulling.job.feed(BlocksFound(0b0001))
    assert stops[0].is_set()
    await _cancelled(running)


# What members may not say


@pytest.mark.parametrize(
    "message",
    [
        lambda model: Have(model, b"\xff"),
        lambda model: Have(model, b"\xff\xff"),
        lambda model: Gained(model, 8, 2),
        lambda model: Gained(model, -1, 1),
        lambda model: Gained(model, 0, 0),
        lambda model: Gained(model, 0, 2**60),
    ],
    ids=["short", "bits too many", "past the end", "before the start", "nothing", "huge"],
)
async def test_blocks_that_the_model_does_not_have_cost_the_link(two, kit, message) -> None:
    two.giver.stuck = True
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: two.taker_end.expected)
    two.giver_end.say(message(two.manifest.id))
    await kit.until(lambda: two.giver_end.far is None)
    await _cancelled(running)


async def test_what_is_said_of_other_models_and_requests_is_ignored(two, kit) -> None:
    two.giver.stuck = True
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: two.taker_end.expected)
    before = dict(two.taker_end.expected)
    said = len(two.taker.heard.messages)
    two.giver_end.say(Have(b"x" * 32, b"\xff" * 99))
    two.giver_end.say(Gained(b"x" * 32, 5, 5))
    two.giver_end.say(Refuse(10**9, False, "what?"))
    pulling.job.block_done(two.taker_end.link, 10**9, 0, "rejected")
    await kit.until(lambda: len(two.taker.heard.messages) == said + 3)
    assert two.taker_end.expected == before
    assert two.taker.punished == []
    await _cancelled(running)


async def test_a_member_that_repeats_what_it_has_is_not_asked_twice(two, kit) -> None:
    two.giver.stuck = True
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    running = asyncio.ensure_future(pulling.run())
    await kit.until(lambda: two.taker_end.expected)
    wants = sum(isinstance(m, Want) for m in two.giver.heard.messages)
    everything = bitfield.encode(bitfield.full(9), 9)
    said = len(two.taker.heard.messages)
    for _ in range(5):
        two.giver_end.say(Have(two.manifest.id, everything))
    await kit.until(lambda: len(two.taker.heard.messages) == said + 5)
    two.giver.stuck = False
    two.giver_end.send_next()
    await running
    assert pulling.whole
    asked = [m for m in two.giver.heard.messages if isinstance(m, Want)]
    assert sum(want.count for want in asked) == two.manifest.block_count
    assert wants == 2
