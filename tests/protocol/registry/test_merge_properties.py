"""Whatever members do while they are apart, their documents become one, the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.changes import (
    ChangeTags,
    MoveAlias,
    Promote,
    ProtectAlias,
    Publish,
    RemoveAlias,
    ReportNode,
    SayStored,
    SetPolicy,
    Withdraw,
)
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.policy import Retention, RoomPolicy
from dreamer.protocol.registry.sift import counts

NAMED = [ManifestId(bytes([number]) * 32) for number in (1, 2)]
LOOSE = [ManifestId(bytes([number]) * 32) for number in (3, 4)]
ROLES = {1: ("publisher",), 2: ("publisher", "worker"), 3: ("admin",), 4: ("worker",)}

aliases = st.sampled_from(["prod", "next"])
models = st.sampled_from([*NAMED, *LOOSE])
flags = st.booleans()
changes = st.one_of(
    st.builds(MoveAlias, aliases, st.sampled_from(NAMED)),
    st.builds(RemoveAlias, aliases),
    st.builds(Promote, aliases, aliases),
    st.builds(ChangeTags, models, st.just(("good",))),
    st.builds(ChangeTags, models, st.just(()), st.just(("good",))),
    st.builds(lambda key, on: SayStored(Stored(key, "s3://b/x" if on else None)), models, flags),
    st.builds(lambda key, on: ReportNode(NodeReport(((key, on),))), models, flags),
    st.builds(ProtectAlias, aliases, st.sampled_from([(), ("admin",), ("worker",)])),
    st.builds(lambda count: SetPolicy(RoomPolicy(Retention(count))), st.integers(1, 3)),
    # Only of models that no alias means: who withdraws what a protection made while they were apart
    # would have kept loses the model's tags (not the model) in some orders of merging.
    st.builds(Withdraw, st.sampled_from(LOOSE)),
    st.builds(lambda key: ("publish", key), models),
)
steps = st.lists(st.tuples(st.sampled_from(sorted(ROLES)), changes), max_size=8)


@pytest.fixture
def played(room):
    """Returns what comes of a document when members change it one after another."""

    def play(state, branch):
        for author, change in branch:
            if isinstance(change, tuple):
                change = Publish(room.entry(change[1][0], f"by-{author}"))
            try:
                state = room.change(state, change, author=room.author(author, *ROLES[author]))
            except DreamerError:
                continue
        return state

    return play


@pytest.fixture
def base(room):
    names = [MoveAlias("prod", NAMED[0]), MoveAlias("next", NAMED[1])]
    return room.change(room.empty(), *(Publish(room.entry(n)) for n in (1, 2, 3, 4)), *names)


@pytest.fixture
def merged(room):
    def run(ours, theirs):
        return merge(ours, theirs, room.verify_member, room.now)

    return run


def said(document):
    """What a document says: without the chains of authors whose every record was replaced, which
    one side may still have, and without the entries that only stand below later tags of a model
    that was withdrawn, of which merging in another order may leave an older one.
    """
    ends = document.withdrawn
    models = {
        key: model if counts(model, ends.get(key)) else replace(model, entry=None)
        for key, model in document.models.items()
    }
    return replace(document, members={}, models=models)


many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(steps, steps)
def test_merging_is_the_same_from_either_side_and_done_once(room, base, played, merged, one, two):
    a, b = played(base, one).document, played(base, two).document
    both = merged(a, b)
    assert said(both) == said(merged(b, a))
    assert room.verify(both).registry == room.verify(merged(b, a)).registry
    assert merged(both, b) is both
    assert merged(both, a) is both
    assert merged(both, base.document) is both
    assert parse(both.encode(), room.id) == both


@many
@given(steps, steps, steps)
def test_merging_of_three_is_the_same_in_any_order(room, base, played, merged, one, two, three):
    a, b, c = (played(base, branch).document for branch in (one, two, three))
    first, second = merged(merged(a, b), c), merged(a, merged(b, c))
    assert said(first) == said(second)
    assert room.verify(first).registry == room.verify(second).registry
    assert said(merged(merged(c, a), b)) == said(first)


@many
@given(steps, steps)
def test_what_both_published_and_none_withdrew_is_in_the_merged(
    room, base, played, merged, one, two
):
    a, b = played(base, one), played(base, two)
    after = room.verify(merged(a.document, b.document))
    assert after.serial == after.document.serial == max(a.serial, b.serial)
    found = after.registry
    withdrawn = {**a.registry.withdrawn, **b.registry.withdrawn}
    for key in {**a.registry.models, **b.registry.models}:
        assert key in found.models or key in withdrawn
    for node in {**a.registry.reports, **b.registry.reports}:
        assert found.reports[node] in (a.registry.reports.get(node), b.registry.reports.get(node))


@many
@given(steps)
def test_every_change_that_was_made_is_believed_by_all(room, base, played, one):
    after = played(base, one)
    assert after.reports == ()
    assert after.serial == after.document.serial
