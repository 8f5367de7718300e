"""TURN credentials that a tracker lends for a while (draft-uberti-behave-turn-rest-00, section 2).

On the wire ``{"username", "password", "ttl", "uris"}``. The username is ``EXPIRY:USER``, EXPIRY in
epoch seconds; the password is an HMAC that only whoever shares the TURN server's secret can make.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import URL_MAX_CHARS
from dreamer.protocol.rooms import fields
from dreamer.protocol.tracker_limits import TURN_CREDENTIAL_MAX_CHARS, TURN_MAX_URIS, TURN_TTL_MAX_S

# RFC 7065, but no IPv6 literals: aiortc fails on them, and with it the whole link. TLS is over TCP.
_URI = re.compile(
    r"(?:turn:[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:\?transport=(?:udp|tcp))?"
    r"|turns:[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:\?transport=tcp)?)"
)
_NAMES = ("username", "password", "ttl", "uris")


@dataclass(frozen=True)
class TurnCredentials:
    """What opens some TURN servers for ``ttl_s`` seconds from when it was handed out."""

    username: str
    password: str = field(repr=False)
    ttl_s: int
    uris: tuple[str, ...]

    def __post_init__(self) -> None:
        for text in (self.username, self.password):
            if not 0 < len(text) <= TURN_CREDENTIAL_MAX_CHARS or not text.isprintable():
                raise InputError("a TURN username or password is empty, too long or unprintable")
        if not 0 < self.ttl_s <= TURN_TTL_MAX_S:
            raise InputError(f"TURN credentials last 1 to {TURN_TTL_MAX_S} s, not {self.ttl_s}")
        check_turn_uris(self.uris)

    def to_json(self) -> Json:
        """Return the credentials as a JSON object, password included."""
        return {
            "username": self.username,
            "password": self.password,
            "ttl": self.ttl_s,
            "uris": list(self.uris),
        }


def parse_credentials(value: object) -> TurnCredentials:
    """Return the credentials in a JSON value.

    Raises:
        InputError: a field is missing, unknown, malformed or out of bounds.
    """
    said = fields.exact(value, _NAMES, "TURN credentials")
    uris = fields.items(said["uris"], "TURN uris", TURN_MAX_URIS)
    return TurnCredentials(
        fields.text(said["username"], "a TURN username"),
        fields.text(said["password"], "a TURN password"),
        fields.whole(said["ttl"], "a TURN ttl"),
        tuple(fields.text(uri, "a TURN URI") for uri in uris),
    )


def check_turn_uris(uris: tuple[str, ...]) -> None:
    """Refuse what doesn't name TURN servers.

    Raises:
        InputError: there is none, there are too many, or one is malformed.
    """
    if not 0 < len(uris) <= TURN_MAX_URIS:
        raise InputError(f"there must be 1 to {TURN_MAX_URIS} TURN URIs, not {len(uris)}")
    for uri in uris:
        if len(uri) > URL_MAX_CHARS or not _URI.fullmatch(uri):
            raise InputError(
                "a TURN URI is written turn:HOST:PORT?transport=udp (or tcp) or turns:HOST:PORT, "
                f"HOST a name or an IPv4 address, not {uri!r:.100}"
            )
