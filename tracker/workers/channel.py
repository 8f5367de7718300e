"""What the main process and a worker say to each other: one message, one packet.

They are joined by a pair of AF_UNIX sockets of type SOCK_SEQPACKET: packets stay whole, in order,
may carry a file descriptor (SCM_RIGHTS), and the end of either process is the end of the channel.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from dreamer.protocol.tracker_limits import WORKER_HANDOVER_MAX_BYTES, WORKER_NOTE_MAX_BYTES

_PACKET_MAX_BYTES = max(WORKER_HANDOVER_MAX_BYTES, WORKER_NOTE_MAX_BYTES) + 1024

SUPPORTED = hasattr(socket, "SOCK_SEQPACKET") and hasattr(socket, "send_fds")


class Begin(Struct, array_like=True, tag="begin"):
    """The first word of the main process: where the other processes are to be found."""

    redis: str


class Serve(Struct, array_like=True, tag="serve"):
    """A connection, whose descriptor comes along; ``data`` was read from it before."""

    number: int
    data: bytes


class Ready(Struct, array_like=True, tag="ready"):
    """The worker can serve."""


class Report(Struct, array_like=True, tag="report"):
    """How a worker is doing: its counts, and which connections have ended since the last one."""

    counts: dict[str, int]
    ended: list[int]


Note = Begin | Serve | Ready | Report

_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Note).decode


class ClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end. Nothing here waits: whoever can't be told anything now is told nothing."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor to watch for incoming notes."""
        return self._end.fileno()

    def send(self, note: Note, descriptor: int | None = None) -> bool:
        """Send a note, with a descriptor or without; False: it didn't go, now or ever."""
        try:
            if descriptor is None:
                self._end.send(_write(note))
            else:
                socket.send_fds(self._end, [_write(note)], [descriptor])
        except OSError:
            return False
        return True

    def receive(self) -> Iterator[tuple[Note, int | None]]:
        """Yield what has come; a descriptor that comes along is the caller's to close.

        Raises:
            ClosedError: the other side is gone, or talks nonsense.
        """
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._end, _PACKET_MAX_BYTES, 1)
            except BlockingIOError:
                return
            except OSError as error:
                raise ClosedError from error
            descriptor = descriptors[0] if descriptors else None
            try:
                note = _read(packet)
            except msgspec.DecodeError as error:
                # An empty packet is the end of the channel.
                if descriptor is not None:
                    os.close(descriptor)
                raise ClosedError from error
            yield note, descriptor

    def close(self) -> None:
        """Let go of this end; the other side notices."""
        with contextlib.suppress(OSError):
            self._end.close()


def pair() -> tuple[Channel, socket.socket]:
    """Return the main process' end of a new channel, and the socket to give to a worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs
