"""A join token: one line of text that lets a node into a room.

``dreamer1.`` and the base64url of canonical JSON followed by 8 bytes of its BLAKE3, so that a
token cut short or changed on its way is told apart from one that is refused. It holds the room's
card, the invitation and the invitation's private key: whoever reads it can use it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from blake3 import blake3

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex
from dreamer.protocol.limits import TOKEN_MAX_BYTES
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.card import RoomCard, parse_card
from dreamer.protocol.rooms.keys import SEED_BYTES, SigningKey
from dreamer.protocol.rooms.membership import Chain, chain_to_json, parse_chain

PREFIX = "dreamer1."
CHECKSUM_BYTES = 8

_NOT_WHOLE = "this is not a whole join token: copy it again"


@dataclass(frozen=True)
class JoinToken:
    """A room, the chain that ends in an invitation to it, and the invitation's private seed."""

    card: RoomCard
    chain: Chain
    seed: bytes

    def __repr__(self) -> str:
        return f"JoinToken({self.card.name!r})"

    def encode(self) -> str:
        """Return the token as one line of ASCII."""
        body = canonical.dumps(
            {
                "card": self.card.to_json(),
                "chain": chain_to_json(self.chain),
                "seed": self.seed.hex(),
            }
        )
        return PREFIX + _armour(body + _checksum(body))


def decode_token(text: str) -> JoinToken:
    """Return the token in what a person pasted; its chain is not verified here.

    Raises:
        InputError: it isn't a join token, or not a whole one.
    """
    pasted = text.strip()
    if not pasted.startswith(PREFIX):
        raise InputError(f"{_NOT_WHOLE} (it begins with {PREFIX})")
    said = fields.exact(_body(pasted.removeprefix(PREFIX)), ("card", "chain", "seed"), "a token")
    token = JoinToken(
        card=parse_card(said["card"]),
        chain=parse_chain(said["chain"]),
        seed=from_hex(said["seed"], "a token's seed", SEED_BYTES),
    )
    # Found here, it is a bad token; found at the tracker, it would look like an attack.
    if token.chain[-1].subject != SigningKey(token.seed).public:
        raise InputError("this join token's key is not the one that was invited: ask for a new one")
    return token


def _body(armoured: str) -> object:
    if len(armoured) > TOKEN_MAX_BYTES:
        raise InputError(_NOT_WHOLE)
    try:
        raw = base64.b64decode(armoured + "=" * (-len(armoured) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(_NOT_WHOLE) from error
    body, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    # Base64 has several spellings of the same bytes; a changed letter must never go unnoticed.
    if _checksum(body) != checksum or _armour(raw) != armoured:
        raise InputError(_NOT_WHOLE)
    return canonical.loads(body)


def _armour(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _checksum(body: bytes) -> bytes:
    return blake3(body).digest(length=CHECKSUM_BYTES)
