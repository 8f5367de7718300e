"""A room of which every private key is known, so that every forgery can really be made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.rooms.certificate import (
    ALL_ROLES,
    Certificate,
    invitation,
    node_certificate,
)
from dreamer.protocol.rooms.keys import SigningKey

NOW = 1_800_000_000.0
DAY_S = 86_400.0


def key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


class House:
    """Room key, the creator, a guest, and an invitation's key."""

    now = NOW
    day_s = DAY_S
    room_key = key(1)
    creator = key(2)
    invited = key(3)
    guest = key(4)
    stranger = key(5)
    later_invited = key(6)
    later_guest = key(7)
    room_id = RoomId(room_key.public)
    guest_id = NodeId(guest.public)

    def creator_chain(self) -> tuple[Certificate, ...]:
        return (node_certificate(self.room_id, self.creator.public, ALL_ROLES, NOW, self.room_key),)

    def invitation(self, roles=("member",), issuer=room_key, subject=invited, **changes):
        made = invitation(
            self.room_id, subject, roles, NOW, DAY_S, changes.pop("uses", 1), b"i" * 16, issuer
        )
        return replace(made, **changes).signed_by(issuer) if changes else made

    def node(self, roles=("member",), issuer=invited, subject=guest, **changes):
        made = node_certificate(self.room_id, subject.public, roles, NOW, issuer)
        return replace(made, **changes).signed_by(issuer) if changes else made

    def guest_chain(self, roles=("member",)) -> tuple[Certificate, ...]:
        return (self.invitation(roles), self.node(roles))

    def long_chain(self, admin_roles=("admin",), roles=("member",)):
        """Room key → invitation → admin guest → invitation → later guest."""
        return (
            *self.guest_chain(admin_roles),
            self.invitation(
                roles, issuer=self.guest, subject=self.later_invited, invite_id=b"j" * 16
            ),
            self.node(roles, issuer=self.later_invited, subject=self.later_guest),
        )


@pytest.fixture
def house() -> House:
    return House()
