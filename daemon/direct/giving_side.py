"""One link's direct connections that the peer asked for, to give it blocks over."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from functools import partial

from dreamer.daemon.direct import greeting
from dreamer.daemon.direct.addresses import is_lan
from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.direct.dialling import Dialled
from dreamer.daemon.direct.giving import Giving
from dreamer.daemon.direct.greeting import GreetingError
from dreamer.daemon.direct.reports import ChannelEnded, Report, Reports, Served
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.links.link import Link
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    DIRECT_ATTEMPTS_BURST,
    DIRECT_ATTEMPTS_PER_LINK,
    DIRECT_ATTEMPTS_PER_S,
    DIRECT_CONNECTIONS_MAX,
    DIRECT_DECIDE_S,
)
from dreamer.protocol.link.allowance import Allowance
from dreamer.protocol.link.direct import (
    TOKEN_BYTES,
    DirectAnswer,
    DirectOpen,
    split_addresses,
)


class GivingSide:
    """Answers a peer that wants a direct connection; sets ``link.direct_up`` while one stands."""

    def __init__(self, link: Link, room: DirectRoom) -> None:
        self._link = link
        self._room = room
        self._reports = Reports(partial(room.guarded, link, self._deliver))
        self._tokens: dict[int, bytes] = {}
        self._allowance = Allowance(DIRECT_ATTEMPTS_PER_S, DIRECT_ATTEMPTS_BURST)
        self._giving: Giving | None = None
        self._counted_bytes = 0
        self._closed = False

    def asked(self, asked: DirectOpen) -> None:
        """Say where this node can be reached, and dial where the peer can.

        Raises:
            RemoteProtocolError: its addresses are malformed, or it asks as no node would.
        """
        addresses = split_addresses(asked.addresses)
        if asked.attempt in self._tokens or not self._allowance.take(self._room.clock()):
            raise RemoteProtocolError("it asks for direct connections again and again")
        standing = len(self._giving.channels) if self._giving is not None else 0
        if len(self._tokens) >= DIRECT_ATTEMPTS_PER_LINK or standing >= DIRECT_CONNECTIONS_MAX + 1:
            # It will do without, as if none of our addresses worked.
            return
        token = self._tokens[asked.attempt] = secrets.token_bytes(TOKEN_BYTES)
        endpoint = self._room.endpoint
        endpoint.expect(token, partial(self._accepted, asked.attempt))
        mark = endpoint.host_mark(NodeId(self._room.ours))
        self._link.send(
            DirectAnswer(asked.attempt, endpoint.addresses(), endpoint.fingerprint, token, mark)
        )
        same_host = asked.host == endpoint.host_mark(self._link.peer)
        dialled = Dialled(addresses, asked.fingerprint, asked.token, same_host)
        self._room.dial(dialled, partial(self._dialled, asked.attempt))
        asyncio.get_running_loop().call_later(2 * DIRECT_DECIDE_S, self._forget, asked.attempt)

    def retire(self, attempt: int) -> None:
        """Send no more over one connection."""
        if self._giving is not None:
            self._giving.retire(attempt)

    def count(self) -> None:
        """Count what was sent since the last time."""
        if self._giving is not None:
            sent = self._giving.sent_bytes - self._counted_bytes
            self._counted_bytes += sent
            self._link.bytes_up += sent
            self._link.bytes_up_direct += sent

    def close(self) -> None:
        """Let go of everything; the link is gone."""
        self._closed = True
        for attempt in list(self._tokens):
            self._forget(attempt)
        self._end()

    def _forget(self, attempt: int) -> None:
        token = self._tokens.pop(attempt, None)
        if token is not None:
            self._room.endpoint.tokens.forget(token)

    def _accepted(self, attempt: int, sock: ssl.SSLSocket, deadline: float) -> None:
        """The peer said our token at our port; in a thread."""
        try:
            greeting.accept(sock)
        except OSError:
            sock.close()
            return
        self._dialled(attempt, sock, deadline)

    def _dialled(self, attempt: int, sock: ssl.SSLSocket, deadline: float) -> bool:
        """Wait, in a thread, whether the peer chooses this connection.

        One that we dialled is chosen by its acceptance.
        """
        try:
            if sock.server_side:
                greeting.await_choice(sock, deadline)
            with contextlib.suppress(RuntimeError):
                self._room.loop.call_soon_threadsafe(self._chosen, attempt, sock)
                return True
        except GreetingError:
            pass
        sock.close()
        return False

    def _chosen(self, attempt: int, sock: ssl.SSLSocket) -> None:
        lan = is_lan(sock)
        if self._closed or attempt not in self._tokens or lan is None:
            sock.close()
            return
        self._forget(attempt)
        if self._giving is None:
            self._giving = Giving(self._link.number, self._reports)
            self._counted_bytes = 0
            self._link.direct_up = self._giving
            self._link.lan = lan
        channel = Channel(sock, attempt)
        self._room.endpoint.opened(channel)
        self._giving.add(channel)
        # Nothing is ever said on it, so that what can be read is the end.
        self._room.loop.add_reader(channel.fileno(), self._hung_up, channel)

    def _hung_up(self, channel: Channel) -> None:
        self._room.loop.remove_reader(channel.fileno())
        channel.hang_up()
        self.retire(channel.attempt)
        self._room.fanout.link_doubted(self._link)

    def _deliver(self, batch: list[Report]) -> None:
        self.count()
        for report in batch:
            match report:
                case Served(request, failed):
                    self._room.fanout.serve_ended(self._link, request, failed)
                case ChannelEnded(channel):
                    self._ended(channel)

    def _ended(self, channel: Channel) -> None:
        self._room.endpoint.ended(channel)
        self._room.loop.remove_reader(channel.fileno())
        channel.close()
        giving = self._giving
        if giving is not None and channel in giving.channels:
            giving.remove(channel)
            if not giving.channels:
                self._end()

    def _end(self) -> None:
        giving, self._giving = self._giving, None
        if giving is not None:
            self._link.direct_up = None
            self._link.lan = self._link.direct is not None and self._link.lan
            giving.close()
