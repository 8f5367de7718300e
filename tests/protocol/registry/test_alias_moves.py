"""Moving aliases: compare and swap, promotion, and the history of who moved what."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import ConflictError, NoMatchError, StaleError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.aliases import AliasStep, steps
from dreamer.protocol.registry.changes import MoveAlias, Promote, Publish, RemoveAlias, Withdraw
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import AliasMove
from dreamer.protocol.registry_limits import ALIAS_HISTORY_MAX

A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def state(room):
    """Three models; staging means B, production A."""
    models = [Publish(room.entry(number)) for number in (1, 2, 3)]
    return room.change(room.empty(), *models, MoveAlias("staging", B), MoveAlias("production", A))


def test_move_from_what_was_expected_is_made(room, state):
    after = room.change(state, MoveAlias("production", C, expected=A))
    assert after.registry.aliases["production"] == C


def test_move_from_something_else_names_who_moved_it_and_changes_nothing(room, state):
    other = room.author(2)
    moved = room.change(state, MoveAlias("production", C), author=other)
    with pytest.raises(StaleError) as raised:
        room.change(moved, MoveAlias("production", B, expected=A))
    message = str(raised.value)
    assert isinstance(raised.value, ConflictError)
    assert "means 03030303 now, not 01010101" in message
    assert f"node {other.key.public.hex()[:8]} moved it at 2027-01-15 08:00:00 UTC" in message
    assert "dreamer models" in message


def test_alias_expected_to_mean_nothing(room, state):
    after = room.change(state, MoveAlias("canary", C, expected=None))
    assert after.registry.aliases["canary"] == C
    with pytest.raises(StaleError, match="means 01010101 now, not nothing"):
        room.change(state, MoveAlias("production", C, expected=None))


def test_alias_that_means_nothing_is_not_what_was_expected(room, state):
    with pytest.raises(StaleError, match="means nothing now, not 01010101"):
        room.change(state, MoveAlias("canary", C, expected=A))
    removed = room.change(state, RemoveAlias("production"))
    with pytest.raises(StaleError, match="means nothing now, not 01010101; node"):
        room.change(removed, MoveAlias("production", C, expected=A))


def test_move_repeated_because_its_answer_was_lost_is_no_conflict(room, state):
    once = room.change(state, MoveAlias("production", C, expected=A))
    assert room.change(once, MoveAlias("production", C, expected=A)).document is once.document


def test_alias_is_removed_from_what_was_expected_only(room, state):
    with pytest.raises(StaleError):
        room.change(state, RemoveAlias("production", expected=B))
    assert (
        "production"
        not in room.change(state, RemoveAlias("production", expected=A)).registry.aliases
    )


def test_alias_of_a_withdrawn_model_means_nothing_and_still_that_model(room, state):
    gone = room.change(state, Withdraw(A))
    for expected in (None, A):
        after = room.change(gone, MoveAlias("production", C, expected=expected))
        assert after.registry.aliases["production"] == C


def test_one_of_several_changes_in_conflict_leaves_all_unmade(room, state):
    with pytest.raises(StaleError):
        room.change(state, MoveAlias("staging", C), MoveAlias("production", C, expected=B))
    assert room.verify(state.document).registry.aliases["staging"] == B


def test_later_changes_see_what_the_earlier_ones_made(room, state):
    after = room.change(
        state,
        MoveAlias("production", B, expected=A),
        MoveAlias("production", C, expected=B),
        Promote("production", "best"),
    )
    assert after.registry.aliases == {"staging": B, "production": C, "best": C}
    # One serial can't put two moves in an order, so only the last is written.
    assert [step.after for step in steps(after.registry.history["production"])] == [A, C]


def test_promotion_makes_the_target_mean_what_the_source_means(room, state):
    after = room.change(state, Promote("staging", "production", expected=A))
    assert after.registry.aliases == {"staging": B, "production": B}
    assert after.serial == state.serial + 1
    assert room.change(after, Promote("staging", "production")).document is after.document


def test_promotion_takes_the_source_as_it_is_when_it_is_made(room, state):
    # Somebody moved staging between reading and writing: the change is applied anew.
    moved = room.change(state, MoveAlias("staging", C), author=room.author(2))
    assert room.change(moved, Promote("staging", "production")).registry.aliases["production"] == C


def test_promotion_to_an_alias_that_moved_meanwhile_is_a_conflict(room, state):
    moved = room.change(state, MoveAlias("production", C))
    with pytest.raises(StaleError, match="'production' means 03030303"):
        room.change(moved, Promote("staging", "production", expected=A))


@pytest.mark.parametrize("source", ["nothing-here", "removed", "withdrawn"])
def test_promotion_of_what_means_nothing_is_refused(room, state, source):
    state = room.change(state, MoveAlias("removed", C), MoveAlias("withdrawn", C))
    state = room.change(state, RemoveAlias("removed"), Withdraw(C))
    with pytest.raises(NoMatchError, match="dreamer models"):
        room.change(state, Promote(source, "production"))


def test_history_says_from_what_to_what_by_whom_and_when(room, state):
    other = room.author(2)
    state = room.change(state, MoveAlias("production", B), author=other, now=room.now + 5)
    state = room.change(state, RemoveAlias("production"), now=room.now + 6)
    me, them = room.author(1).key.public, other.key.public
    assert steps(state.registry.history["production"]) == (
        AliasStep("production", None, A, me, room.now, 1),
        AliasStep("production", A, B, them, room.now + 5, 2),
        AliasStep("production", B, None, me, room.now + 6, 3),
    )


def test_history_that_was_cut_off_still_says_from_what(room, state):
    for turn in range(ALIAS_HISTORY_MAX):
        state = room.change(state, MoveAlias("production", B if turn % 2 else C))
    first = steps(state.registry.history["production"])[0]
    assert (first.before, first.after) == (A, C)


def test_moves_of_a_version_that_did_not_write_from_what_are_read(room, state):
    state = room.put(state, AliasMove("production", B))
    state = room.put(state, AliasMove("production", C))
    found = [(step.before, step.after) for step in steps(state.registry.history["production"])]
    assert found == [(None, A), (A, B), (B, C)]


def test_forged_moves_do_not_push_the_real_ones_out_of_the_history(room, state):
    stranger = room.author(9, "member")
    for number in range(ALIAS_HISTORY_MAX - 1):
        state = room.put(state, AliasMove("production", C), stranger, serial=100 + number)
    assert {report.fault for report in state.reports} >= {Fault.NO_RIGHT}
    state = room.change(state, MoveAlias("production", B))
    state = room.change(state, MoveAlias("production", C))
    assert [step.after for step in steps(state.registry.history["production"])] == [A, B, C]
    assert len(state.document.aliases["production"]) == ALIAS_HISTORY_MAX
