"""Aliases that only some roles may move: who may, and what becomes of the moves of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import (
    MoveAlias,
    Promote,
    ProtectAlias,
    Publish,
    RemoveAlias,
    Withdraw,
)
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.policy import AliasProtection
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import AliasMove, Withdrawal
from dreamer.protocol.registry.verify import accept_newer
from dreamer.protocol.registry_limits import ALIAS_HISTORY_MAX, PROTECTIONS_MAX_PER_ALIAS

A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def admin(room):
    return room.author(7, "admin")


@pytest.fixture
def state(room, admin):
    """Three models; prod means A and is protected to admins."""
    models = [Publish(room.entry(number)) for number in (1, 2, 3)]
    named = room.change(room.empty(), *models, MoveAlias("prod", A), MoveAlias("next", B))
    return room.change(named, ProtectAlias("prod", ("admin",)), author=admin)


def faults(verified):
    return [report.fault for report in verified.reports]


def test_protection_is_in_the_view_and_survives_the_document(room, state):
    again = room.verify(parse(state.document.encode(), room.id))
    assert again == state
    assert (again.registry.protections, again.reports) == ({"prod": ("admin",)}, ())
    assert again.registry.aliases["prod"] == A


@pytest.mark.parametrize(
    "change", [MoveAlias("prod", B), RemoveAlias("prod"), Promote("next", "prod"), Withdraw(A)]
)
def test_member_without_the_role_is_refused_and_told_who_may(room, state, admin, change):
    with pytest.raises(ForbiddenError) as raised:
        room.change(state, change)
    assert "alias 'prod' is protected: only a member with the role admin may" in str(raised.value)
    assert "publisher" in str(raised.value)
    assert room.change(state, change, author=admin).reports == ()


def test_move_written_all_the_same_is_ignored_and_reported(room, state):
    after = room.put(state, AliasMove("prod", B))
    assert after.registry.aliases["prod"] == A
    assert faults(after) == [Fault.PROTECTED]
    assert "only for admin, not publisher" in str(after.reports[0])
    assert after.reports[0].concerns("prod")


def test_alias_stays_with_the_last_allowed_move(room, state, admin):
    moved = room.change(state, MoveAlias("prod", B), author=admin)
    after = room.put(moved, AliasMove("prod", C))
    assert after.registry.aliases["prod"] == B
    removed = room.put(moved, AliasMove("prod", None))
    assert removed.registry.aliases["prod"] == B


def test_move_dated_back_before_the_protection_changes_nothing(room, state):
    # Allowed as such: when it claims to have been made nothing was protected.
    after = room.put(state, AliasMove("prod", B), serial=1, at=room.now + 1)
    assert (after.registry.aliases["prod"], after.reports) == (A, ())


def test_move_of_the_same_change_as_the_protection_counts_as_after_it(room, state):
    after = room.put(state, AliasMove("prod", B), serial=state.serial)
    assert (after.registry.aliases["prod"], faults(after)) == (A, [Fault.PROTECTED])


def test_named_role_may_move_it_and_admins_always(room, state, admin):
    open_to_workers = room.change(state, ProtectAlias("prod", ("worker",)), author=admin)
    worker = room.author(5, "publisher", "worker")
    after = room.change(open_to_workers, MoveAlias("prod", B), author=worker)
    assert after.registry.aliases["prod"] == B
    assert room.change(after, MoveAlias("prod", C), author=admin).registry.aliases["prod"] == C
    with pytest.raises(ForbiddenError, match="worker"):
        room.change(after, MoveAlias("prod", C))


def test_protection_gives_nobody_the_right_to_move_aliases_at_all(room, state, admin):
    opened = room.change(state, ProtectAlias("prod", ("member",)), author=admin)
    after = room.put(opened, AliasMove("prod", B), room.author(4, "member"))
    assert (after.registry.aliases["prod"], Fault.NO_RIGHT in faults(after)) == (A, True)


def test_lifted_protection_lets_publishers_move_it_again(room, state, admin):
    refused = room.put(state, AliasMove("prod", B))
    lifted = room.change(refused, ProtectAlias("prod", ()), author=admin)
    assert lifted.registry.protections == {}
    # What was refused then stays refused: each move is judged by what was in force.
    assert (lifted.registry.aliases["prod"], faults(lifted)) == (A, [Fault.PROTECTED])
    assert room.change(lifted, MoveAlias("prod", C)).registry.aliases["prod"] == C


def test_protection_ahead_of_the_first_move(room, admin):
    ahead = room.change(room.empty(), Publish(room.entry(1)))
    ahead = room.change(ahead, ProtectAlias("new", ("admin",)), author=admin)
    assert ahead.registry.aliases == {}
    with pytest.raises(ForbiddenError):
        room.change(ahead, MoveAlias("new", A))
    assert room.change(ahead, MoveAlias("new", A), author=admin).registry.aliases == {"new": A}


def test_protecting_as_it_is_protected_changes_nothing(room, state, admin):
    again = room.change(state, ProtectAlias("prod", ("admin",)), author=admin)
    assert again.document is state.document


def test_only_admins_protect(room, state):
    with pytest.raises(ForbiddenError, match="role admin"):
        room.change(state, ProtectAlias("prod", ()))
    lifted = room.put(state, AliasProtection("prod", (), B))
    assert (lifted.registry.protections, lifted.registry.aliases["prod"]) == (
        {"prod": ("admin",)},
        A,
    )
    assert Fault.NO_RIGHT in faults(lifted)


def test_removed_admin_protects_nothing_any_more(room, state, admin):
    members = {
        node: chains for node, chains in state.document.members.items() if node != admin.key.public
    }
    after = room.verify(replace(state.document, members=members))
    assert (after.registry.protections, after.registry.aliases["prod"]) == ({}, A)


def test_withdrawal_that_takes_a_protected_alias_away_is_ignored_and_reported(room, state):
    after = room.put(state, Withdrawal(A))
    assert after.registry.aliases["prod"] == A
    assert faults(after) == [Fault.PROTECTED]
    # What no protected alias means, any publisher withdraws.
    assert B not in room.change(state, Withdraw(B)).registry.models


def test_who_moved_it_before_hearing_of_the_protection_learns_of_it(room, state, admin):
    apart = room.verify(replace(state.document, protections={}, serial=1))
    for turn in range(3):
        apart = room.change(apart, MoveAlias("prod", B if turn % 2 else C))
    for ours, theirs in ((apart, state), (state, apart)):
        found = room.verify(merge(ours.document, theirs.document, room.verify_member, room.now))
        assert accept_newer(apart, found) is found
        assert (found.registry.aliases["prod"], found.serial) == (A, apart.serial)
        assert set(faults(found)) == {Fault.PROTECTED}


def test_model_of_two_protected_aliases_needs_the_roles_of_both(room, state, admin):
    both = room.change(state, MoveAlias("best", A), ProtectAlias("best", ("worker",)), author=admin)
    worker = room.author(5, "publisher", "worker")
    with pytest.raises(ForbiddenError, match="'prod' is protected"):
        room.change(both, Withdraw(A), author=worker)
    assert faults(room.put(both, Withdrawal(A), worker)) == [Fault.PROTECTED]
    assert room.put(both, Withdrawal(A), admin).reports == ()


def test_moves_that_a_protection_forbids_push_no_others_out(room, state, admin):
    apart = room.verify(replace(state.document, protections={}, serial=1))
    for turn in range(ALIAS_HISTORY_MAX + 5):
        apart = room.change(apart, MoveAlias("prod", B if turn % 2 else C))
    moved = room.change(state, MoveAlias("prod", B), author=admin)
    for ours, theirs in ((apart, moved), (moved, apart)):
        found = room.verify(merge(ours.document, theirs.document, room.verify_member, room.now))
        assert found.registry.aliases["prod"] == B
        assert len(found.document.aliases["prod"]) == ALIAS_HISTORY_MAX


def test_move_is_allowed_again_by_the_end_of_the_protection_heard_of_later(room, state, admin):
    apart = room.verify(replace(state.document, protections={}, serial=1))
    for turn in range(4):
        apart = room.change(apart, MoveAlias("prod", B if turn % 2 else C))
    lifted = room.change(state, ProtectAlias("prod", ()), author=admin)
    forbidden = merge(apart.document, state.document, room.verify_member, room.now)
    assert room.verify(forbidden).registry.aliases["prod"] == A
    for ours, theirs in ((forbidden, lifted.document), (lifted.document, forbidden)):
        found = room.verify(merge(ours, theirs, room.verify_member, room.now))
        assert found.registry.aliases["prod"] == B


def test_unknown_role_is_refused(room):
    with pytest.raises(InputError, match="'boss' is not a role"):
        ProtectAlias("prod", ("admin", "boss"))


@pytest.mark.parametrize("roles", [("",), ("Admin",), ("x" * 33,), ("admin",) * 17])
def test_what_can_be_no_role_is_refused(roles):
    with pytest.raises(InputError, match="not roles"):
        AliasProtection("prod", roles, A)


def test_history_of_protections_is_bounded(room, state, admin):
    for turn in range(PROTECTIONS_MAX_PER_ALIAS + 3):
        roles = ("admin",) if turn % 2 else ("publisher",)
        state = room.change(state, ProtectAlias("prod", roles), author=admin)
    assert len(state.document.protections["prod"]) == PROTECTIONS_MAX_PER_ALIAS
    assert (state.registry.aliases["prod"], state.reports) == (A, ())
