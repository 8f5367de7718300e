"""One link of a membership chain: an issuer says what a key may do in a room.

Two kinds: a *node* certificate makes a node a member; an *invitation* lets whoever holds its key
sign node certificates. What is signed is the canonical JSON of every field but the signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.protocol.limits import INVITE_MAX_USES
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.keys import SIGNATURE_BYTES, Purpose, SigningKey, verify

INVITE_ID_BYTES = 16


class Kind(StrEnum):
    """What a certificate makes of its subject."""

    NODE = "node"
    INVITATION = "invitation"


class Role(StrEnum):
    """What a member may do, beyond being present: publish, run models for others, administer."""

    MEMBER = "member"
    PUBLISHER = "publisher"
    WORKER = "worker"
    ADMIN = "admin"


ALL_ROLES: tuple[Role, ...] = tuple(Role)

REGISTRY_WRITERS = (Role.PUBLISHER, Role.WORKER, Role.ADMIN)
"""Who may write the room's registry; what each may say in it is judged by whoever reads it.

What nodes of all others report of themselves is entered by a tracker (``registry/handed_in``).
"""

_NAMES = (
    "room", "subject", "kind", "roles", "issued_at", "not_after", "invite", "uses", "issuer", "sig"
)  # fmt: skip


@dataclass(frozen=True)
class Certificate:
    """What ``issuer`` says of ``subject``, both 32-byte public keys.

    ``issued_at`` and ``not_after`` are whole epoch seconds; None never ends. ``invite_id`` (16
    random bytes) and ``uses`` belong to an invitation and are None in a node's certificate.
    """

    room_id: RoomId
    subject: bytes
    kind: Kind
    roles: tuple[Role, ...]
    issued_at: int
    not_after: int | None
    issuer: bytes
    invite_id: bytes | None = None
    uses: int | None = None
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """Return what the signature is over."""
        unsigned = self.to_json()
        del unsigned["sig"]
        return canonical.dumps(unsigned)

    def signed_by(self, key: SigningKey) -> Certificate:
        """Return this certificate with ``key`` as its issuer and signer."""
        unsigned = replace(self, issuer=key.public, signature=b"")
        return replace(unsigned, signature=key.sign(Purpose.CERTIFICATE, unsigned.signed_bytes()))

    def verify_signature(self) -> None:
        """Check that the issuer signed this.

        Raises:
            ForbiddenError: it did not.
        """
        verify(self.issuer, Purpose.CERTIFICATE, self.signed_bytes(), self.signature)

    def to_json(self) -> Json:
        """Return the certificate as a JSON object, bytes as hex."""
        return {
            "room": self.room_id.hex(),
            "subject": self.subject.hex(),
            "kind": str(self.kind),
            "roles": [str(role) for role in self.roles],
            "issued_at": self.issued_at,
            "not_after": self.not_after,
            "invite": None if self.invite_id is None else self.invite_id.hex(),
            "uses": self.uses,
            "issuer": self.issuer.hex(),
            "sig": self.signature.hex(),
        }


def node_certificate(
    room_id: RoomId, node: bytes, roles: Iterable[str], now: float, issuer: SigningKey
) -> Certificate:
    """Return a signed certificate that makes ``node`` a member from ``now`` on, without end.

    Raises:
        InputError: a role is unknown, or there is none.
    """
    return Certificate(
        room_id, node, Kind.NODE, parse_roles(list(roles)), int(now), None, issuer.public
    ).signed_by(issuer)


def invitation(
    room_id: RoomId,
    invited: SigningKey,
    roles: Iterable[str],
    now: float,
    expires_s: float,
    uses: int,
    invite_id: bytes,
    issuer: SigningKey,
) -> Certificate:
    """Return a signed invitation: ``invited`` may admit ``uses`` nodes within ``expires_s``.

    Raises:
        InputError: a role is unknown, the time isn't positive, or the uses are out of bounds.
    """
    if not expires_s > 0:
        raise InputError(f"an invitation must last longer than {expires_s} seconds")
    if not 1 <= uses <= INVITE_MAX_USES:
        raise InputError(f"an invitation is for 1 to {INVITE_MAX_USES} nodes, not {uses}")
    return Certificate(
        room_id=room_id,
        subject=invited.public,
        kind=Kind.INVITATION,
        roles=parse_roles(list(roles)),
        # Whole seconds: every JSON parser reads them alike.
        issued_at=int(now),
        not_after=int(now + expires_s),
        issuer=issuer.public,
        invite_id=invite_id,
        uses=uses,
    ).signed_by(issuer)


def parse_roles(value: object) -> tuple[Role, ...]:
    """Return roles in the order of ``Role``, whatever order they were named in.

    Raises:
        InputError: no list, empty, or a role that doesn't exist or stands there twice.
    """
    named = fields.items(value, "roles", len(Role))
    roles = tuple(role for role in Role if role in named)
    if not roles or len(roles) != len(named):
        raise InputError(f"roles must be some of {', '.join(Role)}, each once, not {named!r:.80}")
    return roles


def parse_certificate(value: object) -> Certificate:
    """Return the certificate in a JSON value; its signature is not checked here.

    Raises:
        InputError: a field is missing, unknown or malformed, or doesn't go with the kind.
    """
    said = fields.exact(value, _NAMES, "a certificate")
    if said["kind"] not in tuple(Kind):
        raise InputError(f"no kind of certificate is called {said['kind']!r:.80}")
    kind = Kind(said["kind"])
    # Fields that don't go with the kind would be signed, and so believed, without being meant.
    if (said["invite"] is None, said["uses"] is None) != (kind is Kind.NODE,) * 2:
        raise InputError("exactly an invitation has an invite id and a number of uses")
    roles = parse_roles(said["roles"])
    # One value has one form: otherwise the signed bytes that we rebuild would be others.
    if [str(role) for role in roles] != said["roles"]:
        raise InputError(f"roles must stand in the order {', '.join(Role)}")
    return Certificate(
        room_id=RoomId(from_hex(said["room"], "a certificate's room")),
        subject=from_hex(said["subject"], "a certificate's subject"),
        kind=kind,
        roles=roles,
        issued_at=fields.whole(said["issued_at"], "issued_at"),
        not_after=_optional_whole(said["not_after"], "not_after"),
        issuer=from_hex(said["issuer"], "a certificate's issuer"),
        invite_id=_optional_invite_id(said["invite"]),
        uses=_optional_whole(said["uses"], "uses"),
        signature=from_hex(said["sig"], "a certificate's signature", SIGNATURE_BYTES),
    )


def _optional_whole(value: object, what: str) -> int | None:
    return None if value is None else fields.whole(value, what)


def _optional_invite_id(value: object) -> bytes | None:
    return None if value is None else from_hex(value, "an invite id", INVITE_ID_BYTES)
