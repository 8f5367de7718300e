"""A client of a node's APIs over its Unix socket that takes next to no processor time itself.

What comes is stamped and kept as it is; it is taken apart after the last byte. A client from PyPI
would take more of the two cores than some of what is measured.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

TIMEOUT_S = 300.0
BINARY_HEADER = "Inference-Header-Content-Length"
JSON_HEADERS = {"Content-Type": "application/json"}

_SUCCESS = b"HTTP/1.1 200 "
_EVENT = b"data: {"
_LAST_CHUNK = b"0\r\n\r\n"
_BUFFER_BYTES = 1 << 16


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: Path) -> None:
        """Speak to the socket at ``path``."""
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = str(path)

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Streamed:
    """One answer that came in pieces; ``at`` is when each came (monotonic)."""

    asked: float
    at: list[float]
    text: str
    tokens: int
    prompt_tokens: int

    @property
    def first_token_s(self) -> float:
        """Seconds from the request to the first piece."""
        return self.at[0] - self.asked

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (self.tokens - 1) / (self.at[-1] - self.at[0])


def chat(path: Path, model: str, prompt: str, tokens: int, seen: list[float]) -> Streamed:
    """Ask for a greedy answer over ``/v1/chat/completions``; arrivals go into ``seen`` at once."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = UnixConnection(path)
    asked = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), JSON_HEADERS)
    stream = _stamped(connection.sock, seen)
    connection.close()
    lines = [line for line in _unchunked(stream).split(b"\n") if line.startswith(_EVENT)]
    return _parsed(asked, seen, lines)


def _stamped(end: socket.socket, seen: list[float]) -> bytes:
    """Return an answer as it comes, to its last chunk; ``seen`` gets when each event of it came."""
    came, searched = bytearray(), 0
    while not came.endswith(_LAST_CHUNK):
        if not (piece := end.recv(_BUFFER_BYTES)):
            break
        now = time.monotonic()
        came += piece
        if not came.startswith(_SUCCESS[: len(came)]):
            break
        while (at := came.find(_EVENT, searched)) >= 0:
            seen.append(now)
            searched = at + len(_EVENT)
    return bytes(came)


def _unchunked(answer: bytes) -> bytes:
    """Return the body of an answer in chunks.

    Raises:
        RuntimeError: it is none, or no success.
    """
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(_SUCCESS) or not rest.endswith(_LAST_CHUNK):
        raise RuntimeError(answer.decode(errors="replace")[:500])
    body = []
    while rest != _LAST_CHUNK:
        size, _, rest = rest.partition(b"\r\n")
        end = int(size, 16)
        body.append(rest[:end])
        rest = rest[end + len(b"\r\n") :]
    return b"".join(body)


def _parsed(asked: float, seen: list[float], lines: list[bytes]) -> Streamed:
    at, pieces, usage = [], [], None
    for when, line in zip(seen, lines, strict=True):
        chunk = json.loads(line.removeprefix(b"data: "))
        if "error" in chunk:
            raise RuntimeError(str(chunk["error"]))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            if piece := choice["delta"].get("content"):
                at.append(when)
                pieces.append(piece)
    if usage is None or not at:
        raise RuntimeError(f"an answer without text or usage: {lines[-1:]}")
    counts = usage["completion_tokens"], usage["prompt_tokens"]
    return Streamed(asked, at, "".join(pieces), *counts)


def post(connection: UnixConnection, path: str, value: Any) -> bytes:
    """Post JSON and return the answer's body."""
    return _post(connection, path, json.dumps(value).encode()).read()


def _post(connection: UnixConnection, path: str, body: bytes) -> http.client.HTTPResponse:
    connection.request("POST", path, body, JSON_HEADERS)
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        raise RuntimeError(f"{path}: {response.status} {response.read().decode()[:300]}")
    return response
