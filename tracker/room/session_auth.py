"""Who asks over HTTP: the bearer token of a session at ``/room``, or else always the same 401."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from aiohttp import web

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.tracker.room.sessions import Session, Sessions


class SessionAuth:
    """Knows members by their tokens. ``wall`` dates memberships, ``steady`` sessions."""

    def __init__(
        self,
        sessions: Sessions,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self.wall = wall
        self.steady = steady

    def session(self, request: web.Request) -> Session:
        """Return the session that a request to ``/rooms/<room>/…`` belongs to.

        Raises:
            HTTPUnauthorized: it belongs to none, or the membership has expired.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            room_id = RoomId(from_hex(request.match_info["room"], "room"))
        except InputError as error:
            raise _stranger() from error
        session = self._sessions.find(token.strip(), room_id, self.steady())
        # The membership is asked about here, too: a session outlives its socket by a while.
        if scheme.lower() != "bearer" or session is None or self.lasts_s(session) <= 0:
            raise _stranger()
        return session

    def lasts_s(self, session: Session) -> float:
        """Return the seconds until a session's membership ends; infinite if it doesn't."""
        ends = session.member.not_after
        return math.inf if ends is None else ends - self.wall()


def _stranger() -> web.HTTPUnauthorized:
    # Always the same answer: a stranger can't tell a room that exists from one that doesn't.
    return web.HTTPUnauthorized(
        text="log in at /room first", headers={"WWW-Authenticate": "Bearer"}
    )
