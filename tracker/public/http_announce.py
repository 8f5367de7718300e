"""The plain HTTP tracker: ``GET /announce?…`` and ``GET /scrape?…``, for clients that dial TCP.

aria2, transmission and libtorrent without WebRTC know no websockets. They say where they listen,
are told who else does, and hang up. The door answers them, from the request's head alone, so one
costs little more than its connection. With workers it is still the main process that answers, so
that all of these peers meet; processes on several hosts don't share them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dreamer.protocol.tracker_limits import TRACKER_HTTP_REQUESTS_BURST, TRACKER_HTTP_REQUESTS_PER_S
from dreamer.tracker.handshake import headers_of
from dreamer.tracker.paces import Paces
from dreamer.tracker.public import http_announce_reply as reply
from dreamer.tracker.public.http_announce_query import (
    QueryError,
    parse_announce,
    parse_scrape,
)
from dreamer.tracker.public.tcp_swarms import TcpSwarms, endpoint
from dreamer.tracker.sites import site_of
from dreamer.tracker.stats import Tally

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
# A request with one of these is no plain question: it has a body, or wants to be something else.
_NOT_PLAIN = (b"upgrade", b"content-length", b"transfer-encoding")
# What proxies add (RFC 7239, RFC 9110 section 7.6.3, and what came before).
_OF_PROXIES = (b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip")
_BEHIND_PROXY = (
    "you come through a proxy, and peers can't dial that: announce to the tracker directly"
)
_TOO_FAST = "too many requests come from your address: announce less often"
_RETRY_MIN = 1


class HttpAnnounce:
    """Answers announces and scrapes; peers meet in ``swarms``."""

    def __init__(
        self, swarms: TcpSwarms, tally: Tally, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._swarms = swarms
        self._tally = tally
        self._clock = clock
        self._paces = Paces(TRACKER_HTTP_REQUESTS_PER_S, TRACKER_HTTP_REQUESTS_BURST)

    def response(self, head: bytes, address: str) -> bytes | None:
        """Return the whole response to a request's head (up to its empty line); None: not for us.

        ``address`` is where the connection comes from.
        """
        lines = head.split(b"\r\n")
        method, _, rest = lines[0].partition(b" ")
        target, _, version = rest.partition(b" ")
        path, question, query = target.partition(b"?")
        answer = {b"/announce": self._announce, b"/scrape": self._scrape}.get(path)
        # Without a query it is a person who looks, or a websocket that a proxy has spoiled.
        if answer is None or not question or method != b"GET" or version not in _VERSIONS:
            return None
        if not address:
            # It has gone already.
            return None
        headers = headers_of(lines[1:])
        if headers is None or any(name in headers for name in _NOT_PLAIN):
            return None
        return self._answer(answer, query, headers, address)

    def _answer(
        self,
        answer: Callable[[bytes, str, float], bytes],
        query: bytes,
        headers: dict[bytes, bytes],
        address: str,
    ) -> bytes:
        now = self._clock()
        if not self._paces.allows(site_of(address), now):
            self._tally.refused += 1
            return reply.failure(_TOO_FAST, _RETRY_MIN)
        try:
            if any(name in headers for name in _OF_PROXIES):
                raise QueryError(_BEHIND_PROXY)
            return answer(query, address, now)
        except QueryError as error:
            self._tally.refused += 1
            return reply.failure(str(error))

    def _announce(self, query: bytes, address: str, now: float) -> bytes:
        said = parse_announce(query)
        peers = self._swarms.announce(endpoint(address, said.port), said, now)
        self._tally.announces += 1
        return reply.announce_reply(self._swarms.counts(said.info_hash), peers)

    def _scrape(self, query: bytes, _address: str, _now: float) -> bytes:
        asked = parse_scrape(query)
        return reply.scrape_reply({each: self._swarms.counts(each) for each in asked})
