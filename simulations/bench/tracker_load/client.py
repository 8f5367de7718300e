"""One client of a tracker: a raw protocol over one connection, no more than the bench needs."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from dreamer.simulations.bench.tracker_load import frames

if TYPE_CHECKING:
    from dreamer.simulations.bench.tracker_load.crowd import Announce
    from dreamer.simulations.bench.tracker_load.messages import Names

CONNECT_TIMEOUT_S = 30.0
_END_OF_HEAD = b"\r\n\r\n"

# Client, what has come, where the text begins and ends in it, when it came (perf_counter).
Take = Callable[["Client", bytes, int, int, float], None]


class ConnectError(RuntimeError):
    """The tracker didn't accept a connection."""


@dataclass(frozen=True)
class Address:
    """Where a tracker's websocket is: ``host``, ``port``, ``path``; over TLS if ``secure``."""

    host: str
    port: int
    path: str
    secure: bool

    @staticmethod
    def of(url: str) -> Address:
        """Return the address that a ws, wss, http or https URL names; its path or ``/announce``."""
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        secure = parts.scheme in ("wss", "https")
        path = parts.path if parts.path not in ("", "/") else "/announce"
        return Address(
            parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80), path, secure
        )

    @property
    def url(self) -> str:
        """The address as a URL."""
        return f"{'wss' if self.secure else 'ws'}://{self.host}:{self.port}{self.path}"


class Client(asyncio.Protocol):
    """Sends whole frames; gives every text that arrives to ``take``, with the time it arrived."""

    __slots__ = ("_rest", "_take", "announces", "index", "lost", "names", "opened", "transport")

    transport: asyncio.Transport
    # Who it is in its crowd, and its announces that have no reply yet.
    index: int
    names: Names

    def __init__(self, take: Take) -> None:
        self._take = take
        self._rest = b""
        self.announces: deque[Announce] = deque()
        self.lost = False
        self.opened: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's is one in all but the name.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the loss; whoever waits for the upgrade is told."""
        self.lost = True
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(ConnectError(f"the tracker hung up: {exc or 'no reason'}"))

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole; keep the rest."""
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        at = 0 if self.opened is None else self._upgraded(data)
        while at >= 0 and (found := frames.span(data, at)) is not None:
            start, stop = found
            if stop > len(data):
                break
            if data[at] == frames.FINAL | frames.TEXT:
                self._take(self, data, start, stop, now)
            else:
                self._control(data[at], data[start:stop])
            at = stop
        self._rest = data[max(at, 0) :]

    def _upgraded(self, data: bytes) -> int:
        head = data.find(_END_OF_HEAD)
        assert self.opened is not None
        if head < 0:
            return -1
        status = data[: data.find(b"\r\n")]
        if b" 101 " in status + b" ":
            self.opened.set_result(None)
        elif not self.opened.done():
            self.opened.set_exception(ConnectError(f"no upgrade: {status.decode('latin-1')}"))
        self.opened = None
        return head + len(_END_OF_HEAD)

    def _control(self, first: int, payload: bytes) -> None:
        match first & 0x0F:
            case frames.PING:
                self.transport.write(frames.frame(frames.PONG, payload))
            case frames.CLOSE:
                self.transport.close()
            case frames.PONG:
                pass
            case opcode:
                raise ConnectError(f"the bench doesn't read frames of kind {opcode}")


def upgrade_request(address: Address) -> bytes:
    """Return the request that opens a websocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {address.path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


async def connect(address: Address, take: Take, source: str | None) -> Client:
    """Open a websocket, from the local address ``source`` if there is one.

    Raises:
        ConnectError: the tracker refuses, or doesn't answer.
    """
    loop = asyncio.get_running_loop()
    secure = ssl.create_default_context() if address.secure else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, client = await loop.create_connection(
                lambda: Client(take),
                address.host,
                address.port,
                ssl=secure,
                local_addr=(source, 0) if source else None,
            )
            opened = client.opened
            client.transport.write(upgrade_request(address))
            if opened is not None:
                await opened
    except (OSError, TimeoutError) as error:
        raise ConnectError(f"can't connect to {address.host}:{address.port}: {error}") from error
    return client
