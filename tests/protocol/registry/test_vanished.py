"""Records that somebody dropped from the document: what is kept of them, and what may go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry import pen
from dreamer.protocol.registry import vanished as module
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.changes import (
    ChangeTags,
    Describe,
    MoveAlias,
    ProtectAlias,
    Publish,
    RemoveAlias,
    ReportNode,
    SayStored,
    SetPolicy,
    Withdraw,
)
from dreamer.protocol.registry.policy import AliasProtection, Retention, RoomPolicy
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import AliasMove, Withdrawal
from dreamer.protocol.registry.vanished import keep_vanished, vanished
from dreamer.protocol.registry_limits import (
    ALIAS_HISTORY_MAX,
    CACHED_ID_BYTES,
    PROTECTIONS_MAX_PER_ALIAS,
)

NOW = 1_800_000_000.0
A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))
HERE = Stored(A, "https://s3.example.org/bucket", 1000, 700)
RULES = RoomPolicy(Retention(keep_last=3))


@pytest.fixture
def state(room):
    """A room with something of each kind."""
    admin = room.author(1, "publisher", "admin")
    found = room.change(
        *(room.empty(), Publish(room.entry(1)), Publish(room.entry(2))),
        *(MoveAlias("prod", A), ChangeTags(A, ("good",)), SayStored(HERE)),
        author=admin,
    )
    return room.change(found, ProtectAlias("prod", ("admin",)), SetPolicy(RULES), author=admin)


def kept(room, before, document, now=NOW):
    """What a reader that has seen ``before`` makes of a document."""
    return keep_vanished(before, room.verify(document, now=now), room.verify_member, now)


def lost(verified) -> list[str]:
    return [one.where for one in verified.reports if one.fault is Fault.VANISHED]


def dropped(state, **tables):
    return replace(state.document, **tables)


@pytest.mark.parametrize("table", ["models", "aliases", "protections"])
def test_a_table_that_was_emptied_comes_back(room, state, table):
    after = kept(room, state, dropped(state, **{table: {}}))
    assert after.registry == state.registry
    assert {one.fault for one in after.reports} == {Fault.VANISHED}


def test_one_model_out_of_many_comes_back_with_all_that_was_said_of_it(room, state):
    left = {key: one for key, one in state.document.models.items() if key != A}
    after = kept(room, state, dropped(state, models=left))
    assert after.registry.models[A].tags == ("good",)
    assert after.registry.models[A].stored == HERE
    assert "model 01010101" in lost(after)


def test_tag_and_place_of_a_model_come_back(room, state):
    bare = replace(state.document.models[A], tags={}, stored=None)
    after = kept(room, state, dropped(state, models={**state.document.models, A: bare}))
    assert after.registry == state.registry


def test_rules_of_the_room_come_back(room, state):
    after = kept(room, state, dropped(state, policy=None))
    assert after.registry.policy == RULES


def test_alias_set_back_by_dropping_its_last_move_means_the_last_model(room, state):
    before = room.change(state, MoveAlias("prod", B), author=room.author(1, "publisher", "admin"))
    back = dropped(before, aliases=state.document.aliases)
    after = kept(room, before, back)
    assert after.registry.aliases == {"prod": B}


def test_forged_move_in_place_of_the_last_one_hides_nothing(room, state):
    admin, anybody = room.author(1, "publisher", "admin"), room.author(7, "member")
    before = room.change(state, MoveAlias("prod", B), author=admin)
    forged = sign(AliasMove("prod", A), room.id, anybody.key, NOW, before.last_serial + 1)
    moves = (*state.document.aliases["prod"], forged)
    after = kept(room, before, dropped(before, aliases={"prod": moves}))
    assert after.registry.aliases == {"prod": B}


def test_withdrawn_model_does_not_come_back_by_dropping_the_withdrawal(room, state):
    before = room.change(state, Withdraw(B))
    assert B not in before.registry.models
    old = {**before.document.models, B: state.document.models[B]}
    after = kept(room, before, dropped(before, models=old, withdrawn={}))
    assert B not in after.registry.models


def test_withdrawn_model_does_not_come_back_in_two_writes(room, state):
    before = room.change(state, Withdraw(B))
    after = kept(room, before, dropped(before, withdrawn={}))
    assert lost(after) == ["withdrawal of model 02020202"]
    # The withdrawal is remembered, so the old entry that comes next counts for nothing.
    old = {**before.document.models, B: state.document.models[B]}
    again = kept(room, after, dropped(after, models=old, withdrawn={}))
    assert B not in again.registry.models


def test_removed_tag_does_not_come_back_in_two_writes(room, state):
    before = room.change(state, ChangeTags(A, remove=("good",)))
    bare = replace(before.document.models[A], tags={})
    after = kept(room, before, dropped(before, models={**before.document.models, A: bare}))
    assert len(lost(after)) == 1
    old = kept(room, after, dropped(after, models=state.document.models))
    assert old.registry.models[A].tags == ()


def test_removal_of_a_tag_may_go_where_others_need_its_room(room, state, monkeypatch):
    before = room.change(state, ChangeTags(A, remove=("good",)))
    monkeypatch.setattr(pen, "TAGS_MAX_PER_MODEL", 3)
    monkeypatch.setattr(module, "TAGS_MAX_PER_MODEL", 3)
    after = room.change(before, ChangeTags(A, ("one", "two", "three")))
    assert set(after.document.models[A].tags) == {"one", "two", "three"}
    assert vanished(before, after, NOW) == []


def test_forged_withdrawals_make_no_room_for_dropping_models(room, state, monkeypatch):
    monkeypatch.setattr(module, "WITHDRAWN_MAX_MODELS", 1)
    anybody = room.author(7, "member")
    ended = sign(Withdrawal(C), room.id, anybody.key, NOW, state.last_serial + 1)
    after = kept(room, state, dropped(state, models={}, withdrawn={C: ended}))
    assert set(after.registry.models) == {A, B}


def test_records_whose_authors_chains_were_dropped_still_count(room, state):
    other = room.author(3)
    alone = {NodeId(other.key.public): (other.chain,)}
    later = room.change(state, Publish(room.entry(3)), author=other)
    after = kept(room, state, replace(later.document, members=alone))
    assert set(after.registry.models) == {A, B, C}
    assert after.registry.aliases == state.registry.aliases
    assert after.registry.policy == RULES
    assert "model 01010101" in lost(after)


def test_chains_that_prove_nothing_leave_room_for_those_that_do(room, state):
    junk = {
        node: tuple([node.hex(), 1.0 + number, "admin"] for number in range(4))
        for node in state.document.members
    }
    after = kept(room, state, dropped(state, members=junk))
    assert after.registry == state.registry
    assert len(lost(after)) > 1


def test_records_whose_words_were_changed_still_count(room, state):
    document = state.document
    forged = {
        key: replace(one, entry=replace(one.entry, said=replace(one.entry.said, name="forged")))
        for key, one in document.models.items()
    }
    policy = replace(document.policy, said=RoomPolicy())
    move = document.aliases["prod"][-1]
    moves = (replace(move, said=replace(move.said, manifest_id=B)),)
    bad = dropped(state, models=forged, policy=policy, aliases={"prod": moves})
    after = kept(room, state, bad)
    assert after.registry == state.registry
    assert {"model 01010101", "model 02020202"} <= set(lost(after))


def test_older_report_in_place_of_a_newer_one_is_not_believed(room, state):
    plain = room.author(4, "member")
    first = NodeReport(((A[:CACHED_ID_BYTES], True),), name="bench")
    before = room.change(state, ReportNode(first), author=plain)
    after = room.change(before, ReportNode(NodeReport(name="bench")), author=plain)
    back = kept(room, after, dropped(after, reports=before.document.reports))
    assert back.registry.models[A].cached_on == ()
    # Reports give way to models, and may be gone altogether.
    assert lost(kept(room, after, dropped(after, reports={}))) == []


def test_what_was_changed_by_its_members_is_no_loss(room, state):
    admin = room.author(1, "publisher", "admin")
    after = state
    for changes in (
        (MoveAlias("prod", B),),
        (RemoveAlias("prod"),),
        (ChangeTags(A, remove=("good",)),),
        (SayStored(Stored(A, None)),),
        (Describe(A, "noted"),),
        (Publish(room.entry(1, "anew")),),
        (ProtectAlias("prod", ()),),
        (SetPolicy(RoomPolicy()),),
        (Withdraw(B),),
        (Withdraw(A),),
        (Publish(room.entry(1)),),
    ):
        before, after = after, room.change(after, *changes, author=admin)
        assert vanished(before, after, NOW) == []
        assert vanished(state, after, NOW) == []
        assert keep_vanished(before, after, room.verify_member, NOW) is after


def test_a_history_that_was_cut_to_its_length_is_no_loss(room, state):
    admin = room.author(1, "publisher", "admin")
    before = after = state
    for number in range(ALIAS_HISTORY_MAX + 3):
        after = room.change(after, MoveAlias("prod", B if number % 2 else A), author=admin)
        after = room.change(after, MoveAlias("prod", A if number % 2 else B), author=admin)
    assert len(after.document.aliases["prod"]) == ALIAS_HISTORY_MAX
    assert vanished(before, after, NOW) == []


def test_upload_whose_time_is_over_may_go(room, state):
    short = replace(room.entry(3), expires_at=int(NOW) + 100, lifetime_days=1)
    before = room.change(state, Publish(short))
    left = dropped(before, models=state.document.models)
    assert lost(kept(room, before, left)) == ["model 03030303"]
    assert lost(kept(room, before, left, now=NOW + 101)) == []


def test_withdrawal_that_was_forgotten_brings_no_model_back(room, state, monkeypatch):
    monkeypatch.setattr(module, "WITHDRAWN_MAX_MODELS", 1)
    later = room.change(state, Withdraw(B))
    later = room.change(later, Publish(room.entry(3)))
    later = room.change(later, Withdraw(room.entry(3).manifest_id))
    newest = {room.entry(3).manifest_id: later.document.withdrawn[room.entry(3).manifest_id]}
    after = kept(room, state, dropped(later, withdrawn=newest))
    assert B not in after.registry.models


def test_what_a_removed_member_said_is_not_put_back(room, state):
    # Judged anew without its author, it did not count before either.
    gone = replace(state.document, members={})
    before = room.verify(gone)
    assert vanished(before, room.verify(dropped(state, models={}, members={})), NOW) == []


def test_forged_moves_and_protections_leave_room_for_those_that_count(room, state):
    anybody, last = room.author(7, "member"), state.last_serial

    def forged(said, count):
        return tuple(
            sign(said, room.id, anybody.key, NOW, last + number) for number in range(1, count + 1)
        )

    moves = forged(AliasMove("prod", B), ALIAS_HISTORY_MAX)
    guards = forged(AliasProtection("prod", (), B), PROTECTIONS_MAX_PER_ALIAS)
    bad = dropped(state, aliases={"prod": moves}, protections={"prod": guards})
    after = kept(room, state, bad)
    assert after.registry == state.registry
    assert len(after.document.aliases["prod"]) == ALIAS_HISTORY_MAX
    assert len(after.document.protections["prod"]) == PROTECTIONS_MAX_PER_ALIAS
