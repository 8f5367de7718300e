"""Models that are taken out of a room, and stay out until somebody publishes them again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import ForbiddenError, InputError, NoMatchError, StaleError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.availability import Stored
from dreamer.protocol.registry.changes import (
    ChangeTags,
    MoveAlias,
    Publish,
    SayStored,
    SetPolicy,
    Withdraw,
)
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.policy import Retention, RoomPolicy
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.statements import ModelEntry, Withdrawal
from dreamer.protocol.registry_limits import REASON_MAX_CHARS, WITHDRAWN_MAX_MODELS

A, B = (ManifestId(bytes([number]) * 32) for number in (1, 2))


@pytest.fixture
def state(room):
    """Two models; A is tagged, stored and named."""
    return room.change(
        room.empty(),
        Publish(room.entry(1)),
        Publish(room.entry(2)),
        ChangeTags(A, add=("good",)),
        SayStored(Stored(A, "s3://bucket/models", 1000, 900)),
        MoveAlias("prod", A),
    )


def test_withdrawn_model_is_no_more_in_the_room(room, state):
    after = room.change(state, Withdraw(A, "kept the last 3"), author=room.author(2))
    again = room.verify(parse(after.document.encode(), room.id))
    assert again == after
    assert (list(after.registry.models), after.reports) == ([B], ())
    gone = after.registry.withdrawn[A]
    assert (gone.by, gone.at, gone.said.reason) == (
        room.author(2).key.public,
        room.now,
        "kept the last 3",
    )
    with pytest.raises(NoMatchError):
        resolve(after.registry, A.hex())


def test_its_aliases_mean_nothing_without_a_fault(room, state):
    after = room.change(state, Withdraw(A))
    assert (after.registry.aliases, after.registry.dangling) == ({}, {"prod": A})
    assert after.reports == ()
    with pytest.raises(NoMatchError):
        resolve(after.registry, "prod")


def test_withdrawing_twice_changes_nothing_and_a_stranger_is_no_match(room, state):
    after = room.change(state, Withdraw(A))
    assert room.change(after, Withdraw(A)).document is after.document
    with pytest.raises(NoMatchError):
        room.change(state, Withdraw(ManifestId(b"\x09" * 32)))


def test_publishing_again_brings_it_back_without_its_old_tags(room, state):
    gone = room.change(state, Withdraw(A))
    back = room.change(gone, Publish(room.entry(1, "again")), author=room.author(2))
    model = back.registry.models[A]
    assert (model.name, model.tags, model.stored) == ("again", (), None)
    assert (back.registry.aliases, back.registry.withdrawn) == ({"prod": A}, {})
    assert back.reports == ()


def test_withdrawn_and_published_in_one_change_is_published(room, state):
    tags = ChangeTags(A, add=("new", "good"))
    after = room.change(state, Withdraw(A), Publish(room.entry(1)), tags)
    assert after.registry.models[A].tags == ("good", "new")
    assert after.registry.models[A].stored is None


def test_published_and_withdrawn_in_one_change_is_refused(room):
    with pytest.raises(InputError, match="one change"):
        room.change(room.empty(), Publish(room.entry(1)), Withdraw(A))


def test_copy_from_before_does_not_bring_it_back(room, state):
    after = room.change(state, Withdraw(A)).document
    assert merge(after, state.document, room.verify_member, room.now) is after
    other_way = merge(state.document, after, room.verify_member, room.now)
    assert (A in other_way.models, other_way) == (False, after)


def test_old_entry_that_a_store_puts_back_beside_the_withdrawal_does_not_count(room, state):
    gone = room.change(state, Withdraw(A))
    put_back = replace(gone.document, models=state.document.models)
    after = room.verify(put_back)
    assert list(after.registry.models) == [B]
    with pytest.raises(NoMatchError):
        room.change(after, MoveAlias("best", A))
    # Nor does it come back when the model is published again.
    back = room.change(after, Publish(room.entry(1)))
    assert (back.registry.models[A].tags, back.registry.models[A].stored) == ((), None)


def test_old_tag_that_a_store_puts_back_after_a_new_entry_does_not_count(room, state):
    back = room.change(room.change(state, Withdraw(A)), Publish(room.entry(1)))
    old = state.document.models[A]
    model = replace(back.document.models[A], tags=old.tags, stored=old.stored)
    stuffed = replace(back.document, models={**back.document.models, A: model})
    model = room.verify(stuffed).registry.models[A]
    assert (model.tags, model.stored) == ((), None)


def test_withdrawal_beside_later_changes_of_the_model_is_no_older_document(room, state):
    gone = room.change(state, Withdraw(A), author=room.author(2))
    tagged = room.change(state, ChangeTags(B, add=("x",)), author=room.author(3))
    tagged = room.change(tagged, ChangeTags(A, add=("x",)), author=room.author(3))
    for ours, theirs in ((gone, tagged), (tagged, gone)):
        found = room.verify(merge(ours.document, theirs.document, room.verify_member, room.now))
        assert (list(found.registry.models), found.serial) == ([B], tagged.serial)
        assert found.reports == ()
        back = room.change(found, Publish(room.entry(1)))
        assert A in back.registry.models


def test_plain_member_and_worker_withdraw_nothing(room, state):
    for role in ("member", "worker"):
        author = room.author(4, role)
        with pytest.raises(ForbiddenError, match="publisher or admin"):
            room.change(state, Withdraw(A), author=author)
        forged = room.put(state, Withdrawal(A), author)
        assert A in forged.registry.models
        assert Fault.NO_RIGHT in [report.fault for report in forged.reports]


@pytest.mark.parametrize(
    "since",
    [
        Publish(ModelEntry(A, "renewed", 1000, 3, "decoder")),
        ChangeTags(A, add=("keep",)),
        MoveAlias("best", A),
        SetPolicy(RoomPolicy(Retention(keep_last=3))),
    ],
)
def test_model_changed_since_it_was_judged_is_not_withdrawn(room, state, since):
    changed = room.change(state, since, author=room.author(2, "admin"))
    with pytest.raises(StaleError, match="look again"):
        room.change(changed, Withdraw(A, as_seen=state.serial))
    assert A not in room.change(changed, Withdraw(A, as_seen=changed.serial)).registry.models


def test_change_of_another_model_does_not_hold_it_up(room, state):
    changed = room.change(state, ChangeTags(B, add=("keep",)))
    assert A not in room.change(changed, Withdraw(A, as_seen=state.serial)).registry.models


@pytest.mark.parametrize("reason", ["x" * (REASON_MAX_CHARS + 1), "a\nb"])
def test_reason_that_no_line_holds_is_refused(reason):
    with pytest.raises(InputError):
        Withdrawal(A, reason)


def test_only_so_many_withdrawals_are_remembered(room, state, monkeypatch):
    monkeypatch.setattr("dreamer.protocol.registry.fitting.WITHDRAWN_MAX_MODELS", 3)
    for number in range(10, 15):
        state = room.change(state, Publish(room.entry(number)))
        state = room.change(state, Withdraw(ManifestId(bytes([number]) * 32)))
    assert [key[0] for key in state.document.withdrawn] == [12, 13, 14]
    assert WITHDRAWN_MAX_MODELS > 1000
