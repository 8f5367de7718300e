"""What a tracker has lost when it starts again: swarms, until their clients have come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.tracker_limits import TRACKER_ANNOUNCE_INTERVAL_S, TRACKER_BACKOFF_MAX_S
from dreamer.tracker.room.documents import Documents

WAIT_S = 20.0
A_HASH, B_HASH = "a" * 20, "\xff" * 20


class StockClient:
    """Does what stock clients do: connects, announces, connects again when it is cut off.

    But for the pauses. What it says for the first time on a socket it says once: whatever else
    comes, comes an interval later.
    """

    def __init__(self, http, url: str, number: int, info_hash: str, left: int) -> None:
        self._http = http
        self._url = url + "/announce"
        self._hello = {
            "action": "announce",
            "event": "started",
            "info_hash": info_hash,
            "peer_id": f"-WW0000-{number:012}",
            "left": left,
            "numwant": 0,
        }
        self.replies: asyncio.Queue[dict] = asyncio.Queue()
        self.heard: asyncio.Queue[dict] = asyncio.Queue()
        self.socket: aiohttp.ClientWebSocketResponse | None = None

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._visit()

    async def _visit(self) -> None:
        async with self._http.ws_connect(self._url) as self.socket:
            await self.say()
            async for message in self.socket:
                said = json.loads(message.data)
                await (self.replies if "interval" in said else self.heard).put(said)

    async def say(self, **more) -> None:
        await self.socket.send_str(json.dumps({**self._hello, **more}))


@asynccontextmanager
async def crowd(http, url: str, count: int):
    clients = [
        StockClient(http, url, number, (A_HASH, B_HASH)[number % 2], left=number % 3)
        for number in range(count)
    ]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def announced(clients: list[StockClient]) -> list[dict]:
    """Return each client's next reply."""
    async with asyncio.timeout(WAIT_S):
        return [await client.replies.get() for client in clients]


async def scraped(running) -> dict:
    talker = await running.open()
    await talker.say(action="scrape")
    files = (await talker.hear())["files"]
    await talker.close()
    return files


@asynccontextmanager
async def life(serving, http, data: Path, port: int = 0):
    """One tracker over a store, from its start to its end."""
    documents = Documents(data)
    try:
        async with serving(documents, http, port=port) as running:
            yield running
    finally:
        documents.close()


async def test_swarms_refill_with_the_first_announce_of_each_client(serving, tmp_path):
    async with aiohttp.ClientSession() as http:
        async with life(serving, http, tmp_path) as running:
            url, port = running.url, int(running.url.rpartition(":")[2])
            async with crowd(http, url, 30) as clients:
                await announced(clients)
                before = await scraped(running)
                assert sum(each["incomplete"] for each in before.values()) == 20
        async with crowd(http, url, 30) as clients:
            async with life(serving, http, tmp_path, port) as running:
                replies = await announced(clients)
                assert await scraped(running) == before
            # The same clients, cut off by another restart, come back by themselves.
            async with life(serving, http, tmp_path, port) as running:
                replies = await announced(clients)
                assert await scraped(running) == before
                await _introduced(clients[0], clients[2::2])
    assert {reply["interval"] for reply in replies} == {TRACKER_ANNOUNCE_INTERVAL_S}


async def _introduced(asker: StockClient, others: list[StockClient]) -> None:
    """Have an offer reach one of the others."""
    offer = {"offer_id": "o1", "offer": {"type": "offer", "sdp": "v=0"}}
    await asker.say(event="update", left=1, numwant=1, offers=[offer])
    waiting = [asyncio.create_task(other.heard.get()) for other in others]
    done, late = await asyncio.wait(waiting, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    assert [task.result()["offer_id"] for task in done] == ["o1"]


def test_node_that_waits_longest_is_back_within_an_interval():
    assert TRACKER_BACKOFF_MAX_S < TRACKER_ANNOUNCE_INTERVAL_S


async def test_room_is_after_a_restart_what_it_was_before(serving, tmp_path, insider_of, refusal):
    admin, gone = insider_of(1), insider_of(2).invited(invite=1)
    once, late = (insider_of(number).invited(invite=2) for number in (3, 4))
    async with aiohttp.ClientSession() as http:
        async with life(serving, http, tmp_path) as running:
            port = int(running.url.rpartition(":")[2])
            boss, welcome = await admin.enter(running)
            bearer = {"Authorization": f"Bearer {welcome['session']}"}
            url = f"{running.url}/rooms/{admin.room_id.hex()}/registry"
            condition = {**bearer, "If-None-Match": "*"}
            async with http.put(url, data=b'{"n":1}', headers=condition) as response:
                etag = response.headers["ETag"]
            for insider in (gone, once):
                await insider.enter(running)
            unsigned = Revocation(admin.room_id, 1, NodeId(gone.key.public), 1, admin.chain)
            await boss.say(type="revoke", revocation=unsigned.signed_by(admin.key).to_json())
            await boss.hear_type("revoked")
        async with life(serving, http, tmp_path, port) as running:
            assert (await refusal(gone, running))["code"] == "revoked"
            assert (await refusal(late, running))["code"] == "used"
            talker, _ = await once.enter(running)
            assert (await talker.hear())["revocation"]["node"] == gone.hex
            # Tokens are of the past; the document is of both.
            async with http.get(url, headers=bearer) as response:
                assert response.status == 401
            boss, welcome = await admin.enter(running)
            bearer = {"Authorization": f"Bearer {welcome['session']}", "If-Match": etag}
            async with http.put(url, data=b'{"n":2}', headers=bearer) as response:
                assert response.status == 204
