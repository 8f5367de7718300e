"""``--workers``: connections handed to other processes, which come and go."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.e2e

A_HASH = "a" * 20
ONE, TWO, THREE = "1" * 20, "2" * 20, "3" * 20
SDP = {"type": "offer", "sdp": "v=0"}
DEADLINE_S = 90.0


@pytest.fixture
async def tracker(tracker_process, redis):
    return await tracker_process("--redis", redis.url, "--workers", "2")


def workers_of(tracker) -> list[psutil.Process]:
    return psutil.Process(tracker.process.pid).children()


def fails(*arguments: str) -> str:
    command = [sys.executable, "-m", "dreamer.tracker.main", "--listen", "127.0.0.1:0", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert run.returncode != 0
    return run.stderr


def test_workers_without_redis_is_an_error_that_says_how(tmp_path):
    error = fails("--data", str(tmp_path), "--workers", "2")
    assert "--redis redis://127.0.0.1:6379" in error
    assert "workers must be from 1 to" in fails("--data", str(tmp_path), "--workers", "0")


async def test_clients_of_two_workers_find_each_other(tracker):
    first, second = await tracker.open(), await tracker.open()
    await first.announce(ONE, left=0)
    # The second connection went to the worker that had none.
    held = [len(each.net_connections("tcp")) for each in workers_of(tracker)]
    assert held == [1, 1]
    # And the main process has let go of both.
    main = psutil.Process(tracker.process.pid).net_connections("tcp")
    assert [each.status for each in main] == [psutil.CONN_LISTEN]
    reply = await second.announce(TWO, left=5, offers=[{"offer": SDP, "offer_id": "o1"}])
    assert (reply["complete"], reply["incomplete"]) == (1, 1)
    assert (await first.hear())["offer_id"] == "o1"
    await first.say(
        action="announce", info_hash=A_HASH, peer_id=ONE, to_peer_id=TWO, offer_id="o1",
        answer={"type": "answer", "sdp": "v=0"},
    )  # fmt: skip
    assert (await second.hear())["answer"]["type"] == "answer"
    async with asyncio.timeout(DEADLINE_S):
        while (await tracker.get_json("/stats"))["announces"] != 2:
            pass
        while "dreamer_tracker_cluster_processes 3\n" not in await tracker.get("/metrics"):
            pass
    assert "dreamer_tracker_workers 2\n" in await tracker.get("/metrics")
    assert (await tracker.get_json("/ready"))["workers"] == 2


async def test_no_byte_is_lost_or_doubled_when_a_connection_changes_hands(tracker):
    """The opening comes byte by byte or with frames behind it; each frame is answered once."""
    host, port = tracker.url.removeprefix("http://").split(":")
    for cut in (1, 7, 100_000):
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = opening() + b"".join(masked(announce(number)) for number in range(150))
        for start in range(0, min(len(sent), 400), cut):
            writer.write(sent[start : min(start + cut, 400)])
            await writer.drain()
        writer.write(sent[400:])
        async with asyncio.timeout(DEADLINE_S):
            assert b" 101 " in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
            heard = [json.loads(await frame(reader)) for _ in range(150)]
        assert [each["info_hash"] for each in heard] == [f"{number:020}" for number in range(150)]
        writer.close()
        await writer.wait_closed()


def opening() -> bytes:
    key = base64.b64encode(b"k" * 16).decode()
    return (
        "GET /announce HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def announce(number: int) -> bytes:
    said = {"action": "announce", "info_hash": f"{number:020}", "peer_id": ONE, "left": 5}
    return json.dumps(said).encode()


def masked(payload: bytes) -> bytes:
    # With a mask of zeros (RFC 6455, section 5.2).
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def frame(reader: asyncio.StreamReader) -> bytes:
    first, size = await reader.readexactly(2)
    assert first == 0x81
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    return await reader.readexactly(size)


async def test_killed_worker_is_replaced_and_its_peers_are_forgotten(tracker):
    first, second = await tracker.open(), await tracker.open()
    await first.announce(ONE, left=5)
    assert (await second.announce(TWO, left=5))["incomplete"] == 2
    before = workers_of(tracker)
    victim = next(each for each in before if each.net_connections("tcp"))
    victims = {conn.raddr.port for conn in victim.net_connections("tcp")}
    lost, kept, kept_id = (first, second, TWO)
    if local_port(second) in victims:
        lost, kept, kept_id = second, first, ONE
    victim.kill()
    assert await lost.closed()
    async with asyncio.timeout(DEADLINE_S):
        while (await kept.announce(kept_id, left=5))["incomplete"] != 1:
            pass
        while (await tracker.get_json("/ready"))["workers"] != 2:
            pass
    assert f"worker {victim.pid} ended" in tracker.errors()
    again = [await tracker.open() for _ in range(2)]
    for number, talker in enumerate(again):
        assert "interval" in await talker.announce(f"{number}" * 20, left=5)
    assert all(each.net_connections("tcp") for each in workers_of(tracker))


def local_port(talker) -> int:
    return talker.socket.get_extra_info("sockname")[1]


async def test_client_is_served_when_no_worker_is_there(tracker):
    for each in workers_of(tracker):
        each.kill()
    async with asyncio.timeout(DEADLINE_S):
        while (await tracker.get_json("/ready"))["workers"]:
            pass
    talker = await tracker.open()
    assert (await talker.announce(ONE, left=5))["incomplete"] == 1


async def test_workers_end_with_a_tracker_that_is_killed(tracker):
    talker = await tracker.open()
    workers = workers_of(tracker)
    assert len(workers) == 2
    tracker.process.kill()
    assert await talker.closed()
    _, alive = await asyncio.to_thread(psutil.wait_procs, workers, timeout=DEADLINE_S)
    assert alive == []


async def test_stop_says_goodbye_to_all_clients_and_takes_the_workers_along(tracker):
    talkers = [await tracker.open() for _ in range(4)]
    for number, talker in enumerate(talkers):
        await talker.announce(f"{number}" * 20, left=5)
    workers = workers_of(tracker)
    tracker.process.send_signal(signal.SIGTERM)
    for talker in talkers:
        assert await talker.closed()
        assert talker.socket.close_code == 1001
    assert await asyncio.to_thread(tracker.process.wait, DEADLINE_S) == 0
    assert not any(each.is_running() for each in workers)


async def test_connections_of_one_address_are_bounded_over_all_workers(tracker_process, redis):
    tracker = await tracker_process(
        "--redis", redis.url, "--workers", "2", "--sockets-per-address", "4"
    )
    talkers = [await tracker.open() for _ in range(4)]
    host, port = tracker.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(opening())
    assert b" 429 " in await reader.readline()
    writer.close()
    for talker in talkers:
        await talker.close()
    # The workers tell of the ends in their own time; then there is room again.
    async with asyncio.timeout(DEADLINE_S):
        while not await is_let_in(host, int(port)):
            pass


async def is_let_in(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(opening())
    line = await reader.readline()
    writer.close()
    return b" 101 " in line


async def test_hung_worker_is_replaced_and_its_clients_are_let_go(tracker):
    talkers = [await tracker.open() for _ in range(2)]
    hung = workers_of(tracker)[0]
    mine = {each.raddr.port for each in hung.net_connections("tcp")}
    hung.suspend()
    lost = next(each for each in talkers if local_port(each) in mine)
    # Longer than any other deadline here: it must have been silent for 15 s.
    message = await lost.socket.receive(timeout=DEADLINE_S)
    assert message.type.name in ("CLOSE", "CLOSED", "ERROR")
    async with asyncio.timeout(DEADLINE_S):
        while (await tracker.get_json("/ready"))["workers"] != 2:
            pass
    assert f"worker {hung.pid} hung" in tracker.errors()
