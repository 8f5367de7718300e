"""What a node gets from a real tracker that lends, and from one that answers nonsense."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginRefusedError,
    OriginUnsignedError,
)
from dreamer.daemon.rendezvous.services import TrackerBusyError, TrackerServices
from dreamer.daemon.rendezvous.signing import TrackerSigning
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError, RemoteProtocolError
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest
from dreamer.protocol.registry import records
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.handed_in import HandedIn
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.tracker_limits import TRACKER_SERVICE_ANSWER_MAX_BYTES
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.lends import Lends
from dreamer.tracker.room.turn import TurnSettings

KEY = "lab/files/" + "ab" * 32
GET, PUT = UrlRequest(Operation.GET, KEY), UrlRequest(Operation.PUT, KEY)
DEADLINE_S = 10.0


@pytest.fixture
async def lending(tmp_path, make_node, monkeypatch):
    """A tracker that lends to the room of ``make_node``'s nodes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    lends = Lends(
        TurnSettings(("turn:turn.lab:3478",), b"s3cret"),
        {make_node(1).room_id: parse_origin("s3://models/lab", "http://minio.lab:9000")},
    )
    documents = Documents(tmp_path / "lending")
    tracker = Tracker(documents, random.Random(1), lends=lends)
    async with tracker.listening("127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"
    documents.close()


async def until(happened) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not happened():
            await asyncio.sleep(0)


async def test_node_has_turn_servers_soon_after_its_login(lending, node_at):
    node = node_at(lending)
    async with node.running():
        await until(lambda: node.session.turn_servers)
        (server,) = node.session.turn_servers
        assert server["urls"] == "turn:turn.lab:3478"
        assert server["username"].endswith(f":{node.node_id.hex()[:8]}")
    # They are good for a while yet, tracker or not.
    assert node.session.turn_servers


async def test_node_gets_urls_and_none_where_nothing_is_signed(lending, node_at, make_node):
    node, other = node_at(lending), make_node(2)
    async with node.running(), other.running():
        signed = await node.session.presign([GET, PUT])
        assert signed is not None
        assert [url.partition("?")[0] for url in signed.urls] == [
            f"http://minio.lab:9000/models/{KEY}"
        ] * 2
        assert await other.session.presign([GET]) is None
        with pytest.raises(InputError, match="keys of this room"):
            await node.session.presign([UrlRequest(Operation.GET, "elsewhere")])


async def test_member_that_may_not_write_is_told_so(lending, node_at):
    node = node_at(lending, 2, roles=("member",))
    async with node.running():
        with pytest.raises(ForbiddenError, match="publishers"):
            await node.session.presign([PUT])


@pytest.fixture
def handed():
    """A report as a node of ``make_node`` hands it in."""

    def make(node) -> HandedIn:
        record = records.sign(NodeReport(name="bench"), node.room_id, node.key, time.time(), 1)
        return HandedIn(record, chain_to_json(node.chain))

    return make


async def test_report_is_taken_once_there_is_a_registry(lending, node_at, handed):
    node, keeper = node_at(lending, 2, roles=("member",)), node_at(lending)
    async with node.running(), keeper.running():
        assert not await node.session.report(handed(node))
        document = Document(node.room_id).encode()
        await keeper.session.write_registry(document, None)
        assert await node.session.report(handed(node))
        with pytest.raises(ForbiddenError, match="own node alone"):
            await node.session.report(handed(keeper))
        found, _ = await keeper.session.read_registry()
        assert list(parse(found, node.room_id).reports) == [node.node_id]


async def test_tracker_of_an_older_version_takes_no_report(http, make_node, handed):
    async with answering(http, make_node(1).room_id, 404, b"404: Not Found") as services:
        assert not await services.report("token", handed(make_node(1)))


async def test_without_a_login_nothing_is_asked(make_node):
    with pytest.raises(RemoteError, match="no connection"):
        await make_node(1).session.presign([GET])


@asynccontextmanager
async def answering(http, room_id, status: int, body: bytes):
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield TrackerServices(http, f"http://127.0.0.1:{runner.addresses[0][1]}", room_id)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"username": "u", "password": "p", "ttl": 0, "uris": ["turn:h"]}',
        b'{"username": "u", "password": "p", "ttl": 1e9, "uris": ["turn:h"]}',
        b'{"username": "u", "password": "p", "ttl": 60, "uris": []}',
        b'{"username": "u", "password": "p", "ttl": 60, "uris": ["http://h"]}',
        b'{"username": "u", "password": "p", "ttl": 60, "uris": ["turn:[::1]"]}',
        b'{"username": "u", "password": "p", "ttl": 60, "uris": ["turns:h?transport=udp"]}',
        b'{"username": "", "password": "p", "ttl": 60, "uris": ["turn:h"]}',
        b'{"username": "u\\n", "password": "p", "ttl": 60, "uris": ["turn:h"]}',
        b'{"username": "u", "password": 5, "ttl": 60, "uris": ["turn:h"]}',
        b" " * (TRACKER_SERVICE_ANSWER_MAX_BYTES + 1),
    ],
)
async def test_credentials_of_another_form_are_refused(http, make_node, body):
    async with answering(http, make_node(1).room_id, 200, body) as services:
        with pytest.raises(RemoteProtocolError):
            await services.turn("token")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"urls": [], "ttl": 60}',
        b'{"urls": ["http://a", "http://b"], "ttl": 60}',
        b'{"urls": [5], "ttl": 60}',
        b'{"urls": ["http://a\\n"], "ttl": 60}',
        b'{"urls": ["http://a"], "ttl": 0}',
    ],
)
async def test_urls_of_another_form_are_refused(http, make_node, body):
    async with answering(http, make_node(1).room_id, 200, body) as services:
        with pytest.raises(RemoteProtocolError, match="nonsense"):
            await services.presign("token", [GET])


