"""What happens when a tracker process is killed, or Redis is."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from dreamer.protocol.tracker_limits import CLUSTER_BEAT_S, CLUSTER_SILENCE_S

pytestmark = pytest.mark.e2e

A_HASH = "a" * 20
ONE, TWO, THREE = "1" * 20, "2" * 20, "3" * 20
SDP = {"type": "offer", "sdp": "v=0"}
DEADLINE_S = 90.0


def test_killed_process_is_forgotten_within_15_s():
    assert CLUSTER_SILENCE_S + CLUSTER_BEAT_S <= 15


async def counts_become(talker, peer_id: str, incomplete: int) -> None:
    """Announce until the reply says so; offers that come meanwhile are passed over."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await talker.say(action="announce", info_hash=A_HASH, peer_id=peer_id, left=5)
            while "interval" not in (reply := await talker.hear()):
                pass
            if reply["incomplete"] == incomplete:
                return


async def meet(asker, peer_id: str, target) -> None:
    """An offer of one reaches the other, and the answer comes back."""
    offer = {"offer": SDP, "offer_id": f"for-{peer_id[:3]}"}
    await asker.say(
        action="announce", info_hash=A_HASH, peer_id=peer_id, left=5, offers=[offer]
    )  # fmt: skip
    while "offer" not in (heard := await target.hear()):
        pass
    assert heard["peer_id"] == peer_id
    await target.say(
        action="announce", info_hash=A_HASH, peer_id=TWO, to_peer_id=peer_id,
        offer_id=heard["offer_id"], answer={"type": "answer", "sdp": "v=0"},
    )  # fmt: skip
    while "answer" not in (heard := await asker.hear()):
        pass
    assert heard["peer_id"] == TWO


async def test_killed_process_leaves_the_counts_and_its_successor_shares_again(
    tracker_process, redis
):
    survivor = await tracker_process("--redis", redis.url)
    victim = await tracker_process("--redis", redis.url)
    stays, goes = await survivor.open(), await victim.open()
    await stays.announce(TWO, left=5)
    await meet(goes, ONE, stays)
    await counts_become(stays, TWO, 2)
    victim.process.send_signal(signal.SIGKILL)
    assert await goes.closed()
    await counts_become(stays, TWO, 1)
    # Its client comes back through the other one, under the same id.
    back = await survivor.open()
    await meet(back, ONE, stays)
    successor = await tracker_process("--redis", redis.url)
    newcomer = await successor.open()
    await back.announce(ONE, event="stopped")
    await counts_become(stays, TWO, 1)
    await meet(newcomer, THREE, stays)


async def test_stopped_process_is_forgotten_at_once_and_hung_one_in_time(tracker_process, redis):
    """A process that is frozen keeps its connections: only its silence tells."""
    survivor, frozen = [await tracker_process("--redis", redis.url) for _ in range(2)]
    stays, other = await survivor.open(), await frozen.open()
    await stays.announce(TWO, left=5)
    await other.announce(ONE, left=5)
    await counts_become(stays, TWO, 2)
    frozen.process.send_signal(signal.SIGSTOP)
    await counts_become(stays, TWO, 1)
    frozen.process.send_signal(signal.SIGCONT)
    await counts_become(stays, TWO, 2)
    frozen.process.send_signal(signal.SIGTERM)
    assert await other.closed()
    await counts_become(stays, TWO, 1)


async def ready_says(tracker, **wanted) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not wanted.items() <= (await tracker.get_json("/ready")).items():
            pass


async def test_trackers_go_on_alone_without_redis_and_share_again_when_it_is_back(
    tracker_process, redis
):
    first, second = [await tracker_process("--redis", redis.url) for _ in range(2)]
    here, there = await first.open(), await second.open()
    await here.announce(TWO, left=5)
    await there.announce(ONE, left=5)
    await counts_become(here, TWO, 2)
    redis.kill()
    for tracker in (first, second):
        await ready_says(tracker, status="ready", cluster="alone: Redis can't be used")
        assert "dreamer_tracker_cluster_joined 0\n" in await tracker.get("/metrics")
        assert tracker.errors().count("goes on alone") == 1
    # Each still serves its own clients.
    await counts_become(here, TWO, 1)
    neighbour = await first.open()
    await meet(neighbour, THREE, here)
    await neighbour.announce(THREE, event="stopped")
    await redis.start()
    for tracker in (first, second):
        await ready_says(tracker, cluster="joined", processes=2)
        assert "dreamer_tracker_cluster_joined 1\n" in await tracker.get("/metrics")
    # Redis has forgotten everything; nobody has to announce for the counts to come back.
    await counts_become(here, TWO, 2)
    await meet(there, ONE, here)


async def test_redis_that_hangs_holds_an_announce_up_for_a_moment_only(tracker_process, redis):
    tracker = await tracker_process("--redis", redis.url)
    talker = await tracker.open()
    redis.process.send_signal(signal.SIGSTOP)
    try:
        for number in range(20):
            assert (await talker.announce(ONE, f"{number:020}", left=5))["incomplete"] == 1
        await ready_says(tracker, cluster="alone: Redis can't be used")
    finally:
        redis.process.send_signal(signal.SIGCONT)
    await ready_says(tracker, cluster="joined")


async def test_tracker_starts_alone_while_redis_is_away(tracker_process, redis):
    redis.kill()
    tracker = await tracker_process("--redis", redis.url)
    talker = await tracker.open()
    assert (await talker.announce(ONE, left=5))["incomplete"] == 1
    assert "goes on alone until Redis is there" in tracker.errors()
    await redis.start()
    await ready_says(tracker, cluster="joined")


async def test_tracker_without_redis_loads_none_of_it(tracker_process):
    tracker = await tracker_process()
    assert await tracker.get_json("/ready") == {"status": "ready"}
    code = (
        "import sys, dreamer.tracker.main; "
        "sys.exit(any(each.split('.')[0] == 'redis' or '.cluster' in each for each in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=DEADLINE_S).returncode == 0


def test_url_that_is_none_of_redis_is_one_clear_line_without_its_password(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "dreamer.tracker.main", "--listen", "127.0.0.1:0",
         "--data", str(tmp_path), "--redis", "http://user:hunter2@lab:1"],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("dreamer-tracker: redis must be a URL, as redis://127.0.0.1:6379")
    assert "hunter2" not in run.stderr
