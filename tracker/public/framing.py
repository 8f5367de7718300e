"""WebSocket frames as a server reads and writes them (RFC 6455), without I/O.

Why of our own: a tracker holds ten thousands of sockets that say something every two minutes, so
what counts is what an idle one costs. Measured at 10,000 sockets that had each sent one message of
7.5 KB: the sans-IO half of ``websockets`` 17.4 keeps 12.7 KB a socket, ``picows`` 2.3 27.9 KB (its
read buffer grows to the largest frame and stays so), aiohttp 25 KB, this 2 KB with the transport.
Nothing is kept here but the pieces of a frame or message that isn't complete yet.

Compression is never negotiated, so every RSV bit is a mistake (section 5.2). A length that could be
said in fewer bytes is read all the same, as other servers do: no harm comes of it.
"""

from __future__ import annotations

from struct import Struct

from dreamer.protocol.errors import RemoteProtocolError


def unmask_slowly(mask: bytes, data: bytearray) -> None:
    """Take the mask off, in place (section 5.3): for where there is nothing in C to do it."""
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    data[:] = (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


try:
    # In C, and in place: thirty times faster than what Python's integers can do.
    from aiohttp._websocket.helpers import websocket_mask as _unmask
except ImportError:
    # It is no part of what aiohttp promises to keep.
    _unmask = unmask_slowly


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, INVALID_TEXT, POLICY, TOO_BIG = (
    1000, 1001, 1002, 1005, 1007, 1008, 1009,
)  # fmt: skip
"""Why a connection is closed (section 7.4.1). ``NO_CODE`` is never sent."""

_FIN, _RSV, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_USUAL = _FIN | TEXT
_CONTROL = 0x8
_CONTROL_MAX_BYTES = 125
_MASK_BYTES = 4
_HEAD, _HEAD_16, _HEAD_64 = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")

Message = tuple[int, bytearray]
"""What kind it is (an opcode) and its payload. A ``CONTINUATION`` is a piece of a message that
isn't complete: nothing to act on, but it counts for whoever limits how much is sent."""

_PIECE: Message = (CONTINUATION, bytearray())


class FramingError(RemoteProtocolError):
    """The client broke RFC 6455; ``status`` is what to close the connection with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class FrameReader:
    """Turns the bytes that a client sends into messages, however they are cut up.

    ``next`` hands out one at a time, so that a caller can stop in the middle of a flood.
    """

    __slots__ = ("_at", "_kind", "_max_bytes", "_pieces", "rest")

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes`` bounds a message, in one frame or in several."""
        self._max_bytes = max_bytes
        self.rest: bytes | bytearray = b""
        """What has arrived and may hold more; empty when all of it is handed out."""
        self._at = 0
        self._kind = CONTINUATION
        self._pieces: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.rest:
            self._keep_rest()
            self.rest += data
        else:
            self.rest = data

    def next(self) -> Message | None:
        """Return the next message, None until more is fed.

        Raises:
            FramingError: what comes next isn't RFC 6455; nothing after it can be read.
        """
        frame = self._frame()
        if frame is None:
            return None
        first, payload = frame
        kind = first & _OPCODE
        if kind & _CONTROL:
            return kind, payload
        if kind == CONTINUATION:
            return self._continue(payload, first & _FIN)
        if self._pieces is not None:
            raise FramingError(PROTOCOL_ERROR, "a new message before the last one has ended")
        if first & _FIN:
            return _checked(kind, payload)
        self._kind, self._pieces = kind, payload
        return _PIECE

    def _continue(self, payload: bytearray, last: int) -> Message:
        pieces = self._pieces
        if pieces is None:
            raise FramingError(PROTOCOL_ERROR, "a continuation of nothing")
        pieces += payload
        if not last:
            return _PIECE
        self._pieces = None
        return _checked(self._kind, pieces)

    def _frame(self) -> tuple[int, bytearray] | None:
        data, at = self.rest, self._at
        if len(data) < at + 2:
            self._keep_rest()
            return None
        first, second, start = data[at], data[at + 1], at + 2
        length = second & _LENGTH
        if length >= _LENGTH_16:
            start += 2 if length == _LENGTH_16 else 8
            length = int.from_bytes(data[at + 2 : start], "big")
        size = len(data)
        # Before the frame is complete: a wrong one isn't waited for.
        if size >= start and (first != _USUAL or second < _MASKED or length > self._max_bytes):
            self._check(first, second, length)
        start += _MASK_BYTES
        end = start + length
        if size < end:
            self._keep_rest()
            return None
        payload = bytearray(data[start:end])
        _unmask(bytes(data[start - _MASK_BYTES : start]), payload)
        if end == size:
            self.rest, self._at = b"", 0
        else:
            self._at = end
        return first, payload

    def _check(self, first: int, second: int, length: int) -> None:
        opcode = first & _OPCODE
        if first & _RSV:
            raise FramingError(PROTOCOL_ERROR, "a reserved bit is set")
        if not second & _MASKED:
            raise FramingError(PROTOCOL_ERROR, "clients must mask their frames")
        if opcode & _CONTROL:
            if opcode > PONG or not first & _FIN or length > _CONTROL_MAX_BYTES:
                raise FramingError(PROTOCOL_ERROR, "a control frame that can't be")
        elif opcode > BINARY:
            raise FramingError(PROTOCOL_ERROR, "unknown opcode")
        elif length + (len(self._pieces) if self._pieces else 0) > self._max_bytes:
            raise FramingError(TOO_BIG, f"send {self._max_bytes} bytes at most")

    def _keep_rest(self) -> None:
        # A frame may come in very many bits: a bytearray takes each without copying the others.
        if isinstance(self.rest, bytearray):
            del self.rest[: self._at]
        elif self._at < len(self.rest):
            self.rest = bytearray(self.rest[self._at :])
        else:
            self.rest = b""
        self._at = 0


def _checked(kind: int, payload: bytearray) -> Message:
    if kind == TEXT and not is_utf8(payload):
        raise FramingError(INVALID_TEXT, "a text that isn't UTF-8")
    return kind, payload


def is_utf8(data: bytes | bytearray) -> bool:
    """Return whether these bytes are text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_frame(text: bytes) -> bytes:
    """Return a message of text as one frame: the quick way for nearly all that is sent."""
    size = len(text)
    if _LENGTH_16 <= size < 1 << 16:
        return _HEAD_16.pack(_FIN | TEXT, _LENGTH_16, size) + text
    return frame(TEXT, text)


def frame(kind: int, payload: bytes) -> bytes:
    """Return a message as one frame of a server's, which has no mask."""
    size = len(payload)
    if size < _LENGTH_16:
        return _HEAD.pack(_FIN | kind, size) + payload
    if size < 1 << 16:
        return _HEAD_16.pack(_FIN | kind, _LENGTH_16, size) + payload
    return _HEAD_64.pack(_FIN | kind, _LENGTH_64, size) + payload


def close_code(payload: bytes | bytearray) -> int:
    """Return what a client's close frame says, ``NO_CODE`` when it says nothing.

    Raises:
        FramingError: it says what no client may (section 7.4).
    """
    if not payload:
        return NO_CODE
    code = int.from_bytes(payload[:2], "big")
    # 1004 to 1006 and 1015 stand for what no frame says; 3000 and above are free for applications.
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    if len(payload) < 2 or not (known or 3000 <= code <= 4999):
        raise FramingError(PROTOCOL_ERROR, "a close code that can't be")
    if not is_utf8(payload[2:]):
        raise FramingError(INVALID_TEXT, "a reason that isn't UTF-8")
    return code
