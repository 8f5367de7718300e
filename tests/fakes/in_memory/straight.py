"""A client of the socket every byte of which is ours, and what its server does meanwhile."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time

from in_memory.oip import HEADER_LENGTH, one, tensor
from in_memory.served import ServedNode

WAIT_S = 10.0
LINES = {
    "Host": "localhost",
    "Content-Type": "application/octet-stream",
    "Content-Length": "5",
}


def head(path: str = "/v2/models/echo/infer", **more: str | None) -> bytes:
    fields = LINES | {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


def request(*values: float, model: str = "echo", **more: str | None) -> bytes:
    data = struct.pack(f"<{len(values)}f", *values)
    asked = one(tensor("FP32", [1, len(values)], binary_data_size=len(data)))
    text = json.dumps(asked | {"parameters": {"binary_data_output": True}}).encode()
    sizes = {"Content-Length": str(len(text + data)), HEADER_LENGTH: str(len(text))}
    return head(f"/v2/models/{model}/infer", **(sizes | more)) + text + data


class Client:
    """A connection of which every byte is ours."""

    def __init__(self, served: ServedNode) -> None:
        self.end = served.connection().sock
        self._got = b""

    def send(self, data: bytes) -> None:
        self.end.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._got:
            self._more()
        told, _, self._got = self._got.partition(b"\r\n\r\n")
        first, *lines = told.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        while len(self._got) < int(headers["Content-Length"]):
            self._more()
        size = int(headers["Content-Length"])
        body, self._got = self._got[:size], self._got[size:]
        return int(first.split()[1]), headers, body

    def values(self) -> tuple[float, ...]:
        status, headers, body = self.answer()
        assert status == 200, body
        data = body[int(headers[HEADER_LENGTH]) :]
        return struct.unpack(f"<{len(data) // 4}f", data)

    def ended(self) -> bool:
        return self.end.recv(1) == b""

    def _more(self) -> None:
        came = self.end.recv(65_536)
        assert came, f"the connection ended after {self._got!r}"
        self._got += came


class Waiting:
    """Inferences of a served node that wait until they are let go."""

    def __init__(self, served: ServedNode) -> None:
        self._served, self._infer = served, served.node.inference.infer
        self._go = asyncio.Event()
        self.begun, self.ended = threading.Event(), threading.Event()
        served.node.inference.infer = self._wait

    async def _wait(self, *asked: object):
        self.begun.set()
        try:
            await self._go.wait()
            return await self._infer(*asked)
        finally:
            self.ended.set()

    def go(self) -> None:
        on(self._served, self._go.set)


def on(served: ServedNode, act):
    """Return what ``act`` returns in the loop of a served node, after what it had to do."""
    done, told = threading.Event(), []

    def now() -> None:
        told.append(act())
        done.set()

    served._loop.call_soon_threadsafe(now)
    assert done.wait(WAIT_S)
    return told[0]


def until(served: ServedNode, true) -> None:
    """Wait until something is true in the loop of a served node."""
    deadline = time.monotonic() + WAIT_S
    while not on(served, true):
        assert time.monotonic() < deadline


def by_framework(headers: dict[str, str]) -> bool:
    return "Server" in headers
