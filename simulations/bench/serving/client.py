"""A client of a node's APIs over its Unix socket that takes next to no processor time itself.

What comes is stamped and kept; it is parsed after the last byte. A client from PyPI would take
more of the two cores than some of what is measured.
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
    connection, lines = UnixConnection(path), []
    asked = time.monotonic()
    response = _post(connection, "/v1/chat/completions", json.dumps(body).encode())
    while line := response.readline():
        if line.startswith(b"data: {"):
            seen.append(time.monotonic())
            lines.append(line)
    connection.close()
    return _parsed(asked, seen, lines)


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
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        raise RuntimeError(f"{path}: {response.status} {response.read().decode()[:300]}")
    return response
