"""A real tracker on a free port, and clients that speak to it over real sockets."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.certificate import ALL_ROLES, invitation, node_certificate
from dreamer.protocol.rooms.keys import Purpose, SigningKey
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.terms import Terms

DEADLINE_S = 5.0
PROGRAM_DEADLINE_S = 20.0
NOW = 1_800_000_000.0
A_HASH, B_HASH = "a" * 20, "\xff" * 20


class Talker:
    """One websocket; every read has a deadline."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self) -> dict:
        return json.loads(await self.socket.receive_str(timeout=DEADLINE_S))

    async def hear_type(self, *kinds: str) -> dict:
        """The next message of a type, whatever comes before it."""
        while (message := await self.hear())["type"] not in kinds:
            pass
        return message

    async def closed(self) -> bool:
        message = await self.socket.receive(timeout=DEADLINE_S)
        return message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

    async def announce(self, peer_id: str, info_hash: str = A_HASH, **rest) -> dict:
        """Announce and return the reply."""
        await self.say(action="announce", info_hash=info_hash, peer_id=peer_id, **rest)
        return await self.hear()

    async def close(self) -> None:
        await self.socket.close()


class Running:
    """A tracker that runs, and the sockets opened to it."""

    def __init__(self, url: str, tracker: Tracker, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.tracker = tracker
        self.http = http

    async def open(self, path: str = "/announce", **options) -> Talker:
        return Talker(await self.http.ws_connect(self.url + path, **options))

    async def get(self, path: str, **options) -> tuple[int, str, dict]:
        async with self.http.get(self.url + path, **options) as response:
            return response.status, await response.text(), response.headers.copy()

    async def stats(self) -> dict:
        return json.loads((await self.get("/stats"))[1])

    async def stats_become(self, **wanted: int) -> None:
        """Return once the tracker counts as wanted: it notices a closed socket in its own time."""
        async with asyncio.timeout(DEADLINE_S):
            while not wanted.items() <= (await self.stats()).items():
                pass


@asynccontextmanager
async def serve(
    documents: Documents,
    http: aiohttp.ClientSession,
    terms: Terms | None = None,
    port: int = 0,
    **options,
):
    tracker = Tracker(documents, random.Random(7), terms, **options)
    async with tracker.listening("127.0.0.1", port) as taken:
        yield Running(f"http://127.0.0.1:{taken}", tracker, http)


@pytest.fixture
def documents(tmp_path):
    opened = Documents(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
async def running(documents):
    async with aiohttp.ClientSession() as http, serve(documents, http) as running:
        yield running


class Insider:
    """A node with a chain, and the room key that it came from."""

    def __init__(self, seed: int, room_seed: int = 100) -> None:
        self.key = SigningKey(bytes([seed]) * 32)
        self.room_key = SigningKey(bytes([room_seed]) * 32)
        self.room_id = RoomId(self.room_key.public)
        self.chain = (
            node_certificate(self.room_id, self.key.public, ALL_ROLES, NOW - 9e7, self.room_key),
        )

    @property
    def hex(self) -> str:
        return self.key.public.hex()

    def invited(self, roles=("member",), invite=1, uses=1, issued_at=NOW - 9e7, lasts_s=9e8):
        """Take an invitation's place in the chain."""
        seed = SigningKey(bytes([200 + invite]) * 32)
        invite_id = bytes([invite]) * 16
        upper = invitation(
            self.room_id, seed, roles, issued_at, lasts_s, uses, invite_id, self.room_key
        )
        own = node_certificate(self.room_id, self.key.public, roles, issued_at, seed)
        self.chain = (upper, own)
        return self

    async def knock(self, running: Running, dialled: str = "", **changes) -> Talker:
        """Log in, perhaps with something wrong; the reply is still to be heard."""
        dialled = dialled or running.url.removeprefix("http://")
        talker = await running.open("/room")
        nonce = bytes.fromhex((await talker.hear())["nonce"])
        said = {
            "type": "login",
            "room": self.room_id.hex(),
            "node": self.hex,
            "tracker": dialled,
            "chain": chain_to_json(self.chain),
            "sig": self.key.sign(
                Purpose.TRACKER_LOGIN,
                nonce + self.room_id + self.key.public + dialled.encode(),
            ).hex(),
        }
        await talker.say(**{**said, **changes})
        return talker

    async def enter(self, running: Running) -> tuple[Talker, dict]:
        talker = await self.knock(running)
        welcome = await talker.hear()
        assert welcome["type"] == "welcome", welcome
        return talker, welcome


@pytest.fixture
def insiders() -> list[Insider]:
    return [Insider(number) for number in range(1, 6)]


@pytest.fixture
def insider_of():
    return Insider


@pytest.fixture
def refusal():
    """Knock at a tracker, and return the refusal that must come."""

    async def refused(insider: Insider, running: Running, **changes) -> dict:
        talker = await insider.knock(running, **changes)
        said = await talker.hear()
        assert said["type"] == "refused", said
        assert await talker.closed()
        return said

    return refused


@pytest.fixture
def serving():
    return serve


@pytest.fixture
def at_url():
    """Speak to a tracker that runs elsewhere: ``at_url(url, http)``."""
    return lambda url, http: Running(url, None, http)


class RealRedis:
    """A redis-server on a socket in a folder; it can be killed and started again, empty."""

    def __init__(self, program: str, folder) -> None:
        self._program = program
        self._path = folder / "redis.sock"
        self.url = f"unix://{self._path}"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self._program, "--port", "0", "--unixsocket", str(self._path), "--save", "",
             "--appendonly", "no", "--dir", str(self._path.parent)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(PROGRAM_DEADLINE_S):
            while not await self._answers():
                pass

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def _answers(self) -> bool:
        with suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(self._path))
            writer.write(b"PING\r\n")
            reply = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return reply == b"+PONG\r\n"
        return False


@pytest.fixture
async def redis(program, tmp_path):
    server = RealRedis(program("redis-server"), tmp_path)
    await server.start()
    yield server
    server.kill()


class TrackerProcess:
    """``dreamer-tracker`` as a process, and the sockets opened to it."""

    def __init__(self, folder, http: aiohttp.ClientSession, arguments: tuple[str, ...]) -> None:
        self._http = http
        self._errors = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dreamer.tracker.main", "--listen", "127.0.0.1:0",
             "--data", str(folder / "data"), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        self.url = self.process.stdout.readline().rstrip("\n")
        assert self.url, self.errors()

    def errors(self) -> str:
        """What it has said on stderr so far."""
        self._errors.seek(0)
        return self._errors.read()

    async def open(self) -> Talker:
        return Talker(await self._http.ws_connect(self.url + "/announce"))

    async def get(self, path: str) -> str:
        async with self._http.get(self.url + path) as response:
            return await response.text()

    async def get_json(self, path: str) -> dict:
        return json.loads(await self.get(path))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()


@pytest.fixture
async def tracker_process(tmp_path):
    """``tracker_process("--redis", url)`` starts one more; all are gone afterwards."""
    started = []
    async with aiohttp.ClientSession() as http:

        async def start(*arguments: str) -> TrackerProcess:
            folder = tmp_path / f"tracker-{len(started)}"
            folder.mkdir()
            started.append(await asyncio.to_thread(TrackerProcess, folder, http, arguments))
            return started[-1]

        yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="module")
def endpoint():
    """An S3 server; returns its URL."""
    # Imported here: most tests of the tracker need none, and it takes a second.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch, request):
    """A client of it, with the credentials that the tracker uses; makes the module's BUCKET."""
    import boto3

    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.session.Session().client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=request.module.BUCKET)
    yield client
    client.close()
