from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest

A_HASH, B_HASH = "a" * 20, "\xff" * 20
ONE, TWO, THREE = "1" * 20, "\xfe2" * 10, "3" * 20


def offers(*names: str) -> list[dict]:
    return [{"offer": {"type": "offer", "sdp": f"v=0 {n}"}, "offer_id": n[:9]} for n in names]


async def test_transcript_of_offer_and_answer(running):
    first, second = await running.open(), await running.open()
    assert await first.announce(ONE, left=0, event="started") == {
        "action": "announce", "info_hash": A_HASH, "interval": 120, "complete": 1, "incomplete": 0,
    }  # fmt: skip
    reply = await second.announce(
        TWO, left=9, event="started", numwant=5, offers=offers("o1", "o2")
    )
    assert (reply["complete"], reply["incomplete"]) == (1, 1)
    assert await first.hear() == {
        "action": "announce",
        "info_hash": A_HASH,
        "peer_id": TWO,
        "offer_id": "o1",
        "offer": {"type": "offer", "sdp": "v=0 o1"},
    }
    await first.say(
        action="announce", info_hash=A_HASH, peer_id=ONE, to_peer_id=TWO, offer_id="o1",
        answer={"type": "answer", "sdp": "v=0"},
    )  # fmt: skip
    assert await second.hear() == {
        "action": "announce",
        "info_hash": A_HASH,
        "peer_id": ONE,
        "offer_id": "o1",
        "answer": {"type": "answer", "sdp": "v=0"},
    }
    # Nothing came in reply to the answer: the next thing the first hears is this.
    assert (await first.announce(ONE, event="stopped"))["complete"] == 0


async def test_scrape_of_one_many_and_all(running):
    talker = await running.open()
    await talker.announce(ONE, A_HASH, event="completed")
    await talker.announce(ONE, B_HASH, left=3)
    done = {"complete": 1, "incomplete": 0, "downloaded": 1}
    going = {"complete": 0, "incomplete": 1, "downloaded": 0}
    none = {"complete": 0, "incomplete": 0, "downloaded": 0}
    for asked, files in (
        ({"info_hash": A_HASH}, {A_HASH: done}),
        ({"info_hash": [B_HASH, "z" * 20]}, {B_HASH: going, "z" * 20: none}),
        ({}, {A_HASH: done, B_HASH: going}),
    ):
        await talker.say(action="scrape", **asked)
        heard = await talker.hear()
        assert (heard["action"], heard["files"]) == ("scrape", files)
        assert heard["flags"]["min_request_interval"] > 0


async def test_binary_frames_are_understood(running):
    talker = await running.open()
    said = {"action": "announce", "info_hash": B_HASH, "peer_id": TWO}
    await talker.socket.send_bytes(json.dumps(said, ensure_ascii=False).encode())
    heard = await talker.hear()
    assert (heard["info_hash"], heard["incomplete"]) == (B_HASH, 1)


async def test_root_serves_websockets_and_people(running):
    talker = await running.open("/")
    assert (await talker.announce(ONE))["incomplete"] == 1
    status, text, _ = await running.get("/")
    assert (status, "dreamer-tracker" in text) == (200, True)


@pytest.mark.parametrize("path", ["/announce", "/room"])
async def test_plain_http_is_told_to_use_a_websocket(running, path):
    status, text, _ = await running.get(path)
    assert status == 426
    assert "ws://" in text


async def test_closed_socket_means_stopped(running):
    first, second = await running.open(), await running.open()
    await first.announce(ONE)
    await second.announce(TWO)
    await first.close()
    await running.stats_become(leechers=1, sockets=1)
    assert (await second.announce(TWO))["incomplete"] == 1


async def test_peer_id_of_another_socket_is_refused(running):
    first, second = await running.open(), await running.open()
    await first.announce(ONE)
    heard = await second.announce(ONE, event="stopped")
    assert heard["action"] == "announce"
    assert heard["info_hash"] == A_HASH
    assert "another connection" in heard["failure reason"]
    assert (await first.announce(ONE))["incomplete"] == 1


async def test_two_clients_may_share_a_socket(running):
    shared = await running.open()
    await shared.announce(ONE)
    await shared.announce(TWO, offers=offers("o1"))
    heard = await shared.hear()
    assert (heard["peer_id"], heard["offer_id"]) == (TWO, "o1")


