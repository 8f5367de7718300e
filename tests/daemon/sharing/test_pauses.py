"""Pulls that can't go on for a while: what they say, and that they end well by themselves."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from dreamer.daemon.ports import PullReceipt
from dreamer.daemon.sharing import described
from dreamer.daemon.sharing.puller import Puller
from dreamer.daemon.sharing.shared_pull import PullerParts
from dreamer.daemon.store import partial
from dreamer.protocol.errors import DiskError, ForbiddenError, LocalError, RemoteError
from dreamer.protocol.limits import MIB, PULL_PATIENCE_S, PULL_PAUSE_MAX_S
from dreamer.protocol.link.messages import GetObject
from dreamer.protocol.swarm import patience as patiences
from dreamer.protocol.swarm.patience import Patience


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Try again at once, and miss those that left at once."""
    monkeypatch.setattr(patiences, "PULL_PAUSE_MIN_S", 0.01)
    monkeypatch.setattr(patiences, "PULL_PAUSE_MAX_S", 0.02)
    monkeypatch.setattr("dreamer.protocol.swarm.download.PULL_NO_SOURCE_TIMEOUT_S", 0.1)


@pytest.fixture
def quick_seek(monkeypatch):
    """Miss members that hold the manifest as soon as there are none."""
    monkeypatch.setattr(described, "DISCOVERY_MAX_S", 0.0)
    monkeypatch.setattr(described, "OBJECT_RETRY_S", 0.01)


class Followed:
    """A pull, all that it says, and its last word."""

    def __init__(self, two, kit) -> None:
        node = two.taker
        context = node.context(None)
        self.parts = PullerParts(
            *(node.store, node.state, node.library),
            *(_NoOrigins(), lambda *_: context, node.tasks),
        )
        self.puller = Puller(self.parts)
        self.session = kit.session_of(node, [two.giver])
        self.model = kit.model_of(two.manifest)
        self.events = []
        self.until = kit.until

    def begin(self) -> asyncio.Task[PullReceipt]:
        return asyncio.ensure_future(self._run())

    async def _run(self) -> PullReceipt:
        async with asyncio.timeout(20):
            async for event in self.puller.pull(self.session, self.model, None):
                self.events.append(event)
        return self.events[-1]

    @property
    def notes(self) -> list[str]:
        return [one.note for one in self.events if getattr(one, "phase", "") == "paused"]

    async def paused(self, words: str) -> None:
        await self.until(lambda: any(words in note for note in self.notes))


class _NoOrigins:
    def of(self, card):
        return None

    def of_model(self, card, model):
        return None


@pytest.fixture
def followed(two, kit):
    return Followed(two, kit)


@pytest.fixture
def refusing(monkeypatch):
    """A disk that takes no partial file while ``errors`` holds the reason."""
    errors: list[int] = []
    preallocate = partial.preallocate

    def refuse(fd, size_bytes):
        if errors:
            raise OSError(errors[0], os.strerror(errors[0]))
        preallocate(fd, size_bytes)

    monkeypatch.setattr(partial, "preallocate", refuse)
    return errors


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "is full"), (errno.EROFS, "Read-only"), (errno.EACCES, "")]
)
async def test_a_pull_that_finds_its_disk_unusable_waits_and_goes_on(
    two, followed, refusing, number, words
) -> None:
    refusing.append(number)
    pull = followed.begin()
    await followed.paused("goes on by itself")
    assert words in followed.notes[0]
    (shown,) = followed.puller.under_way()
    assert (shown.name, shown.room, shown.progress.phase) == ("tiny", "room", "paused")
    refusing.clear()
    receipt = await pull
    assert receipt.bytes["webrtc"] == two.manifest.size_bytes
    assert followed.puller.under_way() == []


async def test_a_disk_that_fails_half_way_pauses_and_no_byte_is_counted_twice(
    two, followed, refusing, kit
) -> None:
    arrived = []

    def full_after_three(request, block, data):
        arrived.append(block)
        if len(arrived) != 4:
            return arrive(request, block, data)
        refusing.append(errno.ENOSPC)
        two.taker_end.expected.pop((request, block), None)
        return two.taker.fanout.block_done(
            two.taker_end.link, request, block, "can't write to weights.bin: the disk is full"
        )

    arrive, two.taker_end.arrive = two.taker_end.arrive, full_after_three
    pull = followed.begin()
    await followed.paused("the disk")
    assert two.taker_end.expected == {}, "nothing is asked for meanwhile"
    assert two.taker.library.find(kit.room, two.manifest.id) is None, "nor offered"
    refusing.clear()
    receipt = await pull
    # What came in just when the disk failed was kept, if not counted as fetched.
    assert receipt.bytes["webrtc"] + receipt.resumed == two.manifest.size_bytes
    assert receipt.resumed <= 4 * MIB
    assert receipt.bytes["cache"] == 0
    assert two.taker.store.complete(two.manifest)


