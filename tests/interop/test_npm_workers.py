"""npm bittorrent-tracker's clients at a tracker of several processes: none of them notices."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

HASH = "5a" * 20
ALICE, BOB = (f"2d5757303030302d{number:024x}" for number in (1, 2))
DEADLINE_S = 60.0


@pytest.fixture
def url(program, tmp_path):
    """A tracker with two workers, and its Redis; the second client comes to the second worker."""
    path = tmp_path / "redis.sock"
    redis = subprocess.Popen(
        [program("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", ""],
        stdout=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    try:
        ends = time.monotonic() + DEADLINE_S
        while not path.exists():
            assert redis.poll() is None
            assert time.monotonic() < ends
        tracker = subprocess.Popen(
            [sys.executable, "-m", "dreamer.tracker.main", "--listen", "127.0.0.1:0",
             "--data", str(tmp_path / "data"), "--redis", f"unix://{path}", "--workers", "2"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield tracker.stdout.readline().strip().replace("http://", "ws://") + "/announce"
        finally:
            tracker.terminate()
            tracker.communicate(timeout=30)
    finally:
        redis.kill()
        redis.wait()


def test_clients_at_two_workers_connect_and_count(driver, url):
    def client(peer_id):
        child = driver("tracker_client.mjs", "bittorrent-tracker", url, peer_id, HASH)
        child.until("ready")
        return child

    def announce(child, how, left, **options):
        child.tell("announce", how=how, infoHash=HASH, options={"left": left, **options})

    alice, bob = client(ALICE), client(BOB)
    announce(alice, "start", 5, numwant=0)
    alice.until("update", infoHash=HASH, complete=0, incomplete=1)
    announce(bob, "start", 5)
    bob.until("update", infoHash=HASH, complete=0, incomplete=2)
    # The offers are Bob's: they went through both workers, and so did the answer.
    bob.until("connected", peer=ALICE, offered=True)
    alice.until("data", text=f"{BOB} greets {ALICE}")
    bob.until("data", text=f"{ALICE} greets {BOB}")
    announce(alice, "complete", 0)
    alice.until("update", infoHash=HASH, complete=1, incomplete=1)
    alice.tell("scrape", infoHash=HASH)
    alice.until("scrape", infoHash=HASH, complete=1, incomplete=1, downloaded=1)
