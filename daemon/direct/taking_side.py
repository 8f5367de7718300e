"""One link's direct connections that this node asked for, to take blocks over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
import threading
from dataclasses import dataclass, field
from functools import partial

from dreamer.daemon.direct import greeting
from dreamer.daemon.direct.addresses import is_lan
from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.direct.dialling import Dialled
from dreamer.daemon.direct.reports import BlockTaken, ChannelEnded, Report, Reports
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.direct.taking import Taking
from dreamer.daemon.links.link import Link
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.limits import (
    DIRECT_DECIDE_S,
    DIRECT_HOLD_S,
    DIRECT_IDLE_S,
    DIRECT_RETRY_MAX_S,
    DIRECT_RETRY_MIN_S,
    DIRECT_STEADY_S,
    DIRECT_WANTED_S,
)
from dreamer.protocol.link.direct import (
    TOKEN_BYTES,
    DirectAnswer,
    DirectOpen,
    DirectRetire,
    split_addresses,
)
from dreamer.protocol.link.parallel import Parallel

log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """One connection that was asked for; the first that gets through is the one."""

    number: int
    token: bytes = field(default_factory=lambda: secrets.token_bytes(TOKEN_BYTES))
    answered: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taken: bool = False

    def claim(self) -> bool:
        """Return True to the first who asks, in whatever thread."""
        with self._lock:
            first, self._taken = not self._taken, True
        return first


class TakingSide:
    """Opens connections while blocks are wanted, sets ``link.direct``, and tries again later."""

    def __init__(self, link: Link, room: DirectRoom) -> None:
        self._link = link
        self._room = room
        self._reports = Reports(partial(room.guarded, link, self._deliver))
        self._attempts: dict[int, Attempt] = {}
        self._last_attempt = 0
        self._tried = False
        self._taking: Taking | None = None
        self._retiring: set[int] = set()
        self._parallel = Parallel()
        self._counted_bytes = 0
        self._up_since = 0.0
        self._wanted_at = float("-inf")
        self._used_at = 0.0
        self._retry_at = float("-inf")
        self._retry_s = DIRECT_RETRY_MIN_S
        self._closed = False

    def want(self) -> None:
        """Note that blocks are to be asked for; open a connection unless that was just in vain."""
        self._wanted_at = self._room.clock()
        self._open_if_due()

    def answered(self, answer: DirectAnswer) -> None:
        """Dial where the peer says it can be reached.

        Raises:
            RemoteProtocolError: its addresses are malformed.
        """
        addresses = split_addresses(answer.addresses)
        attempt = self._attempts.get(answer.attempt)
        if attempt is None or attempt.answered:
            return
        attempt.answered = True
        same_host = answer.host == self._room.endpoint.host_mark(self._link.peer)
        dialled = Dialled(addresses, answer.fingerprint, answer.token, same_host)
        self._room.dial(dialled, partial(self._dialled, attempt))

    def tick(self) -> None:
        """Look for what is due; about once a second."""
        now = self._room.clock()
        taking = self._taking
        if taking is None:
            self._open_if_due()
            return
        if taking.busy:
            self._used_at = now
        elif now - self._used_at > DIRECT_IDLE_S:
            self._lose("it was not needed for a while", now)
            return
        self._adjust(taking, now)

    def count(self) -> None:
        """Tell what has come in since the last time, also of a block that is not whole yet."""
        if self._taking is None:
            return
        received = self._taking.received_bytes - self._counted_bytes
        if received:
            self._counted_bytes += received
            self._link.bytes_down += received
            self._link.heard_at = self._room.clock()
            self._room.fanout.bytes_arrived(self._link, received)

    def close(self) -> None:
        """Let go of everything; the link is gone."""
        self._closed = True
        for attempt in self._attempts.values():
            self._room.endpoint.tokens.forget(attempt.token)
        self._attempts.clear()
        if self._taking is not None:
            self._link.direct = None
            self._taking.close()

    # Opening

    def _open_if_due(self) -> None:
        now = self._room.clock()
        wanted = now - self._wanted_at < DIRECT_WANTED_S
        if wanted and self._taking is None and not self._attempts and now >= self._retry_at:
            # Only the first time: later ones must not hold up what comes over the other lane.
            self._open(hold=not self._tried)

    def _open(self, hold: bool) -> None:
        self._tried = True
        self._last_attempt += 1
        attempt = self._attempts[self._last_attempt] = Attempt(self._last_attempt)
        endpoint, loop = self._room.endpoint, asyncio.get_running_loop()
        endpoint.expect(attempt.token, partial(self._accepted, attempt))
        mark = endpoint.host_mark(NodeId(self._room.ours))
        self._link.send(
            DirectOpen(
                attempt.number, endpoint.addresses(), endpoint.fingerprint, attempt.token, mark
            )
        )
        loop.call_later(DIRECT_DECIDE_S, self._gave_up, attempt)
        if hold:
            self._link.deciding = True
            loop.call_later(DIRECT_HOLD_S, self._decided)

    def _accepted(self, attempt: Attempt, sock: ssl.SSLSocket, deadline: float) -> None:
        """The peer said our token at our port; in a thread."""
        self._take(attempt, sock, greeting.accept)

    def _dialled(self, attempt: Attempt, sock: ssl.SSLSocket, deadline: float) -> bool:
        """The peer has accepted its token from us; in a thread."""
        return self._take(attempt, sock, greeting.choose)

    def _take(self, attempt: Attempt, sock: ssl.SSLSocket, say: greeting.Say) -> bool:
        if attempt.claim():
            with contextlib.suppress(OSError, RuntimeError):
                say(sock)
                self._room.loop.call_soon_threadsafe(self._won, attempt, sock)
                return True
        sock.close()
        return False

    def _won(self, attempt: Attempt, sock: ssl.SSLSocket) -> None:
        self._room.endpoint.tokens.forget(attempt.token)
        lan = is_lan(sock)
        # An attempt whose connection is gone already ends as one that got none: in its time.
        if lan is None or self._attempts.pop(attempt.number, None) is None:
            sock.close()
            return
        channel = Channel(sock, attempt.number)
        self._room.endpoint.opened(channel)
        first = self._taking is None
        if self._taking is None:
            self._taking = Taking(self._reports)
            self._parallel = Parallel()
            self._counted_bytes = 0
            self._up_since = self._used_at = self._room.clock()
        self._taking.add(channel)
        if first:
            log.info("direct connection to %s is up", short(self._link.peer))
            self._link.direct, self._link.lan = self._taking, lan
            self._link.deciding = False
            self._room.fanout.lane_changed(self._link)

    def _gave_up(self, attempt: Attempt) -> None:
        self._room.endpoint.tokens.forget(attempt.token)
        if self._attempts.pop(attempt.number, None) is None:
            return
        now = self._room.clock()
        if self._taking is not None:
            self._parallel.refused(now)
            return
        log.info("no direct connection to %s", short(self._link.peer))
        self._back_off(now)
        self._decided()

    def _decided(self) -> None:
        """Let the link's own channel be used, if a direct connection isn't there by now."""
        if self._link.deciding and not self._closed:
            self._link.deciding = False
            self._room.fanout.lane_changed(self._link)

    def _back_off(self, now: float) -> None:
        self._retry_at = now + self._retry_s * self._room.rng.uniform(0.5, 1.5)
        self._retry_s = min(DIRECT_RETRY_MAX_S, 2 * self._retry_s)

    # While it stands

    def _adjust(self, taking: Taking, now: float) -> None:
        """Have as many connections as make it fastest."""
        standing = [one for one in taking.channels if one.attempt not in self._retiring]
        wanted = self._parallel.tick(now, len(standing), taking.received_bytes, taking.busy)
        if wanted > len(standing) and not self._attempts:
            self._open(hold=False)
        elif wanted < len(standing):
            last = standing[-1].attempt
            self._retiring.add(last)
            self._link.send(DirectRetire(last))

    def _deliver(self, batch: list[Report]) -> None:
        self.count()
        for report in batch:
            match report:
                case BlockTaken(request, block, verdict) if not self._closed:
                    self._room.fanout.block_done(self._link, request, block, verdict)
                case ChannelEnded():
                    self._ended(report)

    def _ended(self, ended: ChannelEnded) -> None:
        self._room.endpoint.ended(ended.channel)
        ended.channel.close()
        taking = self._taking
        if taking is None or ended.channel not in taking.channels:
            return
        taking.remove(ended.channel)
        if ended.channel.attempt in self._retiring:
            self._retiring.discard(ended.channel.attempt)
        elif not self._closed:
            # What it was bringing is lost, and only asking anew finds out what that was.
            self._lose(ended.reason, self._room.clock())
            self._room.fanout.link_doubted(self._link)
            if ended.fault:
                self._room.drop(self._link.peer, ended.reason)

    def _lose(self, reason: str, now: float) -> None:
        taking, self._taking = self._taking, None
        if taking is None:
            return
        log.info("direct connection to %s is gone: %s", short(self._link.peer), reason)
        taking.close()
        self._retiring.clear()
        if now - self._up_since > DIRECT_STEADY_S:
            self._retry_s = DIRECT_RETRY_MIN_S
        self._back_off(now)
        self._link.direct = None
        self._link.lan = self._link.direct_up is not None and self._link.lan
        self._room.fanout.lane_changed(self._link)