@pytest.mark.parametrize(
    ("status", "kind"),
    [(302, RemoteError), (401, RemoteError), (429, TrackerBusyError), (503, RemoteError)],
)
async def test_other_answers_are_told_apart(http, make_node, status, kind):
    async with answering(http, make_node(1).room_id, status, b"why") as services:
        with pytest.raises(kind):
            await services.presign("token", [GET])


# For the threads of an origin


class Played:
    """A tracker whose answers are played."""

    def __init__(self, *script, connected: bool = True) -> None:
        self.script = list(script)
        self.connected = connected

    async def presign(self, requests):
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


SIGNED = SignedUrls(("http://h/u",), 60)


async def sign(make_node, *trackers) -> SignedUrls:
    room_id = make_node(1).room_id
    card = RoomCard(room_id, "team", (), "s3://models/lab", None, b"s" * 32)
    signing = TrackerSigning(card, lambda: trackers, asyncio.get_running_loop())
    return await asyncio.to_thread(signing.sign, [GET])


async def test_any_tracker_that_signs_will_do(make_node):
    away, down = Played(connected=False), Played(RemoteError("it is down"))
    assert await sign(make_node, away, down, Played(None), Played(SIGNED)) is SIGNED


async def test_tracker_that_wants_patience_gets_it(make_node):
    assert await sign(make_node, Played(TrackerBusyError("slow down"), SIGNED)) is SIGNED


@pytest.mark.parametrize(
    ("trackers", "kind", "words"),
    [
        ([], OriginRefusedError, "no tracker that could sign"),
        ([Played(connected=False)], OriginBusyError, "not connected"),
        ([Played(RemoteError("it is down"))], OriginBusyError, "it is down"),
        ([Played(None)], OriginUnsignedError, r"\[tracker.origins\.[0-9a-f]{64}\]"),
        ([Played(None), Played(None)], OriginUnsignedError, "AWS_ACCESS_KEY_ID"),
        ([Played(None), Played(connected=False)], OriginBusyError, "not connected"),
        ([Played(connected=False), Played(None)], OriginBusyError, "not connected"),
        ([Played(ForbiddenError("only publishers"))], OriginRefusedError, "only publishers"),
        ([Played(InputError("keys are elsewhere"))], OriginError, "s3://models/lab"),
    ],
)
async def test_when_nobody_signs_the_error_says_why(make_node, trackers, kind, words):
    with pytest.raises(kind, match=words):
        await sign(make_node, *trackers)


def test_after_the_loop_has_ended_nothing_hangs():
    loop = asyncio.new_event_loop()
    loop.close()
    card = RoomCard(b"r" * 32, "team", (), "s3://models/lab", None, b"s" * 32)
    with pytest.raises(OriginBusyError, match="stopping"):
        TrackerSigning(card, list, loop).sign([GET])
