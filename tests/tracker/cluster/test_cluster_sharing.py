"""Two trackers, one Redis: what a client of one sees of the clients of the other."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import aiohttp
import pytest

from dreamer.tracker.cluster.join import join
from dreamer.tracker.room.documents import Documents

pytestmark = pytest.mark.e2e

A_HASH, B_HASH = "a" * 20, "\xff" * 20
ONE, TWO, THREE = "1" * 20, "\xfe2" * 10, "3" * 20
SDP = {"type": "offer", "sdp": "v=0"}


def offers(*names: str) -> list[dict]:
    return [{"offer": SDP, "offer_id": name} for name in names]


def answer(of: str, to: str, offer_id: str) -> dict:
    return {
        "action": "announce", "info_hash": A_HASH, "peer_id": of, "to_peer_id": to,
        "offer_id": offer_id, "answer": {"type": "answer", "sdp": "v=0 ✓"},
    }  # fmt: skip


@pytest.fixture
async def pair(redis, serving, tmp_path):
    """Two trackers in this process, as alike to two as it takes."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        running = []
        for seed in (1, 2):
            documents = Documents(tmp_path / str(seed))
            stack.callback(documents.close)
            elsewhere = join(redis.url, random.Random(seed))
            serves = serving(documents, http, elsewhere=elsewhere)
            running.append(await stack.enter_async_context(serves))
            assert elsewhere.joined
        yield running


async def test_offer_and_answer_go_from_one_tracker_to_the_other_and_back(pair):
    first, second = await pair[0].open(), await pair[1].open()
    assert (await first.announce(ONE, left=0))["complete"] == 1
    reply = await second.announce(TWO, left=9, offers=offers("o1", "o2"))
    assert (reply["complete"], reply["incomplete"]) == (1, 1)
    assert await first.hear() == {
        "action": "announce", "info_hash": A_HASH, "peer_id": TWO, "offer_id": "o1", "offer": SDP,
    }  # fmt: skip
    await first.say(**answer(ONE, TWO, "o1"))
    heard = await second.hear()
    assert (heard["peer_id"], heard["offer_id"]) == (ONE, "o1")
    assert heard["answer"]["sdp"] == "v=0 ✓"
    # It was answered once; a second answer is to nothing, as on one tracker alone.
    await first.say(**answer(ONE, TWO, "o1"))
    assert "no such offer" in (await first.hear())["failure reason"]


async def hear_both(talker) -> tuple[int, bool]:
    """How many peers the reply speaks of, and whether an offer comes: in either order."""
    first = await talker.hear()
    if "offer" in first:
        return (await talker.hear())["incomplete"], True
    return first["incomplete"], False


async def test_of_two_that_come_to_two_trackers_at_once_one_sees_the_other(pair):
    one, two = [await tracker.open() for tracker in pair]
    for turn in range(30):
        swarm = {"info_hash": f"{turn:020}", "left": 1, "action": "announce"}
        await one.say(**swarm, peer_id=ONE, offers=offers("a"))
        await two.say(**swarm, peer_id=TWO, offers=offers("b"))
        (seen_by_one, offered_to_one), (seen_by_two, offered_to_two) = await asyncio.gather(
            hear_both(one), hear_both(two)
        )
        assert max(seen_by_one, seen_by_two) == 2
        if seen_by_one == 2 and not offered_to_two:
            assert "offer" in await two.hear()
        if seen_by_two == 2 and not offered_to_one:
            assert "offer" in await one.hear()


async def test_seeder_is_introduced_to_leechers_elsewhere_and_never_to_itself(pair):
    here, there = await pair[0].open(), await pair[1].open()
    await there.announce(ONE, left=0)
    await there.announce(TWO, left=5)
    await here.announce(THREE, left=0, offers=offers("o1", "o2", "o3"))
    heard = await there.hear()
    assert (heard["peer_id"], heard["offer_id"]) == (THREE, "o1")
    # The other two offers went nowhere: the next word is the reply to this.
    assert "incomplete" in await there.announce(TWO, left=5)


async def test_scrape_and_downloads_are_of_all_trackers(pair):
    here, there = await pair[0].open(), await pair[1].open()
    await here.announce(ONE, left=5)
    await here.announce(ONE, event="completed")
    await there.announce(TWO, left=5)
    await there.announce(TWO, event="completed")
    await there.announce(THREE, left=5)
    await here.say(action="scrape", info_hash=[A_HASH, B_HASH])
    assert (await here.hear())["files"] == {
        A_HASH: {"complete": 2, "incomplete": 1, "downloaded": 2},
        B_HASH: {"complete": 0, "incomplete": 0, "downloaded": 0},
    }


