"""Trackers that are absent, something else, silent, or lie."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from dreamer.daemon.rendezvous import messages
from dreamer.daemon.rendezvous.events import MemberPresent, SignalReceived, TrackerDown, TrackerUp
from dreamer.daemon.rendezvous.messages import Holders
from dreamer.protocol.errors import ForbiddenError, RemoteError
from dreamer.protocol.ids import InfoHash, NodeId
from dreamer.protocol.limits import CROWD_COMMITTEE
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import (
    TRACKER_BACKOFF_MAX_S,
    TRACKER_RETURN_S,
    TRACKER_ROOM_MAX_MEMBERS,
    TRACKER_SEEK_MAX_NODES,
)

SWARM = InfoHash(b"s" * 20)


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def welcome(ws) -> None:
    await ws.send_json({"type": "challenge", "nonce": "00" * 32})
    assert (await ws.receive_json(timeout=5))["type"] == "login"
    await ws.send_json({"type": "welcome", "session": "token", "members": []})


async def test_tracker_that_is_not_there_says_what_to_check(node_at):
    node = node_at(unused_url())
    async with node.running(wait=False):
        with pytest.raises(RemoteError, match="check that dreamer-tracker runs there") as caught:
            await node.session.wait_connected(0.3)
        assert f"can't reach tracker {node.session.url}: " in str(caught.value)
        for call in (node.session.read_registry(), node.session.signal(node.node_id, {})):
            with pytest.raises(RemoteError, match="check that dreamer-tracker runs there"):
                await call
        with pytest.raises(RemoteError):
            await node.session.seek(SWARM)


async def test_tracker_that_comes_up_later_is_found(node_at, scripted):
    tries = 0

    async def script(ws) -> None:
        nonlocal tries
        tries += 1
        if tries > 3:
            await welcome(ws)
            await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running():
            assert isinstance(await node.next(TrackerDown), TrackerDown)
            assert tries == 4


async def test_another_kind_of_server_is_told_apart(node_at, tracker_url):
    node = node_at(tracker_url + "/stats")
    async with node.running(wait=False):
        assert "HTTP 404" in (await node.next(TrackerDown)).reason


@pytest.mark.parametrize("first", ["hello", "{}", '{"type":"challenge","nonce":"00"}', "[" * 9999])
async def test_server_that_speaks_otherwise_is_told_apart(node_at, scripted, first):
    async def script(ws) -> None:
        await ws.send_str(first)
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running(wait=False):
            assert "is it a dreamer-tracker?" in (await node.next(TrackerDown)).reason


async def test_silent_tracker_is_given_up(node_at, scripted, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.rendezvous.login.TRACKER_CONNECT_TIMEOUT_S", 0.1)

    async def script(ws) -> None:
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running(wait=False):
            assert "no welcome" in (await node.next(TrackerDown)).reason


async def test_refusal_is_not_hammered(node_at, scripted):
    logins = 0

    async def script(ws) -> None:
        nonlocal logins
        logins += 1
        await ws.send_json({"type": "challenge", "nonce": "00" * 32})
        await ws.receive_json(timeout=5)
        await ws.send_json({"type": "refused", "code": "used", "message": "used\x1b[31m up"})

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running(wait=False):
            for _ in range(3):
                with pytest.raises(ForbiddenError, match=r"used \[31m up"):
                    await node.session.wait_connected(5)
            assert logins == 1


async def test_full_room_is_tried_again(node_at, scripted):
    logins = 0

    async def script(ws) -> None:
        nonlocal logins
        logins += 1
        if logins > 2:
            await welcome(ws)
            await ws.receive()
        await ws.send_json({"type": "challenge", "nonce": "00" * 32})
        await ws.receive_json(timeout=5)
        await ws.send_json({"type": "refused", "code": "full", "message": "full"})

    async with scripted(script) as url:
        async with node_at(url).running() as node:
            assert node.session.connected
        assert logins == 3


async def test_junk_is_ignored_until_it_is_too_much(node_at, scripted):
    async def script(ws) -> None:
        await welcome(ws)
        for junk in ("{", "[]", '{"type":"joined"}', '{"type":"signal","from":1}', "null"):
            await ws.send_str(junk)
        await ws.send_bytes(b"\xff\xfe")
        await ws.send_json({"type": "a later version's", "x": 1})
        await ws.send_json({"type": "signal", "from": "ab" * 32, "body": {"n": 1}})
        for _ in range(200):
            await ws.send_str("junk")
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running():
            assert (await node.next(SignalReceived)).body == {"n": 1}
            assert "no tracker sends" in (await node.next(TrackerDown)).reason


async def test_owner_that_fails_at_an_event_goes_on_hearing_of_others(node_at, scripted, caplog):
    async def script(ws) -> None:
        await welcome(ws)
        for number in (1, 2):
            await ws.send_json({"type": "signal", "from": "ab" * 32, "body": {"n": number}})
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        hear = node.session._on_event

        def fail(event) -> None:
            hear(event)
            raise KeyError(type(event).__name__)

        node.session._on_event = fail
        async with node.running():
            assert isinstance(await node.next(TrackerUp), TrackerUp)
            assert [(await node.next(SignalReceived)).body["n"] for _ in (1, 2)] == [1, 2]
            assert node.session.connected
    assert "can't handle SignalReceived" in caplog.text


@pytest.mark.parametrize("size", [4096, 4097])
async def test_members_capabilities_are_bounded(node_at, scripted, size):
    capabilities = {"x": "y" * (size - len('{"x":""}'))}

    async def script(ws) -> None:
        await welcome(ws)
        said = {"type": "joined", "node": "cd" * 32, "capabilities": capabilities}
        await ws.send_json(said)
        await ws.send_json({"type": "signal", "from": "ab" * 32, "body": {}})
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running():
            await node.next(TrackerUp)
            first = await asyncio.wait_for(node.events.get(), 10)
    assert isinstance(first, MemberPresent if size == 4096 else SignalReceived)


async def test_message_beyond_all_bounds_ends_the_connection(node_at, scripted, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.rendezvous.login.TRACKER_ROOM_MESSAGE_MAX_BYTES", 4096)

    async def script(ws) -> None:
        await welcome(ws)
        await ws.send_json({"type": "signal", "from": "ab" * 32, "body": {"x": "y" * 5000}})
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running(wait=False):
            await node.next(TrackerUp)
            assert await node.next(TrackerDown)


async def test_invented_members_are_bounded(node_at, scripted):
    sent = TRACKER_ROOM_MAX_MEMBERS + 50

    async def script(ws) -> None:
        await welcome(ws)
        for number in range(sent):
            node = number.to_bytes(32, "big").hex()
            await ws.send_json({"type": "joined", "node": node, "capabilities": {}})
        await ws.send_json({"type": "signal", "from": "ab" * 32, "body": {}})
        await ws.receive()

    async with scripted(script) as url:
        node = node_at(url)
        async with node.running():
            present = 0
            while not isinstance(
                event := await asyncio.wait_for(node.events.get(), 10), SignalReceived
            ):
                present += isinstance(event, MemberPresent)
            assert present == TRACKER_ROOM_MAX_MEMBERS


async def test_seek_that_nobody_answers_fails_in_time(node_at, scripted, monkeypatch):
    monkeypatch.setattr("dreamer.daemon.rendezvous.session.TRACKER_SEEK_TIMEOUT_S", 0.05)

    async def script(ws) -> None:
        await welcome(ws)
        async for _ in ws:
            pass

    async with scripted(script) as url, node_at(url).running() as node:
        with pytest.raises(RemoteError, match="doesn't answer"):
            await node.session.seek(SWARM)
        assert node.session._seeks == {}


async def test_seek_fails_when_the_tracker_goes(node_at, scripted):
    async def script(ws) -> None:
        await welcome(ws)
        await ws.receive()

    async with scripted(script) as url, node_at(url).running() as node:
        with pytest.raises(RemoteError, match="no connection"):
            await node.session.seek(SWARM)


async def test_pauses_grow_to_their_ceiling(node_at):
    session = node_at("http://127.0.0.1:9").session
    pauses = [session._pause_s(failures) for failures in range(40)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(TRACKER_RETURN_S * 0.01)
    assert pauses[-1] == TRACKER_BACKOFF_MAX_S * 0.01


async def test_events_begin_with_tracker_up(make_node):
    async with make_node(1).running() as node:
        assert node.events.get_nowait() == TrackerUp()


@pytest.mark.parametrize(
    "said",
    [
        {"nodes": ["aa" * 32] * (TRACKER_SEEK_MAX_NODES + 1)},
        {"nodes": [], "committee": ["aa" * 32] * (CROWD_COMMITTEE + 1)},
        {"nodes": [], "committee": "aa" * 32},
        {"nodes": [], "committee": ["aa"]},
        {"nodes": [], "whole": -1},
        {"nodes": [], "whole": True},
    ],
)
def test_answers_out_of_bounds_are_junk(said):
    assert messages.parse(json.dumps({"type": "holders", "swarm": "00" * 20, **said})) is None


def test_what_an_older_tracker_does_not_say_is_as_if_there_were_none():
    said = {"type": "holders", "swarm": "00" * 20, "nodes": ["aa" * 32]}
    node = NodeId(b"\xaa" * 32)
    assert messages.parse(json.dumps(said)) == Holders(InfoHash(bytes(20)), Found((node,)))
    newer = messages.parse(json.dumps({**said, "whole": 9, "committee": ["aa" * 32], "more": 1}))
    assert newer == Holders(InfoHash(bytes(20)), Found((node,), (node,), (node,)))
