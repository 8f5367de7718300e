from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.certificate import Kind, Role, invitation, parse_certificate
from dreamer.protocol.rooms.membership import (
    chain_to_json,
    parse_chain,
    verify_chain,
    verify_invitation,
)


def refused(house, chain, now=None) -> str:
    with pytest.raises(ForbiddenError) as caught:
        verify_chain(house.room_id, chain, house.now if now is None else now)
    return str(caught.value)


def test_creator_is_a_member_with_every_role(house):
    member = verify_chain(house.room_id, house.creator_chain(), house.now)
    assert member.node_id == house.creator.public
    assert member.roles == tuple(Role)
    assert member.invite_id is None
    assert member.not_after is None


def test_invited_node_is_a_member_and_names_its_invitation(house):
    member = verify_chain(house.room_id, house.guest_chain(), house.now)
    assert member.node_id == house.guest_id
    assert member.roles == (Role.MEMBER,)
    assert member.invite_id == b"i" * 16
    assert [use.node_id for use in member.admissions] == [house.guest_id]


def test_invited_admin_may_invite_further_and_grant_any_role(house):
    member = verify_chain(house.room_id, house.long_chain(roles=("publisher",)), house.now)
    assert member.node_id == house.later_guest.public
    assert member.path == (house.guest_id, house.later_guest.public)
    assert [use.invite_id for use in member.admissions] == [b"i" * 16, b"j" * 16]


def test_chain_survives_json(house):
    chain = house.long_chain()
    assert parse_chain(chain_to_json(chain)) == chain


def test_membership_outlives_the_invitation_it_came_from(house):
    assert verify_chain(house.room_id, house.guest_chain(), house.now + 365 * house.day_s)


def test_chain_of_another_room_is_refused(house):
    with pytest.raises(ForbiddenError, match="for room"):
        verify_chain(RoomId(house.stranger.public), house.guest_chain(), house.now)


def test_chain_signed_by_a_stranger_is_refused(house):
    forged = house.invitation(issuer=house.stranger)
    assert "chain from the room's key" in refused(house, (forged, house.node()))


def test_certificate_that_names_the_room_key_but_was_signed_by_another_is_refused(house):
    honest = house.invitation()
    forged = replace(house.invitation(issuer=house.stranger), issuer=honest.issuer)
    assert "wrong signature" in refused(house, (forged, house.node()))


@pytest.mark.parametrize(
    "change",
    [
        {"roles": (Role.ADMIN,)},
        {"subject": b"x" * 32},
        {"not_after": None},
        {"uses": 1000},
        {"invite_id": b"z" * 16},
        {"issued_at": 1},
    ],
)
def test_changed_field_breaks_the_signature(house, change):
    chain = (replace(house.invitation(), **change), house.node())
    with pytest.raises(ForbiddenError):
        verify_chain(house.room_id, chain, house.now)


def test_over_privileged_node_is_refused(house):
    chain = (house.invitation(("member",)), house.node(("member", "publisher")))
    assert "doesn't grant the role publisher" in refused(house, chain)


def test_holder_of_an_admin_invitation_gets_no_roles_beside_it(house):
    chain = (house.invitation(("admin",)), house.node(("publisher", "admin")))
    assert "doesn't grant the role publisher" in refused(house, chain)


def test_member_who_is_no_admin_cannot_invite(house):
    assert "only the room's key and admins" in refused(
        house, house.long_chain(("member", "publisher", "worker"))
    )


def test_node_cannot_certify_another_node(house):
    chain = (*house.creator_chain(), house.node(issuer=house.creator))
    assert "node certificates can't issue node" in refused(house, chain)


def test_invitation_cannot_issue_an_invitation(house):
    chain = (
        house.invitation(),
        house.invitation(issuer=house.invited, subject=house.later_invited),
        house.node(issuer=house.later_invited),
    )
    assert "invitation certificates can't issue invitation" in refused(house, chain)


def test_node_certificate_made_after_the_invitation_ended_is_refused(house):
    late = house.now + house.day_s + 5
    chain = (house.invitation(), house.node(issued_at=int(late)))
    assert "after its issuer's had expired" in refused(house, chain, late)


def test_expired_membership_is_refused(house):
    chain = (house.invitation(), house.node(not_after=int(house.now + 10)))
    assert verify_chain(house.room_id, chain, house.now + 9).not_after == int(house.now + 10)
    assert "expired" in refused(house, chain, house.now + 11)


def test_expired_admin_ends_the_membership_of_those_it_let_in(house):
    admin = house.node(("admin",), not_after=int(house.now + 10))
    chain = (house.invitation(("admin",)), admin, *house.long_chain()[2:])
    assert verify_chain(house.room_id, chain, house.now)
    assert "expired" in refused(house, chain, house.now + 11)


def test_certificate_from_the_future_is_refused(house):
    assert "clocks" in refused(house, house.guest_chain(), house.now - 3600)


def test_certificate_older_than_its_issuers_is_refused(house):
    chain = (house.invitation(), house.node(issued_at=int(house.now - 3600)))
    assert "older than its issuer" in refused(house, chain)


def test_chain_that_skips_a_link_is_refused(house):
    assert "chain from the room's key" in refused(house, house.guest_chain()[1:])


def test_chain_that_ends_in_an_invitation_is_no_membership(house):
    assert "end in a node's certificate" in refused(house, (house.invitation(),))
    assert "end in a node's certificate" in refused(house, ())


def test_chain_with_too_many_certificates_is_refused(house):
    longer = (*house.long_chain(roles=("admin",)), *house.long_chain()[2:])
    assert "4 certificates at most" in refused(house, longer)
    with pytest.raises(InputError, match="more than 4"):
        parse_chain(chain_to_json(longer))


def test_expired_invitation_cannot_be_accepted(house):
    chain = (house.invitation(),)
    assert verify_invitation(house.room_id, chain, house.now).uses == 1
    with pytest.raises(ForbiddenError, match="ask for a new one"):
        verify_invitation(house.room_id, chain, house.now + house.day_s + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"room": "00"},
        {"subject": None},
        {"kind": "root"},
        {"kind": "node"},
        {"roles": []},
        {"roles": ["member", "member"]},
        {"roles": ["admin", "member"]},
        {"roles": ["owner"]},
        {"roles": "admin"},
        {"issued_at": 1.5},
        {"issued_at": True},
        {"issued_at": -1},
        {"not_after": "soon"},
        {"uses": None},
        {"invite": "AB" * 16},
        {"invite": 7},
        {"sig": "00"},
        {"extra": 1},
    ],
)
def test_malformed_certificate_is_refused(house, change):
    with pytest.raises(InputError):
        parse_certificate({**house.invitation().to_json(), **change})


@pytest.mark.parametrize("value", [None, {}, [], "chain", [1], [{}]])
def test_malformed_chain_is_refused(value):
    with pytest.raises(InputError):
        parse_chain(value)


@pytest.mark.parametrize(
    ("roles", "expires_s", "uses"),
    [((), 60, 1), (("king",), 60, 1), (("member",), 0, 1), (("member",), float("nan"), 1),
     (("member",), 60, 0), (("member",), 60, 10_001)],
)  # fmt: skip
def test_impossible_invitation_is_refused(house, roles, expires_s, uses):
    with pytest.raises(InputError):
        invitation(
            house.room_id, house.invited, roles, house.now, expires_s, uses, b"i" * 16,
            house.room_key,
        )  # fmt: skip


def test_roles_are_kept_in_one_order(house):
    assert house.invitation(("admin", "member")).roles == (Role.MEMBER, Role.ADMIN)
    assert house.invitation().kind is Kind.INVITATION