async def test_peer_that_leaves_one_tracker_is_gone_on_the_other(pair):
    here, there = await pair[0].open(), await pair[1].open()
    await there.announce(ONE, left=5)
    assert (await here.announce(TWO, left=5))["incomplete"] == 2
    await there.announce(ONE, event="stopped")
    async with asyncio.timeout(60):
        while (await here.announce(TWO, left=5))["incomplete"] != 1:
            pass


async def test_answer_of_a_peer_under_a_stolen_id_reaches_nobody(pair):
    """An id is bound to its socket on one tracker only; but answers go where offers came from."""
    real, thief = await pair[0].open(), await pair[1].open()
    target = await pair[1].open()
    await target.announce(TWO, left=5)
    await thief.announce(ONE, left=5)
    await real.announce(ONE, left=5, offers=offers("o1"))
    # The one offer went to the target or to the thief, who has the same id and so gets none.
    assert (await target.hear())["peer_id"] == ONE
    await target.say(**answer(TWO, ONE, "o1"))
    assert (await real.hear())["answer"]
    assert "answer" not in await thief.announce(ONE, left=5)


async def test_hostile_letters_and_spoilt_counts_break_nothing(pair, redis):
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url) as client:
        channels = await client.pubsub_channels("dreamer:to:*")
        assert len(channels) == 2
        for channel in channels:
            for junk in (b"", b"\xc1", b"\x91" * 100_000, b"x" * 300_000, b'["offers"]'):
                assert await client.publish(channel, junk) == 1
        await client.zadd("dreamer:processes", {b"\xff\xfe": 9e15, "f" * 1000: 9e15})
        await client.set("dreamer:swarm:" + ("a" * 20).encode().hex(), "not a hash")
        spoilt = "dreamer:swarm:" + ("b" * 20).encode().hex()
        process = channels[0].decode().removeprefix("dreamer:to:")
        for field in ("9" * 5000 + ",1,1", "-1,2,3", "1,2", "", "\u0661,1,1", b"\xff"):
            await client.hset(spoilt, process, field)
            here, there = await pair[0].open(), await pair[1].open()
            for who in (here, there):
                assert (await who.announce(ONE, "b" * 20, left=5))["incomplete"] >= 1
                assert (await who.announce(ONE, A_HASH, left=5))["incomplete"] == 1
                await who.close()
        assert await client.pubsub_channels("dreamer:to:*") == channels


async def test_everything_in_redis_has_the_prefix_and_an_end(pair, redis):
    from redis.asyncio import Redis

    here = await pair[0].open()
    await here.announce(ONE, left=5)
    await here.announce(ONE, B_HASH, event="completed")
    async with Redis.from_url(redis.url) as client:
        keys = await client.keys("*")
        assert len(keys) == 3
        for key in keys:
            assert key.startswith(b"dreamer:")
            assert 0 < await client.ttl(key) <= 3600


async def test_downloads_outlive_the_process_that_counted_them(redis, tmp_path):
    """Its field goes once it is forgotten, or a busy swarm's hash would only ever grow."""
    from redis.asyncio import Redis

    from dreamer.protocol.ids import InfoHash
    from dreamer.tracker.cluster.redis_bus import RedisBus
    from dreamer.tracker.public.elsewhere import ProcessId
    from dreamer.tracker.public.wire import Counts

    swarm, names = InfoHash(b"h" * 20), [ProcessId(each * 16) for each in "123"]
    key = "dreamer:swarm:" + swarm.hex()
    buses = [RedisBus(redis.url) for _ in names]
    try:
        for number, (bus, name) in enumerate(zip(buses, names, strict=True)):
            await bus.open(name)
            await bus.trade({swarm: Counts(1, 2, 10 + number)}, [])
        for bus in buses[:2]:
            await bus.leave()
        told = (await buses[2].trade({}, [swarm])).swarms[swarm]
        again = (await buses[2].trade({}, [swarm])).swarms[swarm]
        assert told == {names[2]: Counts(1, 2, 12)}
        assert again == {names[2]: Counts(1, 2, 12), "gone": Counts(0, 0, 21)}
        async with Redis.from_url(redis.url) as client:
            assert await client.hlen(key) == 2
    finally:
        for bus in buses:
            await bus.close()
