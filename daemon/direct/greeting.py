"""The first bytes of a direct connection, on blocking sockets, in a thread of their own.

Every step has one deadline for all of it: whoever sends a byte now and then gains no time.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import time
from collections.abc import Callable

from dreamer.daemon.direct.certificate import fingerprint
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.link.direct import ACCEPTED, CHOSEN, TOKEN_BYTES

GreetingError = (OSError, RemoteProtocolError)
"""How a greeting fails: the network (``ssl.SSLError`` is an OSError), or the other end's fault."""

Say = Callable[[ssl.SSLSocket], None]


def shake_hands(
    plain: socket.socket, context: ssl.SSLContext, serves: bool, deadline: float
) -> ssl.SSLSocket:
    """Return the connection with TLS on it; ``plain`` is closed if that fails.

    Raises:
        OSError: not in time, or not TLS 1.3.
    """
    try:
        plain.settimeout(_left(deadline))
        sock = context.wrap_socket(plain, server_side=serves, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        sock.do_handshake()
    except BaseException:
        sock.close()
        raise
    return sock


def say_token(sock: ssl.SSLSocket, pinned: bytes, token: bytes, deadline: float) -> None:
    """Check who it is by the certificate, and only then say the token.

    Returns once the other end has accepted it.

    Raises:
        RemoteProtocolError: another certificate, or no acceptance.
        OSError: the connection failed or took too long.
    """
    shown = sock.getpeercert(binary_form=True)
    if shown is None or not hmac.compare_digest(fingerprint(shown), pinned):
        raise RemoteProtocolError("it shows another certificate than it said on the link")
    sock.settimeout(_left(deadline))
    sock.sendall(token)
    if read_exactly(sock, 1, deadline) != ACCEPTED:
        raise RemoteProtocolError("it does not accept the token")


def hear_token(sock: ssl.SSLSocket, deadline: float) -> bytes:
    """Return the token that the dialler says."""
    return read_exactly(sock, TOKEN_BYTES, deadline)


def accept(sock: ssl.SSLSocket) -> None:
    """Say that the token is good."""
    sock.sendall(ACCEPTED)


def choose(sock: ssl.SSLSocket) -> None:
    """Say that this connection is the one."""
    sock.sendall(CHOSEN)


def await_choice(sock: ssl.SSLSocket, deadline: float) -> None:
    """Wait until the other end has chosen this connection.

    Raises:
        RemoteProtocolError: it says something else.
        OSError: it closed this one, or took too long.
    """
    if read_exactly(sock, 1, deadline) != CHOSEN:
        raise RemoteProtocolError("it does not say which connection it takes")


def read_exactly(sock: ssl.SSLSocket, count: int, deadline: float) -> bytes:
    """Return ``count`` bytes.

    Raises:
        OSError: the connection ended before, or the deadline passed.
    """
    data = b""
    while len(data) < count:
        sock.settimeout(_left(deadline))
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return data


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left
