"""One process' part in a cluster, against a bus in memory."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import CLUSTER_CACHE_S, CLUSTER_MAX_WAITING
from dreamer.tracker.cluster.exchange import Exchange
from dreamer.tracker.cluster.letters import envelope
from dreamer.tracker.public.wire import Answer, Counts, Offer, PeerId

HASH, OTHER = InfoHash(b"h" * 20), InfoHash(b"o" * 20)
SENDER, TARGET = PeerId(b"s" * 20), PeerId(b"t" * 20)
SDP = Raw(b'{"sdp":"v=0"}')
DEADLINE_S = 10.0


class Side:
    """One process: its own counts, what it was sent, and its exchange."""

    def __init__(self, post, seed: int) -> None:
        self.now = 0.0
        self.own: dict[InfoHash, Counts] = {}
        self.got: asyncio.Queue = asyncio.Queue()
        self.exchange = Exchange(post.bus(), random.Random(seed), lambda: self.now)

    def counts(self, info_hash):
        return self.own.get(info_hash, Counts(0, 0, 0))

    def info_hashes(self):
        return tuple(self.own)

    def take_offers(self, origin, bundle):
        self.got.put_nowait((origin, bundle))

    def take_answer(self, answer):
        self.got.put_nowait(answer)

    def have(self, complete: int, incomplete: int, downloaded: int = 0) -> None:
        self.own[HASH] = Counts(complete, incomplete, downloaded)
        self.exchange.changed(HASH)

    async def known(self) -> Counts:
        """Ask as an announce does, and return the counts of its reply."""
        done = asyncio.Event()
        self.exchange.when_known((HASH,), done.set)
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
        return self.exchange.total(HASH, self.counts(HASH))


@pytest.fixture
async def sides(post):
    async with running(Side(post, 1)) as one, running(Side(post, 2)) as two:
        yield one, two


@asynccontextmanager
async def running(side: Side):
    task = asyncio.create_task(side.exchange.run(side))
    try:
        await side.exchange.started()
        yield side
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_change_is_told_before_the_others_are_asked(sides, post):
    one, two = sides
    one.have(1, 0, 4)
    two.have(0, 2)
    assert await one.known() == Counts(1, 0, 4)
    assert await two.known() == Counts(1, 2, 4)
    assert two.exchange.processes() == (one.exchange.me,)


async def test_reply_goes_by_the_cache_until_it_is_old(sides, post):
    one, two = sides
    await one.known()
    asked = [ask for _, ask in post.trades if ask]
    called = []
    one.exchange.when_known((HASH,), lambda: called.append("at once"))
    assert called == ["at once"]
    two.have(0, 1)
    await two.known()
    one.now += CLUSTER_CACHE_S + 0.1
    assert await one.known() == Counts(0, 1, 0)
    assert len([ask for _, ask in post.trades if ask]) == len(asked) + 2


async def test_all_who_ask_while_a_question_is_under_way_share_the_next(sides, post):
    one, _ = sides
    post.held = asyncio.Event()
    waiting = [asyncio.create_task(one.known()) for _ in range(50)]
    while not len(one.exchange._questions) and not post.trades:
        await asyncio.sleep(0)
    before = len([ask for _, ask in post.trades if ask])
    post.held.set()
    await asyncio.gather(*waiting)
    assert len([ask for _, ask in post.trades if ask]) - before <= 2


async def test_whoever_would_wait_in_too_long_a_line_goes_on_at_once(sides, post):
    one, _ = sides
    post.held = asyncio.Event()
    called = []
    for number in range(2 * CLUSTER_MAX_WAITING):
        one.exchange.when_known((InfoHash(number.to_bytes(20, "big")),), lambda: called.append(1))
    assert len(called) == CLUSTER_MAX_WAITING
    post.held.set()


async def test_when_the_bus_breaks_those_who_wait_go_on_and_all_is_told_again(sides, post):
    one, two = sides
    two.have(0, 1)
    await two.known()
    post.broken = True
    one.have(1, 0)
    assert await one.known() == Counts(1, 0, 0)
    # The other one has nothing to say until its next sign of life.
    two.now = 10.0
    async with asyncio.timeout(DEADLINE_S):
        while two.exchange.joined or one.exchange.joined:
            await asyncio.sleep(0)
    assert await two.known() == Counts(0, 1, 0)
    post.swarms.clear()
    # What happens meanwhile isn't lost either: this swarm is empty by then.
    one.own.clear()
    one.exchange.changed(HASH)
    post.broken = False
    async with asyncio.timeout(DEADLINE_S):
        while not {one.exchange.me, two.exchange.me} <= post.swarms.get(HASH, {}).keys():
            await asyncio.sleep(0)
    one.now = two.now = 100.0
    assert await one.known() == Counts(0, 1, 0)


async def test_peers_that_leave_while_the_bus_is_broken_leave_the_table_too(sides, post):
    one, two = sides
    one.have(0, 1)
    await one.known()
    assert await two.known() == Counts(0, 1, 0)
    post.broken = True
    one.own.clear()
    one.exchange.changed(HASH)
    # The news are on their way when it breaks.
    await one.known()
    post.broken = False
    async with asyncio.timeout(DEADLINE_S):
        while post.swarms[HASH][one.exchange.me] != Counts(0, 0, 0):
            await asyncio.sleep(0)


async def test_offers_and_answers_arrive_at_the_other_side(sides):
    one, two = sides
    two.have(0, 3)
    await two.known()
    await one.known()
    offers = tuple(Offer(f"o{number}", SDP) for number in range(5))
    assert one.exchange.send_offers(HASH, SENDER, False, offers, here=0) == ()
    async with asyncio.timeout(DEADLINE_S):
        origin, bundle = await two.got.get()
    assert origin == one.exchange.me
    # As many as there are peers, no more.
    assert [each.offer_id for each in bundle.offers] == ["o0", "o1", "o2"]
    answer = Answer(HASH, TARGET, SENDER, "o0", SDP)
    two.exchange.send_answer(origin, answer)
    async with asyncio.timeout(DEADLINE_S):
        assert await one.got.get() == answer


async def test_bad_letter_is_counted_and_the_next_one_read(sides, post):
    one, two = sides
    post.boxes[two.exchange.me].put_nowait(b"\xc1")
    post.boxes[two.exchange.me].put_nowait(envelope([b"junk", b""]))
    one.exchange.send_answer(two.exchange.me, Answer(HASH, TARGET, SENDER, "o0", SDP))
    async with asyncio.timeout(DEADLINE_S):
        assert isinstance(await two.got.get(), Answer)
    assert two.exchange.bad_letters == 3


async def test_bug_in_what_takes_a_letter_costs_the_cluster_a_moment(sides, caplog):
    one, two = sides
    two.take_answer = lambda answer: 1 // 0
    one.exchange.send_answer(two.exchange.me, Answer(HASH, TARGET, SENDER, "o0", SDP))
    async with asyncio.timeout(DEADLINE_S):
        while two.exchange.joined:
            await asyncio.sleep(0)
        while not two.exchange.joined:
            await asyncio.sleep(0)
    assert "ZeroDivisionError" in caplog.text