async def test_answer_nobody_asked_for_reaches_nobody(running):
    first, second = await running.open(), await running.open()
    await first.announce(ONE)
    await second.announce(TWO)
    await second.say(
        action="announce", info_hash=A_HASH, peer_id=TWO, to_peer_id=ONE, offer_id="o1",
        answer={"type": "answer", "sdp": "evil"},
    )  # fmt: skip
    assert "no such offer" in (await second.hear())["failure reason"]
    assert "failure reason" not in await first.announce(ONE)


async def test_junk_is_answered_then_cut_off(running):
    talker = await running.open()
    for _ in range(100):
        await talker.socket.send_str("}{")
        assert "failure reason" in await talker.hear()
    assert await talker.closed()


async def test_message_over_64_kib_closes_the_socket_only_of_its_sender(running):
    big, other = await running.open(), await running.open()
    await other.announce(TWO)
    await big.say(action="announce", padding="x" * (64 * 1024))
    assert await big.closed()
    assert big.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert (await other.announce(TWO))["incomplete"] == 1


async def test_compression_is_not_offered(running):
    talker = await running.open(compress=15)
    assert talker.socket.compress == 0


async def test_pings_are_answered(running):
    talker = await running.open(autoping=False)
    await talker.socket.ping(b"there?")
    heard = await talker.socket.receive(timeout=5)
    assert (heard.type, heard.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_client_that_never_reads_delays_nobody_nor_can_others_have_it_cut_off(running):
    """Once the deaf one's buffers are full, what others send it is dropped, not its connection."""
    deaf = await _deaf_client(running.url)
    talker = await running.open()
    await running.stats_become(leechers=1)
    try:
        async with asyncio.timeout(20):
            for _ in range(200):  # 12 MB: more than the kernel and the outbox take
                await talker.announce(TWO, offers=offers("x" * 60_000))
        assert (await running.stats())["offers"] == 200
        assert (await running.stats())["sockets"] == 2
    finally:
        deaf.close()


async def test_scrape_of_everything_looks_at_no_more_than_it_tells(running, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.public.announce.TRACKER_SCRAPE_MAX_SWARMS", 2)
    seen = []

    def walk(swarms):
        for swarm in swarms._swarms.values():
            seen.append(swarm.info_hash)
            yield swarm

    monkeypatch.setattr("dreamer.tracker.public.swarms.Swarms.__iter__", walk)
    talker = await running.open()
    for name in "abcd":
        await talker.announce(ONE, info_hash=name * 20)
    await talker.say(action="scrape")
    assert len((await talker.hear())["files"]) == 2
    assert len(seen) == 2


async def _deaf_client(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    await loop.sock_connect(deaf, (host, int(port)))
    upgrade = (
        "GET /announce HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    await loop.sock_sendall(deaf, upgrade.encode())
    await loop.sock_recv(deaf, 1024)
    said = json.dumps({"action": "announce", "info_hash": A_HASH, "peer_id": ONE}).encode()
    # A masked text frame with an all-zero mask (RFC 6455, section 5.2).
    assert len(said) < 126
    await loop.sock_sendall(deaf, bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)
    return deaf


async def test_flooding_client_is_slowed_down_and_the_others_are_served(running):
    flooder, other = await running.open(), await running.open()

    async def flood() -> None:
        said = json.dumps({"action": "announce", "info_hash": A_HASH, "peer_id": ONE})
        while True:
            await flooder.socket.send_str(said)
            await asyncio.sleep(0)

    async def drain() -> None:
        async for _ in flooder.socket:
            pass

    tasks = [asyncio.create_task(flood()), asyncio.create_task(drain())]
    try:
        async with asyncio.timeout(20):
            for _ in range(50):
                await other.announce(TWO)
            # The burst is spent, and then only some 200 messages a second are taken.
            while (await running.stats())["messages"] < 2100:
                await other.announce(TWO)
            assert (await running.stats())["messages"] < 4000
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_stats_metrics_and_health(running):
    talker = await running.open()
    await talker.announce(ONE, left=0)
    stats = await running.stats()
    assert (stats["swarms"], stats["seeders"], stats["announces"]) == (1, 1, 1)
    _, metrics, headers = await running.get("/metrics")
    assert "dreamer_tracker_seeders 1\n" in metrics
    assert "# TYPE dreamer_tracker_announces_total counter\n" in metrics
    assert headers["Content-Type"].startswith("text/plain")
    assert (await running.get("/health"))[0] == 200
    assert (await running.get("/ready"))[0] == 200


async def test_tracker_whose_store_is_gone_is_not_ready(running, documents):
    documents.close()
    assert (await running.get("/ready"))[0] == 503
    assert (await running.get("/health"))[0] == 200
