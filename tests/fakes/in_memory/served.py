"""The real API over a node in memory, on the sockets that a daemon has."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import asynccontextmanager
from pathlib import Path

from dreamer.daemon.places import find_places
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.local_socket import connect
from dreamer.daemon.rest.serve import serving
from in_memory.node import MemoryNode

WAIT_S = 10.0


class ServedNode:
    """The API over a MemoryNode, served by a loop of its own in a thread."""

    def __init__(self, home: Path, *, token: str | None = None, tcp: bool = False) -> None:
        self.home = home
        self.node = MemoryNode()
        self.token = token
        self.tcp: tuple[str, int] | None = ("127.0.0.1", 0) if tcp else None
        self.socket = find_places(home, "").socket
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> ServedNode:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._serving() as self.tcp:
            self._ready.set()
            await self._stop.wait()

    @asynccontextmanager
    async def _serving(self):
        app = make_app(self.node, self.token)
        async with serving(app, self.socket, tcp=self.tcp, drain_s=0.05) as address:
            yield address

    def connection(self, *, by_tcp: bool = False) -> http.client.HTTPConnection:
        if by_tcp:
            return http.client.HTTPConnection(*self.tcp, timeout=WAIT_S)
        made = http.client.HTTPConnection("dreamerd", timeout=WAIT_S)
        made.sock = connect(self.socket, WAIT_S)
        return made

    def call(self, method, path, body=None, headers=None, *, by_tcp=False):
        """Return status, headers and text of one request; ``body`` may be raw bytes."""
        status, answered, data = self.request(
            method, f"/dreamer/v1{path}", body, headers, by_tcp=by_tcp
        )
        return status, answered, data.decode()

    def request(self, method, path, body=None, headers=None, *, by_tcp=False):
        """Return status, headers and bytes of one request to any path of the daemon."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = self.connection(by_tcp=by_tcp)
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as answer:
                return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, *, by_tcp=False):
        """Return status and parsed JSON of one request."""
        status, _, text = self.call(method, path, body, headers, by_tcp=by_tcp)
        return status, json.loads(text)
