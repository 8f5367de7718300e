"""Bearer tokens for the HTTP side of a room: alive with the member's socket, and a while longer."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.membership import Member
from dreamer.protocol.tracker_limits import TRACKER_SESSION_GRACE_S

TOKEN_BYTES = 32


@dataclass
class Session:
    """Who a bearer token stands for. ``ends`` is a time of the steady clock, in seconds."""

    room_id: RoomId
    member: Member
    ends: float = math.inf


class Sessions:
    """Every session that is open. Tokens are looked up by hash, so timing tells nothing of them."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Session] = {}

    def open(self, room_id: RoomId, member: Member) -> str:
        """Return the token of a new session."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._by_hash[_hash(token)] = Session(room_id, member)
        return token

    def find(self, token: str, room_id: RoomId, now: float) -> Session | None:
        """Return the session of a token, if it is for this room and hasn't ended."""
        session = self._by_hash.get(_hash(token))
        # One answer for every reason: a stranger mustn't learn that the token is good elsewhere.
        if session is None or session.room_id != room_id or session.ends < now:
            return None
        return session

    def fade(self, token: str, now: float) -> None:
        """Let a session end soon: its socket has closed, but requests may be under way."""
        if session := self._by_hash.get(_hash(token)):
            session.ends = min(session.ends, now + TRACKER_SESSION_GRACE_S)

    def end(self, room_id: RoomId, whose: Callable[[Member], bool]) -> None:
        """End at once every session in a room whose member is meant."""
        for key, session in list(self._by_hash.items()):
            if session.room_id == room_id and whose(session.member):
                del self._by_hash[key]

    def prune(self, now: float) -> None:
        """Forget sessions that have ended."""
        for key, session in list(self._by_hash.items()):
            if session.ends < now:
                del self._by_hash[key]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
