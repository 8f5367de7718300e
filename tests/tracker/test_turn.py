"""TURN credentials: who gets them, for how long, and what a real relay makes of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from aioice import stun, turn

from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.certificate import Certificate, Kind, parse_roles
from dreamer.protocol.turn import TurnCredentials
from dreamer.simulations.loopback import Process, free_port, turn_server
from dreamer.tracker.room.lends import Lends
from dreamer.tracker.room.turn import TurnSettings, make_credentials

URI = "turn:turn.lab:3478?transport=udp"
SETTINGS = TurnSettings((URI,), b"s3cret", 600)
NODE = NodeId(b"\1" * 32)
SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "turnserver.conf"


@pytest.fixture
async def lending(documents, serving):
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, lends=Lends(turn=SETTINGS)) as running,
    ):
        yield running


def path(insider) -> str:
    return f"/rooms/{insider.room_id.hex()}/turn"


async def ask(running, insider, session: str) -> tuple[int, str, dict]:
    return await running.get(path(insider), headers={"Authorization": f"Bearer {session}"})


async def test_member_gets_credentials_in_the_form_that_relays_know(lending, insiders):
    _, welcome = await insiders[0].enter(lending)
    status, text, headers = await ask(lending, insiders[0], welcome["session"])
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    said = json.loads(text)
    ends, _, user = said["username"].partition(":")
    assert abs(int(ends) - time.time() - 600) < 60
    assert user == insiders[0].hex[:8]
    digest = hmac.digest(b"s3cret", said["username"].encode(), hashlib.sha1)
    assert said["password"] == base64.b64encode(digest).decode()
    assert (said["ttl"], said["uris"]) == (600, [URI])


async def test_stranger_gets_the_same_answer_whether_there_is_turn_or_not(
    lending, running, insiders, insider_of
):
    _, foreign = await insider_of(1, room_seed=101).enter(lending)
    answers = [
        await at.get(where, headers=headers)
        for at in (lending, running)
        for where in (path(insiders[0]), f"/rooms/{'00' * 32}/turn", "/rooms/x/turn")
        for headers in ({}, {"Authorization": f"Bearer {foreign['session']}"})
    ]
    assert {(status, text) for status, text, _ in answers} == {(401, "log in at /room first")}


async def test_tracker_without_turn_says_what_to_set(running, insiders):
    _, welcome = await insiders[0].enter(running)
    status, text, _ = await ask(running, insiders[0], welcome["session"])
    assert status == 404
    assert "turn_urls" in text


async def test_removed_member_gets_no_more_credentials(lending, insiders):
    _, welcome = await insiders[0].enter(lending)
    lending.tracker._sessions.end(insiders[0].room_id, lambda member: True)
    assert (await ask(lending, insiders[0], welcome["session"]))[0] == 401


def member_until(insider, ends: int):
    """Give somebody a membership that ends."""
    issuer, roles = insider.room_key, parse_roles(["member"])
    unsigned = Certificate(
        insider.room_id, insider.key.public, Kind.NODE, roles, ends - 10**6, ends, issuer.public
    )
    insider.chain = (unsigned.signed_by(issuer),)
    return insider


async def test_credentials_end_with_the_membership(lending, insiders):
    ends = int(time.time()) + 10**5
    insider = member_until(insiders[0], ends)
    _, welcome = await insider.enter(lending)
    lending.tracker._turn._auth.wall = lambda: ends - 90.0
    said = json.loads((await ask(lending, insider, welcome["session"]))[1])
    assert said["ttl"] == 90
    assert said["username"].startswith(f"{ends}:")
    lending.tracker._turn._auth.wall = lambda: ends + 1.0
    assert (await ask(lending, insider, welcome["session"]))[0] == 401


def test_the_secret_shows_in_no_repr():
    made = make_credentials(SETTINGS, NODE, 60, time.time())
    assert made.password not in repr(made)
    assert "s3cret" not in repr(SETTINGS)


# A real relay


@pytest.fixture
def relay(program, tmp_path):
    with turn_server(program("turnserver"), tmp_path / "coturn.log", "s3cret") as uri:
        yield uri


@asynccontextmanager
async def allocated(uri: str, credentials: TurnCredentials):
    """Ask a relay for an address; yields it, and the client that it was given to."""
    host, port = uri.removeprefix("turn:").partition("?")[0].split(":")
    transport, _ = await turn.create_turn_endpoint(
        asyncio.DatagramProtocol,
        server_addr=(host, int(port)),
        username=credentials.username,
        password=credentials.password,
    )
    inner = transport._TurnTransport__inner_protocol
    try:
        yield transport.get_extra_info("sockname"), inner
    finally:
        await inner.delete()


def lent(uri: str, secret: bytes = b"s3cret", now: float | None = None) -> TurnCredentials:
    settings = TurnSettings((uri,), secret, 600)
    return make_credentials(settings, NODE, 1e9, time.time() if now is None else now)


@pytest.mark.interop
async def test_real_relay_takes_valid_credentials(relay, tmp_path):
    async with allocated(relay, lent(relay)) as ((host, port), _):
        assert host == "127.0.0.1"
        assert port > 0
    # Who it was stands in the relay's log.
    assert f":{NODE.hex()[:8]}>" in (tmp_path / "coturn.log").read_text()


@pytest.mark.interop
async def test_real_relay_refuses_expired_credentials_and_those_of_another_secret(relay):
    for bad in (lent(relay, now=time.time() - 601), lent(relay, secret=b"another")):
        with pytest.raises(stun.TransactionFailed, match="401"):
            async with allocated(relay, bad):
                pass


@contextmanager
def sample_relay(binary: str, root: Path):
    """Run coturn with the sample configuration, changed only where this machine demands it."""
    port = free_port()
    text = SAMPLE.read_text().replace("CHANGE-ME", "s3cret")
    (root / "turnserver.conf").write_text(text)
    argv = [
        *(binary, "-c", str(root / "turnserver.conf"), f"--listening-port={port}"),
        *("--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--log-file=stdout", "--verbose"),
        *(f"--pidfile={root / 'pid'}", f"--userdb={root / 'db'}"),
    ]
    with Process(argv, root / "coturn.log") as process:
        process.start(rf"UDP listener opened on: 127\.0\.0\.1:{port}")
        yield f"turn:127.0.0.1:{port}?transport=udp"


@pytest.mark.interop
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.9.9",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
    ],
)
async def test_sample_relay_reaches_nothing_behind_it(program, tmp_path, address):
    with sample_relay(program("turnserver"), tmp_path) as uri:
        said = (tmp_path / "coturn.log").read_text()
        assert "Bad configuration format" not in said
        assert "Unknown" not in said
        assert await permission(uri, lent(uri), address) == 403
        assert await permission(uri, lent(uri), "203.0.113.7") is None


async def permission(uri: str, credentials: TurnCredentials, peer: str) -> int | None:
    """Ask a relay for a channel to a peer; return the number that it refuses with."""
    async with allocated(uri, credentials) as (_, inner):
        try:
            await inner.channel_bind(0x4000, (peer, 9))
        except stun.TransactionFailed as error:
            return error.response.attributes["ERROR-CODE"][0]
        return None