async def test_a_partial_file_cut_short_meanwhile_is_mended(two, followed, all_but_last) -> None:
    pull = followed.begin()
    os.truncate(await all_but_last.came(), MIB + 5)
    all_but_last.go()
    receipt = await pull
    assert receipt.bytes["webrtc"] > two.manifest.size_bytes
    assert two.taker.store.complete(two.manifest)


async def test_what_a_partial_file_has_lost_is_not_served(
    two, followed, kit, caplog, all_but_last
) -> None:
    pull = followed.begin()
    weights = await all_but_last.came()
    size = weights.stat().st_size
    blocks = range(two.manifest.block_count - 1)
    held = [one for one in blocks if _lies_in(two.taker.store.locate(two.manifest, one), weights)]
    # Longer again, as if a later block had been written: its size alone tells nothing.
    os.truncate(weights, MIB + 5)
    os.truncate(weights, size)
    assert two.taker.store.locate(two.manifest, held[0]) is not None
    assert two.taker.store.locate(two.manifest, held[-1]) is None
    await kit.until(lambda: "has lost what was written to it" in caplog.text)
    all_but_last.go()
    await pull
    assert two.taker.store.complete(two.manifest)


class AllButLast:
    """A giver that keeps the last block of the last file back until it may ``go``."""

    def __init__(self, two, until) -> None:
        self.two, self.until = two, until
        self.held_back = two.manifest.block_count - 1
        self._send_next = two.giver_end.send_next
        two.giver_end.send_next = self.send_next

    def send_next(self) -> None:
        queue = self.two.giver_end.queue
        for _ in queue:
            if queue[0][1][0] != self.held_back:
                self._send_next()
                return
            queue.rotate(-1)

    async def came(self):
        """Wait until the rest is there; return the one partial file that is left."""
        taker, everything = self.two.taker, self.two.manifest.block_count
        await self.until(
            lambda: (
                self.two.giver.sent_blocks == everything - 1
                and len(self.two.taker_end.expected) == 1
                and len(_partial(taker)) == 1
            )
        )
        return _partial(taker)[0]

    def go(self) -> None:
        del self.two.giver_end.send_next
        self.two.giver_end.send_next()


@pytest.fixture
def all_but_last(two, kit):
    return AllButLast(two, kit.until)


def _partial(node) -> list:
    return [path for path in node.store.root.glob(".dreamer/partial/*/*") if path.is_file()]


def _lies_in(place, path) -> bool:
    return place is not None and place.path == path


async def test_a_pull_whose_only_helper_leaves_waits_until_it_is_back(
    two, world, followed, kit
) -> None:
    two.giver.stuck = True
    pull = followed.begin()
    await kit.until(lambda: two.taker_end.expected)
    two.giver_end.cut("gone")
    await followed.paused("goes on by itself")
    assert two.taker.library.find(kit.room, two.manifest.id) is not None, "what is here is offered"
    two.giver.stuck = False
    world.join(two.giver, two.taker)
    receipt = await pull
    assert receipt.bytes["webrtc"] == two.manifest.size_bytes
    assert receipt.peers == {two.giver.id.hex(): two.manifest.size_bytes}


async def test_a_pull_that_nobody_can_help_fails(two, followed) -> None:
    for digest in (two.manifest.id, two.manifest.outboard):
        two.taker.store.put_object(digest, two.giver.store.get_object(digest))
    two.giver_end.cut("gone")
    with pytest.raises(RemoteError, match="start a node that has the model"):
        await followed.begin()
    assert followed.notes == []


async def test_a_network_that_is_away_is_waited_for(two, world, followed) -> None:
    for digest in (two.manifest.id, two.manifest.outboard):
        two.taker.store.put_object(digest, two.giver.store.get_object(digest))
    two.giver_end.cut("gone")

    async def away():
        raise RemoteError("no tracker answers")

    followed.session.wait_connected = away
    pull = followed.begin()
    await followed.paused("no tracker answers")
    world.join(two.giver, two.taker)
    assert (await pull).bytes["webrtc"] == two.manifest.size_bytes


async def test_a_network_that_is_away_before_the_manifest_is_here_is_waited_for(
    two, world, followed, quick_seek
) -> None:
    two.giver_end.cut("gone")

    async def away():
        raise RemoteError("no tracker answers")

    followed.session.wait_connected = away
    pull = followed.begin()
    await followed.paused("no tracker answers")
    world.join(two.giver, two.taker)
    assert (await pull).bytes["webrtc"] == two.manifest.size_bytes


