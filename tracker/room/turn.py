"""TURN credentials for members: short-lived, and good at a relay that shares the secret with us.

``GET /rooms/<room>/turn``. The scheme is that of draft-uberti-behave-turn-rest-00, which coturn
calls ``use-auth-secret``: the relay recomputes the password and reads the end off the username, so
that neither has to ask the other. What was handed out can't be called back, so it is short-lived.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from aiohttp import web

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.tracker_limits import TURN_TTL_MAX_S, TURN_TTL_MIN_S, TURN_TTL_S
from dreamer.protocol.turn import TurnCredentials, check_turn_uris
from dreamer.tracker.room.session_auth import SessionAuth


@dataclass(frozen=True)
class TurnSettings:
    """The relays, the secret shared with them, and for how many seconds credentials last."""

    uris: tuple[str, ...]
    secret: bytes = field(repr=False)
    ttl_s: int = TURN_TTL_S

    def __post_init__(self) -> None:
        check_turn_uris(self.uris)
        if not self.secret:
            raise InputError("the TURN secret is empty")
        if not TURN_TTL_MIN_S <= self.ttl_s <= TURN_TTL_MAX_S:
            raise InputError(
                f"turn_ttl_s must be {TURN_TTL_MIN_S} to {TURN_TTL_MAX_S}, not {self.ttl_s}"
            )


def make_credentials(
    settings: TurnSettings, node: NodeId, lasts_s: float, now: float
) -> TurnCredentials:
    """Return credentials for a node whose membership ends in ``lasts_s``; ``now`` is epoch time.

    Raises:
        InputError: less than a second is left.
    """
    ttl_s = int(min(settings.ttl_s, lasts_s))
    # Who it is stands in the relay's log; the key in full would tell no more.
    username = f"{int(now) + ttl_s}:{short(node)}"
    digest = hmac.new(settings.secret, username.encode(), hashlib.sha1).digest()
    return TurnCredentials(username, base64.b64encode(digest).decode(), ttl_s, settings.uris)


class TurnHandler:
    """Answers members; ``settings`` is None where the tracker has no relay."""

    def __init__(self, auth: SessionAuth, settings: TurnSettings | None) -> None:
        self._auth = auth
        self._settings = settings

    async def get(self, request: web.Request) -> web.Response:
        """Hand out credentials."""
        session = self._auth.session(request)
        if self._settings is None:
            raise web.HTTPNotFound(
                text="this tracker has no TURN server: its owner can set turn_urls in [tracker]"
            )
        # A member whose membership ends within this second gets the answer of the next one.
        lasts_s = max(1.0, self._auth.lasts_s(session))
        made = make_credentials(self._settings, session.member.node_id, lasts_s, self._auth.wall())
        return web.json_response(made.to_json(), headers={"Cache-Control": "no-store"})
