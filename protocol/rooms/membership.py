"""Proof of membership that needs nobody else: a chain of certificates from the room's key.

::

    room key ──issues──▶ node                     the creator
    room key ──issues──▶ invitation ──▶ node      a member
    admin node ──issues──▶ invitation ──▶ node    a member whom an invited admin let in

An invitation's end bounds the moment at which it is used, not the membership that comes of it. A
chain alone can't show when or how often an invitation was really used: trackers record that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.limits import CHAIN_MAX_CERTIFICATES, CLOCK_SKEW_S
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.certificate import (
    ALL_ROLES,
    Certificate,
    Kind,
    Role,
    parse_certificate,
)

Chain = tuple[Certificate, ...]


@dataclass(frozen=True)
class Admission:
    """One use of an invitation: the node that it let in. ``not_after`` is in epoch seconds."""

    invite_id: bytes
    node_id: NodeId
    uses: int
    not_after: int | None


@dataclass(frozen=True)
class Member:
    """Whom a valid chain proves to be a member, and until when (epoch seconds, None: no end).

    ``path`` names every node of the chain, the member itself last; ``admissions`` every use of
    an invitation that the chain rests on, in the same order.
    """

    node_id: NodeId
    roles: tuple[Role, ...]
    not_after: int | None
    path: tuple[NodeId, ...]
    admissions: tuple[Admission, ...]

    @property
    def invite_id(self) -> bytes | None:
        """The invitation that let this node in; None for the room's creator."""
        return self.admissions[-1].invite_id if self.admissions else None

    def may(self, *roles: Role) -> bool:
        """Return whether the member has one of these roles."""
        return any(role in self.roles for role in roles)


def verify_chain(room_id: RoomId, chain: Sequence[Certificate], now: float) -> Member:
    """Return the member that a chain ending in a node's certificate proves.

    Raises:
        ForbiddenError: a rule of the chain is broken; the message says which.
    """
    if not chain or chain[-1].kind is not Kind.NODE:
        raise ForbiddenError("a membership must end in a node's certificate")
    _verify_links(room_id, chain, now)
    # An expired admin must not go on inviting with old dates: every node of the chain counts.
    nodes = [certificate for certificate in chain if certificate.kind is Kind.NODE]
    ends = [node.not_after for node in nodes if node.not_after is not None]
    if ends and min(ends) < now:
        raise ForbiddenError("this membership has expired: ask an admin for a new invitation")
    return Member(
        node_id=NodeId(chain[-1].subject),
        roles=chain[-1].roles,
        not_after=min(ends, default=None),
        path=tuple(NodeId(node.subject) for node in nodes),
        admissions=tuple(
            _admission(upper, lower)
            for upper, lower in pairwise(chain)
            if upper.kind is Kind.INVITATION
        ),
    )


def verify_invitation(room_id: RoomId, chain: Sequence[Certificate], now: float) -> Certificate:
    """Return the invitation that a chain ends in, if it can still be accepted at ``now``.

    Raises:
        ForbiddenError: a rule of the chain is broken, or the invitation has expired.
    """
    if not chain or chain[-1].kind is not Kind.INVITATION:
        raise ForbiddenError("a join token must end in an invitation")
    _verify_links(room_id, chain, now)
    last = chain[-1]
    if last.not_after is not None and last.not_after < now:
        raise ForbiddenError("this invitation has expired: ask for a new one")
    return last


def _admission(upper: Certificate, lower: Certificate) -> Admission:
    if upper.invite_id is None or upper.uses is None:
        raise ForbiddenError("an invitation carries no invite id")
    return Admission(upper.invite_id, NodeId(lower.subject), upper.uses, upper.not_after)


def _verify_links(room_id: RoomId, chain: Sequence[Certificate], now: float) -> None:
    if len(chain) > CHAIN_MAX_CERTIFICATES:
        raise ForbiddenError(f"a chain may hold {CHAIN_MAX_CERTIFICATES} certificates at most")
    upper: Certificate | None = None
    for certificate in chain:
        if certificate.room_id != room_id:
            raise ForbiddenError(f"a certificate is for room {short(certificate.room_id)}")
        # A node dates its own certificate, and machines' clocks differ by a little.
        if certificate.issued_at > now + CLOCK_SKEW_S:
            raise ForbiddenError("a certificate is from the future: check the machines' clocks")
        if certificate.issuer != (room_id if upper is None else upper.subject):
            raise ForbiddenError("the certificates don't form a chain from the room's key")
        if upper is not None:
            _verify_power(upper, certificate)
        certificate.verify_signature()
        upper = certificate


def _verify_power(upper: Certificate, lower: Certificate) -> None:
    if lower.kind is upper.kind:
        raise ForbiddenError(f"{upper.kind} certificates can't issue {lower.kind} certificates")
    if upper.kind is Kind.NODE and Role.ADMIN not in upper.roles:
        raise ForbiddenError("only the room's key and admins may invite")
    if lower.issued_at < upper.issued_at - CLOCK_SKEW_S:
        raise ForbiddenError("a certificate is older than its issuer's")
    if upper.not_after is not None and lower.issued_at > upper.not_after:
        raise ForbiddenError("a certificate was issued after its issuer's had expired")
    # An admin may grant what it doesn't have itself; an invitation grants what it says.
    granted = ALL_ROLES if upper.kind is Kind.NODE else upper.roles
    if over := [role for role in lower.roles if role not in granted]:
        raise ForbiddenError(f"the invitation doesn't grant the role {', '.join(over)}")


def chain_to_json(chain: Sequence[Certificate]) -> list[Json]:
    """Return a chain as a JSON list."""
    return [certificate.to_json() for certificate in chain]


def parse_chain(value: object) -> Chain:
    """Return the chain in a JSON value; nothing of it is verified here.

    Raises:
        InputError: it is no list of certificates, or too long.
    """
    parsed = fields.items(value, "a certificate chain", CHAIN_MAX_CERTIFICATES)
    if not parsed:
        raise InputError("a certificate chain can't be empty")
    return tuple(parse_certificate(item) for item in parsed)
