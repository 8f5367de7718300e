"""Ed25519 keys (RFC 8032), every signature bound to the purpose it was made for.

A signature made to log in at a tracker must be worth nothing as a registry entry, so what is
signed is always ``dreamer/1/<purpose>`` NUL message, and a purpose is one word from ``Purpose``.
"""

from __future__ import annotations

from enum import Enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dreamer.protocol.errors import ForbiddenError

SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Purpose(Enum):
    """What a signature vouches for."""

    CERTIFICATE = "certificate"
    REVOCATION = "revocation"
    TRACKER_LOGIN = "tracker-login"
    LINK = "link"
    ENTRY = "registry-entry"


def _bound(purpose: Purpose, message: bytes) -> bytes:
    return b"dreamer/1/" + purpose.value.encode() + b"\0" + message


class SigningKey:
    """An Ed25519 key pair made from a 32-byte seed that the caller draws and keeps secret."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message`` for one purpose."""
        return self._key.sign(_bound(purpose, message))


def verify(public: bytes, purpose: Purpose, message: bytes, signature: bytes) -> None:
    """Check a signature made by ``SigningKey.sign``.

    Raises:
        ForbiddenError: the signature is not by ``public`` over this message for this purpose.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _bound(purpose, message))
    except (InvalidSignature, ValueError) as error:
        raise ForbiddenError(f"wrong signature on a {purpose.value}") from error
