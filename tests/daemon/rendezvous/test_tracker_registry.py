"""Registries as trackers that are full, or no trackers, serve them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from dreamer.daemon.rendezvous.registry import TrackerRegistry
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, RemoteError
from dreamer.protocol.ids import RoomId

ROOM = RoomId(b"r" * 32)


@asynccontextmanager
async def answering(status: int = 200, body: bytes = b"{}", **headers: str):
    """A registry at a server that gives one answer to everything."""

    async def answer(_request: web.Request) -> web.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=sent)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as http:
            yield TrackerRegistry(http, f"http://127.0.0.1:{runner.addresses[0][1]}", ROOM)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("etag", ["", "é", "\udcff", '"' + "x" * 200 + '"'])
async def test_etag_that_no_header_can_hold_is_refused(etag):
    async with answering(ETag=etag) as registry:
        for _ in range(2):
            with pytest.raises(RemoteError, match="no usable ETag"):
                await registry.read("token")
        with pytest.raises(RemoteError, match="no usable ETag"):
            await registry.write("token", b"{}", None)


async def test_body_that_is_not_what_its_header_says_is_refused():
    async with answering(body=b"not gzip", ETag='"1"', Content_Encoding="gzip") as registry:
        with pytest.raises(RemoteError, match="can't reach tracker"):
            await registry.read("token")


async def test_endless_body_is_refused(monkeypatch):
    monkeypatch.setattr("dreamer.daemon.rendezvous.registry.TRACKER_REGISTRY_MAX_BYTES", 100)
    async with answering(body=b"x" * 101, ETag='"1"') as registry:
        with pytest.raises(RemoteError, match="too large to be one"):
            await registry.read("token")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (507, RemoteError, r"refuses: full \[31mup"),
        (500, RemoteError, r"HTTP 500: full \[31mup"),
        (403, ForbiddenError, r"refuses: full \[31mup"),
        (413, InputError, r"can't take this registry: full \[31mup"),
        (412, ConflictError, "read it again"),
        (401, RemoteError, "logged out"),
    ],
)
async def test_refusal_is_told_without_its_control_characters(status, kind, message):
    async with answering(status, b"full\x1b[31mup") as registry:
        with pytest.raises(kind, match=message):
            await registry.write("token", b"{}", None)


async def test_tracker_that_does_not_answer_in_time_is_given_up(monkeypatch):
    monkeypatch.setattr("dreamer.daemon.rendezvous.registry.TRACKER_REQUEST_TIMEOUT_S", 0.05)

    ended: asyncio.Queue[None] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # It takes every request, and that is all.
        while await reader.read(65_536):
            pass
        writer.close()
        ended.put_nowait(None)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as http:
        registry = TrackerRegistry(http, f"http://127.0.0.1:{port}", ROOM)
        for request in (registry.read("token"), registry.write("token", b"{}", None)):
            with pytest.raises(RemoteError, match="can't reach tracker"):
                await request
            async with asyncio.timeout(10):
                await ended.get()
