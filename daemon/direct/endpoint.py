"""This node's port for direct connections: who comes is a stranger until the token is said.

It is taken at start, when somebody can still be told that it can't be had, and listened on from the
first room on. While no token is waited for, whoever connects is hung up on at once. Handshakes run
in threads, bounded in number and time, so that nothing a stranger does reaches the daemon's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dreamer.daemon.direct import greeting
from dreamer.daemon.direct.addresses import boot_id, endpoint_text, local_addresses
from dreamer.daemon.direct.certificate import (
    dialling_context,
    make_certificate,
    serving_context,
)
from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.direct.dialling import Dialled, dial_all
from dreamer.daemon.direct.strangers import Strangers
from dreamer.daemon.direct.tokens import Greeted, Tokens
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    DIRECT_BACKLOG,
    DIRECT_CLOSE_TIMEOUT_S,
    DIRECT_HANDSHAKE_TIMEOUT_S,
    DIRECT_HANDSHAKES_MAX,
)
from dreamer.protocol.link.direct import host_mark, join_addresses

log = logging.getLogger(__name__)

ACCEPT_PAUSE_S = 1.0
"""How long nothing is accepted after the system refused to, for want of file descriptors."""


class DirectEndpoint:
    """The port, the certificate, and the threads of greetings. Made by ``open``."""

    def __init__(self, listener: socket.socket, extra: Iterable[str]) -> None:
        certificate = make_certificate()
        self.fingerprint = certificate.fingerprint
        self.tokens = Tokens()
        self._serving = serving_context(certificate)
        self._dialling = dialling_context()
        self._listener = listener
        self._extra = list(extra)
        self._boot_id = boot_id()
        self._strangers = Strangers()
        self._threads = ThreadPoolExecutor(2 * DIRECT_HANDSHAKES_MAX, "direct-greeting")
        self._accepting: asyncio.Task[None] | None = None
        self._open: dict[Channel, None] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()

    @classmethod
    async def open(cls, host: str, port: int, extra: Iterable[str] = ()) -> DirectEndpoint:
        """Take a port of this machine; ``extra`` are more addresses at which others reach it.

        Raises:
            LocalError: the address is taken, or not this machine's.
        """
        try:
            listener = bound_socket(host, port)
        except OSError as error:
            raise LocalError(_cannot_listen(endpoint_text(host, port), error)) from error
        return cls(listener, extra)

    def listen(self) -> None:
        """Accept connections from now on; a node that is in no room has no need to."""
        if self._accepting is not None:
            return
        try:
            self._listener.listen(DIRECT_BACKLOG)
        except OSError as error:
            # Another process was quicker since it was taken. To dial others is still possible.
            host, port = self._listener.getsockname()[:2]
            log.error("%s", _cannot_listen(endpoint_text(host, port), error))
            return
        self._accepting = asyncio.create_task(self._accept())

    @property
    def port(self) -> int:
        """The port it listens on."""
        found: int = self._listener.getsockname()[1]
        return found

    def addresses(self) -> str:
        """Return where others reach this node, as messages carry it; looked up anew."""
        host = self._listener.getsockname()[0]
        local = [endpoint_text(ip, self.port) for ip in local_addresses(host)]
        # What a person configured counts most, if a machine has more than a message takes.
        return join_addresses([*self._extra, *local])

    def host_mark(self, node: NodeId) -> bytes:
        """Return what ``node`` shows if it runs on this machine."""
        return host_mark(self._boot_id, node)

    def expect(self, token: bytes, greeted: Greeted) -> None:
        """Let one connection that says ``token`` in."""
        self.tokens.add(token, greeted)

    async def dial(self, dialled: Dialled, taken: Callable[[ssl.SSLSocket, float], bool]) -> bool:
        """Dial all addresses of a peer at once; see ``dial_all``."""
        return await dial_all(dialled, self._dialling, self._threads, taken)

    def opened(self, channel: Channel) -> None:
        """Note a connection that a thread will use."""
        self._open[channel] = None
        self._none_open.clear()

    def ended(self, channel: Channel) -> None:
        """Note that no thread uses it any more."""
        self._open.pop(channel, None)
        if not self._open:
            self._none_open.set()

    async def close(self) -> None:
        """Accept nobody any more, and end every connection."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        for channel in self._open:
            channel.hang_up()
        # Greetings under way end by their own deadlines, and then close what they have.
        ended = asyncio.create_task(
            asyncio.to_thread(partial(self._threads.shutdown, cancel_futures=True))
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DIRECT_CLOSE_TIMEOUT_S):
                await asyncio.gather(self._none_open.wait(), ended)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                plain, address = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("can't accept direct connections for a moment: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._admit(loop, plain, str(address[0]))

    def _admit(self, loop: asyncio.AbstractEventLoop, plain: socket.socket, host: str) -> None:
        whose = self._strangers.enter(host) if self.tokens.any() else None
        if whose is None:
            plain.close()
            return
        greeted = loop.run_in_executor(self._threads, self._greet, plain)

        def ended(future: asyncio.Future[None]) -> None:
            self._strangers.leave(whose)
            if future.cancelled():
                plain.close()

        greeted.add_done_callback(ended)

    def _greet(self, plain: socket.socket) -> None:
        """Hear who it is, in a thread."""
        deadline = time.monotonic() + DIRECT_HANDSHAKE_TIMEOUT_S
        try:
            sock = greeting.shake_hands(plain, self._serving, True, deadline)
        except OSError:
            return
        try:
            taken = self.tokens.redeem(greeting.hear_token(sock, deadline))
        except OSError:
            taken = None
        if taken is None:
            # Nothing was said to it, and it is not told why.
            sock.close()
            return
        taken(sock, deadline)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket with a port; ``::`` takes IPv4 too, and is 0.0.0.0 where there is no IPv6.

    Raises:
        OSError: it can't be had.
    """
    everywhere = host == "::"
    if everywhere and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - what [::] means on a machine without IPv6
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # So that a daemon which starts again need not wait for its last connections' end.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _cannot_listen(address: str, error: OSError) -> str:
    return (
        f"can't listen on {address} for direct connections: {error.strerror}; see "
        "network.direct_listen in the configuration"
    )
