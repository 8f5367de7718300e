"""Connections that are reset at the worst moment: none of them may stay open."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest

from dreamer.daemon.direct import giving_side, greeting, taking_side
from dreamer.daemon.direct.addresses import is_lan
from dreamer.daemon.direct.certificate import (
    dialling_context,
    make_certificate,
    serving_context,
)


def reset(sock: socket.socket) -> None:
    """Close a connection so that the other end is told of an error, not of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Not SSLSocket's own way, which would say good-bye first.
    socket.socket.close(sock)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), 10)
        return near, listener.accept()[0]


@pytest.mark.parametrize("serves", [False, True])
def test_connection_that_is_reset_as_tls_is_put_on_is_closed(serves) -> None:
    near, far = connected()
    context = serving_context(make_certificate()) if serves else dialling_context()

    class ResetFirst:
        def wrap_socket(self, plain: socket.socket, **how: bool) -> socket.socket:
            reset(far)
            return context.wrap_socket(plain, **how)

    fd = near.fileno()
    with pytest.raises(OSError) as raised:
        greeting.shake_hands(near, ResetFirst(), serves, time.monotonic() + 10)
    # The exception still holds the frames, so that nothing was left to the garbage collector.
    assert raised.tb is not None
    with pytest.raises(OSError):
        os.fstat(fd)


def test_nobody_knows_where_a_connection_ended_that_was_reset() -> None:
    near, far = connected()
    assert is_lan(near)
    reset(far)
    assert is_lan(near) is None
    near.close()


async def test_connection_that_is_reset_before_it_is_used_is_closed(pair, kit, monkeypatch) -> None:
    gone = []
    for side in (taking_side, giving_side):
        monkeypatch.setattr(side, "is_lan", gone.append)
    pair.taker.link.want_direct()
    await kit.until(lambda: len(gone) == 2)
    await kit.until(lambda: all(sock.fileno() < 0 for sock in gone))
    # It is as if it had never come; another is tried in its time.
    await kit.until(lambda: not pair.taker.link.deciding)
    assert pair.taker.link.direct is None
    assert pair.giver.link.direct_up is None
