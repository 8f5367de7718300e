"""The head of a connection's first request: does it open a public websocket, and how is it told?

Only what is plainly an upgrade at an address of the public protocol is answered from here. Anything
else, a malformed head too, is left to aiohttp, which serves the rest of HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

PATHS = (b"/announce", b"/")
HEAD_END = b"\r\n\r\n"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_VERSION = b"13"
_BARE = re.compile(rb"[\r\n\0]")


@dataclass(frozen=True)
class Opening:
    """The answer to an upgrade; ``accepted`` tells whether a websocket follows."""

    accepted: bool
    response: bytes


def opening(head: bytes) -> Opening | None:
    """Return the answer to a request head (up to its empty line); None: not for us.

    The rules are those of RFC 6455, sections 4.2.1 and 4.2.2. Extensions and subprotocols that a
    client offers are passed over, so none is ever in use.
    """
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or parts[0] != b"GET" or parts[2] != b"HTTP/1.1":
        return None
    if parts[1].partition(b"?")[0] not in PATHS:
        return None
    headers = headers_of(lines[1:])
    if headers is None or not _upgrades(headers):
        return None
    if headers.get(b"sec-websocket-version") != _VERSION:
        text = "this tracker speaks version 13 of the WebSocket protocol (RFC 6455)\n"
        return Opening(False, refusal(426, "Upgrade Required", text, "Sec-WebSocket-Version: 13"))
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        return Opening(False, refusal(400, "Bad Request", "Sec-WebSocket-Key isn't 16 bytes\n"))
    return Opening(True, _SWITCH % _accept(key))


def refusal(status: int, reason: str, text: str, header: str = "") -> bytes:
    """Return a whole response in plain text, after which the connection is closed."""
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text.encode())}",
        "Connection: close",
        *([header] if header else []),
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + text).encode()


_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


def headers_of(lines: list[bytes]) -> dict[bytes, bytes] | None:
    """Return the headers by their names in lower case; None: they aren't plainly written."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # A space before the colon, or at the start of a folded line, has been used to smuggle.
        # So has what ends a line for some readers and not for others (RFC 9112, section 2.2).
        if not colon or not name or name != name.strip() or _BARE.search(line):
            return None
        name, value = name.lower(), value.strip()
        # Repeated, a header is a list (RFC 9110, section 5.3); what may not be one is refused so.
        headers[name] = headers[name] + b"," + value if name in headers else value
    return headers


def _upgrades(headers: dict[bytes, bytes]) -> bool:
    # A body would be taken for frames.
    if b"content-length" in headers or b"transfer-encoding" in headers:
        return False
    return (
        b"websocket" in _tokens(headers.get(b"upgrade", b""))
        and b"upgrade" in _tokens(headers.get(b"connection", b""))
        and b"," not in headers.get(b"host", b",")
    )


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
