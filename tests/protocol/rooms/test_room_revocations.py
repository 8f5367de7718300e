from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.rooms.membership import verify_chain
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet, parse_revocation


def revocation(house, node, signer=None, chain=(), number=1) -> Revocation:
    unsigned = Revocation(house.room_id, number, node, int(house.now), chain)
    return unsigned.signed_by(signer or house.room_key)


def member(house, chain):
    return verify_chain(house.room_id, chain, house.now)


def test_revoked_member_is_refused_and_others_stay(house):
    known = RevocationSet(house.room_id)
    known.add(revocation(house, house.guest_id), house.now)
    with pytest.raises(ForbiddenError, match="revoked"):
        known.check(member(house, house.guest_chain()))
    known.check(member(house, house.creator_chain()))
    assert known.next_number == 2


def test_admin_may_revoke(house):
    known = RevocationSet(house.room_id)
    known.add(revocation(house, house.guest_id, house.creator, house.creator_chain()), house.now)
    assert known.holds_against(member(house, house.guest_chain()))


def test_member_without_the_role_cannot_revoke(house):
    known = RevocationSet(house.room_id)
    forged = revocation(house, house.creator.public, house.guest, house.guest_chain())
    with pytest.raises(ForbiddenError, match="only the room's key and admins"):
        known.add(forged, house.now)
    assert len(known) == 0


def test_revocation_signed_by_another_key_is_refused(house):
    known = RevocationSet(house.room_id)
    for forged in (
        revocation(house, house.guest_id, house.stranger),
        revocation(house, house.guest_id, house.stranger, house.creator_chain()),
        replace(revocation(house, house.guest_id), number=7),
    ):
        with pytest.raises(ForbiddenError, match="wrong signature"):
            known.add(forged, house.now)


def test_revocation_of_another_room_is_refused(house):
    known = RevocationSet(RoomId(house.stranger.public))
    with pytest.raises(ForbiddenError, match="for room"):
        known.add(revocation(house, house.guest_id), house.now)


def test_whom_a_revoked_admin_let_in_is_refused_with_it(house):
    known = RevocationSet(house.room_id)
    known.add(revocation(house, house.guest_id), house.now)
    assert known.holds_against(member(house, house.long_chain()))


def test_revoked_admin_cannot_revoke(house):
    known = RevocationSet(house.room_id)
    known.add(revocation(house, house.guest_id), house.now)
    revenge = revocation(
        house, house.later_guest.public, house.guest, house.guest_chain(("admin",)), 2
    )
    with pytest.raises(ForbiddenError, match="revoked"):
        known.add(revenge, house.now)


def test_admin_cannot_lock_the_creator_out(house):
    known = RevocationSet(house.room_id)
    coup = revocation(house, house.creator.public, house.guest, house.guest_chain(("admin",)))
    known.add(coup, house.now)
    known.check(member(house, house.creator_chain()))
    known.add(revocation(house, house.creator.public, number=2), house.now)
    assert known.holds_against(member(house, house.creator_chain()))


def expiring_admin(house):
    """The chain of an admin whose membership ends a day from now."""
    ends = int(house.now + house.day_s)
    return (house.invitation(("admin",)), house.node(("admin",), not_after=ends))


def dated(house, chain, revoked_at: float) -> Revocation:
    node = NodeId(house.stranger.public)
    return Revocation(house.room_id, 1, node, int(revoked_at), chain).signed_by(house.guest)


def test_revocation_that_was_good_at_its_date_is_taken_after_the_admins_time(house):
    known = RevocationSet(house.room_id)
    late = dated(house, expiring_admin(house), house.now + house.day_s / 2)
    known.add(late, house.now + 20 * house.day_s)
    assert len(known) == 1


@pytest.mark.parametrize(
    ("revoked_days", "heard_days", "why"),
    [
        (2, 3, "expired"),
        (0.5, 32, "expired"),
        (5, 3, "expired"),
        (-1, 3, "from the future"),
    ],
    ids=["made after its end", "heard too late", "from the future", "before its beginning"],
)
def test_revocation_of_an_admin_whose_time_is_over_is_refused(house, revoked_days, heard_days, why):
    known = RevocationSet(house.room_id)
    said = dated(house, expiring_admin(house), house.now + revoked_days * house.day_s)
    with pytest.raises(ForbiddenError, match=why):
        known.add(said, house.now + heard_days * house.day_s)
    assert len(known) == 0


def test_two_revocations_of_one_number_both_count(house):
    known = RevocationSet(house.room_id)
    known.add(revocation(house, NodeId(house.stranger.public)), house.now)
    known.add(revocation(house, house.guest_id, house.creator, house.creator_chain()), house.now)
    assert len(known) == 2
    assert known.next_number == 2


def test_revocation_survives_json(house):
    made = revocation(house, house.guest_id, house.creator, house.creator_chain())
    assert parse_revocation(made.to_json()) == made


@pytest.mark.parametrize(
    "change",
    [
        {"number": -1},
        {"node": "x"},
        {"chain": None},
        {"sig": ""},
        {"extra": 1},
        {"revoked_at": 0.5},
    ],
)
def test_malformed_revocation_is_refused(house, change):
    with pytest.raises(InputError):
        parse_revocation({**revocation(house, house.guest_id).to_json(), **change})
