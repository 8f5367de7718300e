import pytest

from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, Publish, RemoveAlias, apply
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry_limits import ALIAS_HISTORY_MAX, TAGS_MAX_PER_MODEL

A = ManifestId(b"\x01" * 32)
B = ManifestId(b"\x02" * 32)


def test_published_model_is_in_the_view_with_alias_and_tag(room):
    after = room.change(
        room.empty(), Publish(room.entry(1)), MoveAlias("prod", A), ChangeTags(A, add=("good",))
    )
    model = after.registry.models[A]
    assert (model.name, model.aliases, model.tags) == ("model", ("prod",), ("good",))
    assert (after.serial, after.document.serial, after.reports) == (1, 1, ())


def test_document_survives_encoding_and_parsing(room):
    before = room.change(room.empty(), Publish(room.entry(1)), MoveAlias("prod", A))
    again = parse(before.document.encode(), room.id)
    assert again == before.document
    assert room.verify(again) == before


def test_alias_moves_and_keeps_who_moved_it(room):
    one = room.change(room.empty(), Publish(room.entry(1)), Publish(room.entry(2)))
    two = room.change(one, MoveAlias("prod", A))
    three = room.change(two, MoveAlias("prod", B), author=room.author(2))
    assert three.registry.aliases == {"prod": B}
    moves = three.registry.history["prod"]
    assert [move.said.manifest_id for move in moves] == [A, B]
    assert moves[1].by == room.author(2).key.public


def test_removed_alias_means_nothing_and_cannot_be_removed_twice(room):
    one = room.change(room.empty(), Publish(room.entry(1)), MoveAlias("prod", A))
    two = room.change(one, RemoveAlias("prod"))
    assert two.registry.aliases == {}
    assert two.registry.models[A].aliases == ()
    with pytest.raises(NoMatchError, match="dreamer models"):
        room.change(two, RemoveAlias("prod"))


def test_moving_an_alias_to_where_it_is_changes_nothing(room):
    one = room.change(room.empty(), Publish(room.entry(1)), MoveAlias("prod", A))
    assert apply(one, [MoveAlias("prod", A)], room.author(1), room.now) is one.document


def test_alias_for_a_model_not_in_the_room_is_refused(room):
    with pytest.raises(NoMatchError, match="push it here first"):
        room.change(room.empty(), MoveAlias("prod", A))


def test_alias_history_keeps_the_latest_moves_only(room):
    state = room.change(room.empty(), Publish(room.entry(1)), Publish(room.entry(2)))
    for turn in range(ALIAS_HISTORY_MAX + 5):
        state = room.change(state, MoveAlias("prod", B if turn % 2 else A))
    assert len(state.document.aliases["prod"]) == ALIAS_HISTORY_MAX
    assert state.registry.history["prod"][-1].serial == state.serial


def test_publishing_again_renews_the_entry_and_keeps_tags(room):
    one = room.change(room.empty(), Publish(room.entry(1)), ChangeTags(A, add=("good",)))
    two = room.change(one, Publish(room.entry(1, "renamed")))
    assert (two.registry.models[A].name, two.registry.models[A].tags) == ("renamed", ("good",))


def test_removed_tag_is_gone_and_removing_a_missing_one_is_no_change(room):
    one = room.change(room.empty(), Publish(room.entry(1)), ChangeTags(A, add=("good", "new")))
    two = room.change(one, ChangeTags(A, remove=("good",)))
    assert two.registry.models[A].tags == ("new",)
    assert apply(two, [ChangeTags(A, remove=("good",))], room.author(1), room.now) is two.document


def test_tags_of_one_change_follow_each_other(room):
    one = room.change(room.empty(), Publish(room.entry(1)), ChangeTags(A, add=("old",)))
    two = room.change(
        one,
        ChangeTags(A, add=("new",)),
        ChangeTags(A, remove=("new", "old")),
        ChangeTags(A, add=("old",)),
    )
    assert two.registry.models[A].tags == ("old",)


def test_too_many_tags_are_refused_but_removed_ones_are_forgotten(room):
    state = room.change(room.empty(), Publish(room.entry(1)))
    full = tuple(f"t{number}" for number in range(TAGS_MAX_PER_MODEL))
    state = room.change(state, ChangeTags(A, add=full))
    with pytest.raises(InputError, match="remove some"):
        room.change(state, ChangeTags(A, add=("more",)))
    state = room.change(state, ChangeTags(A, add=("more",), remove=("t0",)))
    assert "more" in state.registry.models[A].tags
    assert "t0" not in state.document.models[A].tags


def test_new_chain_of_an_author_joins_the_older_ones(room):
    one = room.change(room.empty(), Publish(room.entry(1)), author=room.author(1, "publisher"))
    two = room.change(one, Publish(room.entry(2)), author=room.author(1, "admin"))
    chains = two.document.members[room.author(1).key.public]
    assert [chain[-1] for chain in chains] == ["publisher", "admin"]


def test_absurd_serial_of_a_store_is_not_carried_on(room):
    one = room.change(room.empty(), Publish(room.entry(1)))
    data = one.document.encode().replace(b'"serial":1}', b'"serial":9007199254740991}')
    inflated = room.verify(parse(data, room.id))
    assert inflated.document.serial > 2**50
    assert room.change(inflated, MoveAlias("prod", A)).serial == 2
