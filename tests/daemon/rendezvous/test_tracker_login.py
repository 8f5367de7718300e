"""What a login is signed over, and a tracker that uses ours to pass for us at another."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from dreamer.daemon.rendezvous.events import TrackerDown
from dreamer.daemon.rendezvous.login import dialled


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://t.lab:8470", "t.lab:8470"),
        ("http://T.Lab:8470/team", "t.lab:8470"),
        ("http://t.lab:80", "t.lab"),
        ("https://t.lab:443/x", "t.lab"),
        ("https://t.lab:80", "t.lab:80"),
        ("https://t.lab:8443", "t.lab:8443"),
        ("http://[::1]:8470", "[::1]:8470"),
        ("http://[::80]", "[::80]"),
    ],
)
def test_what_was_dialled_is_written_as_in_the_host_header(url, host):
    assert dialled(url) == host


async def test_host_header_says_what_the_login_is_signed_for(node_at, scripted):
    heard: asyncio.Queue = asyncio.Queue()

    async def script(ws) -> None:
        await ws.send_json({"type": "challenge", "nonce": "00" * 32})
        heard.put_nowait(await ws.receive_json(timeout=5))

    async with (
        scripted(script) as url,
        node_at(url.replace("127.0.0.1", "LOCALHOST")).running(wait=False),
    ):
        said = await asyncio.wait_for(heard.get(), 5)
    assert said["tracker"] == url.replace("http://127.0.0.1", "localhost")


async def test_login_passed_on_by_another_tracker_is_refused(node_at, make_node, scripted, http):
    """The one in the middle hands on the challenge and the answer, word for word."""
    victim = make_node(1)
    there = victim.session.url

    async def relay(ws: web.WebSocketResponse) -> None:
        async with http.ws_connect(f"{there}/room") as onward:
            await ws.send_str(await onward.receive_str(timeout=5))
            await onward.send_str(await ws.receive_str(timeout=5))
            await ws.send_str(await onward.receive_str(timeout=5))

    async with scripted(relay) as evil:
        node = node_at(evil)
        async with node.running(wait=False):
            reason = (await node.next(TrackerDown)).reason
    assert f"this login is for tracker {evil.removeprefix('http://')}" in reason


async def test_name_written_unusually_is_signed_as_it_is_sent(node_at, tracker_url):
    """HTTP clients may tidy a name up (here: the port's zero) on its way into the header."""
    async with node_at(tracker_url.replace("0.0.1:", "0.0.1:0")).running() as node:
        assert node.session.connected


async def test_tracker_that_is_crowded_is_told_apart_and_tried_again(node_at):
    tries = 0

    async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    async with server:
        node = node_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with node.running(wait=False):
            for _ in range(2):
                reason = (await node.next(TrackerDown)).reason
                assert "too many nodes log in from this address" in reason
    assert tries >= 2