async def test_a_member_that_leaves_before_it_has_sent_the_manifest_is_waited_for(
    two, world, followed, kit, quick_seek
) -> None:
    two.giver.fanout.remove(two.giver.serving)
    pull = followed.begin()
    await kit.until(lambda: any(isinstance(m, GetObject) for m in two.giver.heard.messages))
    two.giver_end.cut("gone")
    await followed.paused("nobody who is online has tiny")
    two.giver.fanout.add(two.giver.serving)
    world.join(two.giver, two.taker)
    assert (await pull).bytes["webrtc"] == two.manifest.size_bytes


async def test_members_that_have_a_model_and_can_not_be_linked_are_not_said_to_lack_it(
    two, followed, quick_seek
) -> None:
    two.giver_end.cut("gone")
    with pytest.raises(RemoteError, match=r"can be reached from here.*: see docs/networks\.md"):
        await followed.begin()


async def test_a_member_that_is_linked_when_a_job_ends_is_still_asked(
    two, world, followed, kit
) -> None:
    for digest in (two.manifest.id, two.manifest.outboard):
        two.taker.store.put_object(digest, two.giver.store.get_object(digest))
    two.giver_end.cut("gone")

    async def away():
        # While the pull finds out that there is no tracker, the network comes back.
        if not two.taker.links.links:
            world.join(two.giver, two.taker)
        raise RemoteError("no tracker answers")

    followed.session.wait_connected = away
    assert (await followed.begin()).bytes["webrtc"] == two.manifest.size_bytes


@pytest.mark.parametrize("end", ["removed", "left"])
async def test_whoever_is_no_member_any_more_waits_for_nobody(two, followed, kit, end) -> None:
    two.giver.stuck = True
    pull = followed.begin()
    await kit.until(lambda: two.taker_end.expected)

    async def refused():
        raise ForbiddenError("this membership was revoked: ask an admin")

    if end == "removed":
        followed.session.wait_connected = refused
    else:
        two.taker.links.closed = True
    two.giver_end.cut("gone")
    with pytest.raises(ForbiddenError if end == "removed" else RemoteError):
        await pull


async def test_a_paused_pull_can_be_stopped(two, followed, refusing, kit) -> None:
    refusing.append(errno.ENOSPC)
    pull = followed.begin()
    await followed.paused("is full")
    pull.cancel()
    await asyncio.wait([pull])
    await kit.until(lambda: followed.puller.under_way() == [])
    refusing.clear()
    assert (await followed.begin()).bytes["webrtc"] == two.manifest.size_bytes


async def test_a_directory_that_can_not_be_made_is_waited_for(two, followed, monkeypatch) -> None:
    lay_out, refusals = two.taker.store.lay_out, [DiskError("the disk of /there is full", "x")] * 2

    def full_twice(*what):
        if refusals:
            raise refusals.pop()
        return lay_out(*what)

    monkeypatch.setattr(two.taker.store, "lay_out", full_twice)
    receipt = await followed.begin()
    assert any("/there is full" in note for note in followed.notes)
    assert receipt.size_bytes == two.manifest.size_bytes


async def test_a_disk_that_is_too_small_as_a_whole_is_not_waited_for(
    two, followed, monkeypatch
) -> None:
    monkeypatch.setattr("dreamer.daemon.store.space.free_bytes", lambda place: 0)
    monkeypatch.setattr("dreamer.daemon.store.space.total_bytes", lambda place: MIB)
    with pytest.raises(LocalError, match="the whole disk is too small"):
        await followed.begin()
    assert followed.notes == []


def test_patience_ends_a_day_after_the_last_progress() -> None:
    patience = Patience(0.0)
    assert patience.lasts(0, 5.0)
    assert patience.lasts(MIB, 100.0)
    assert patience.lasts(0, 99.0 + PULL_PATIENCE_S), "it was more once"
    assert not patience.lasts(MIB, 100.0 + PULL_PATIENCE_S)
    assert patience.lasts(2 * MIB, 100.0 + PULL_PATIENCE_S)


def test_pauses_grow_until_there_is_progress(monkeypatch) -> None:
    monkeypatch.undo()
    patience = Patience(0.0)
    patience.lasts(0, 0.0)
    pauses = [patience.next_pause() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 2.0 < pauses[-1] == PULL_PAUSE_MAX_S
    patience.lasts(1, 1.0)
    assert patience.next_pause() == pauses[0]
