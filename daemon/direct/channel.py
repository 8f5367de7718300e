"""One direct connection that blocks flow over, one way, used by one thread.

Only the thread reads and writes: OpenSSL lets no two use a connection at once. All others may
``hang_up``, which ends whatever the thread waits for; the connection is closed behind the thread.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import DIRECT_BLOCK_TIMEOUT_S, DIRECT_STALL_TIMEOUT_S


class Channel:
    """A connection after its greeting. ``attempt`` is the number it was asked for by.

    ``moved_bytes`` counts payload, for whoever looks from another thread.
    """

    def __init__(self, sock: ssl.SSLSocket, attempt: int) -> None:
        self._sock = sock
        self.attempt = attempt
        self.moved_bytes = 0
        # Blocks are large and requests come over another connection: nothing is to wait for more.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor, to learn when the other end hangs up; -1 once it is closed."""
        return self._sock.fileno()

    def hang_up(self) -> None:
        """End the connection from any thread; it is closed once that one is through."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which would take TLS off below the thread that is using it.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, once no thread uses it."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def await_header(self, header: memoryview, due: Callable[[], bool]) -> bool:
        """Fill ``header`` once a block begins; return False at the end.

        ``due`` says whether a block is waited for: while none is, silence is no fault.

        Raises:
            OSError: the connection failed, or a block was due for twice
                ``DIRECT_STALL_TIMEOUT_S`` and nothing came.
        """
        silent = 0
        while True:
            self._sock.settimeout(DIRECT_STALL_TIMEOUT_S)
            try:
                got = self._sock.recv_into(header)
            except TimeoutError:
                # The first time it may have been asked for a moment ago.
                silent = silent + 1 if due() else 0
                if silent > 1:
                    raise
                continue
            if got:
                self.receive(header[got:])
            return got > 0

    def receive(self, data: memoryview) -> None:
        """Fill ``data`` with what comes.

        Raises:
            OSError: the connection failed, or nothing came for ``DIRECT_STALL_TIMEOUT_S``.
            RemoteProtocolError: it comes, but too slowly to be of use.
        """
        deadline = time.monotonic() + DIRECT_BLOCK_TIMEOUT_S
        got, size = 0, len(data)
        while got < size:
            count = self._sock.recv_into(data[got:])
            if not count:
                raise ConnectionError("it ended in the middle of a block")
            got += count
            self.moved_bytes += count
            if time.monotonic() > deadline:
                raise RemoteProtocolError(
                    f"a block took longer than {DIRECT_BLOCK_TIMEOUT_S:.0f} s"
                )

    def send(self, data: memoryview) -> None:
        """Send all of ``data``; a peer must take a block within ``DIRECT_BLOCK_TIMEOUT_S``.

        Raises:
            OSError: the connection failed, or the peer takes it too slowly.
        """
        self._sock.settimeout(DIRECT_BLOCK_TIMEOUT_S)
        self._sock.sendall(data)
        self.moved_bytes += len(data)
