"""What a room's policy keeps: tables of cases, and what must hold for any room at all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.origin_limits import RETENTION_GRACE_S
from dreamer.protocol.registry.policy import Retention
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.statements import AliasMove
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.retention import judge, rules_said

NOW = 1_800_000_000.0
DAY_S = 86_400
ROOM = RoomId(b"R" * 32)
NODE = NodeId(b"N" * 32)


def model_id(number: int) -> ManifestId:
    return ManifestId(bytes([number]) * 32)


def model(number: int, days_old: float, *tags: str, expires_at: float | None = None) -> Model:
    at = NOW - days_old * DAY_S
    return Model(
        *(model_id(number), f"model-{number}", 1000, 1, "files", NODE, at),
        tags=tags,
        expires_at=expires_at,
    )


def registry(models: list[Model], moves: dict[str, list[int | None]]) -> Registry:
    """A registry in which each alias moved from one model to the next; None: it was removed."""
    history, aliases = {}, {}
    for alias, targets in moves.items():
        records = []
        for serial, number in enumerate(targets, 1):
            target = None if number is None else model_id(number)
            records.append(Record(AliasMove(alias, target), ROOM, NODE, NOW, serial))
        history[alias] = tuple(records)
        there = {one.manifest_id for one in models}
        if targets and targets[-1] is not None and model_id(targets[-1]) in there:
            aliases[alias] = model_id(targets[-1])
    named = {
        one.manifest_id: replace(
            one, aliases=tuple(alias for alias, key in aliases.items() if key == one.manifest_id)
        )
        for one in models
    }
    return Registry(models=named, aliases=aliases, history=history)


def dropped(found: Registry, policy: Retention) -> set[int]:
    return {one.model.manifest_id[0] for one in judge(found, policy, NOW) if not one.kept}


HISTORY = registry(
    [model(number, 100) for number in range(1, 6)], {"prod": [1, 2, 3, 4], "old": [5, None]}
)


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        (Retention(), set()),
        (Retention(keep_last=1), {1, 2, 3}),
        (Retention(keep_last=3), {1}),
        (Retention(keep_last=9), set()),
        (Retention(max_age_s=90 * DAY_S), {1, 2, 3, 5}),
        (Retention(max_age_s=101 * DAY_S), set()),
        (Retention(keep_last=2, max_age_s=90 * DAY_S), {1, 2}),
    ],
)
def test_rules_keep_what_they_say_and_the_rest_goes(policy, gone):
    assert dropped(HISTORY, policy) == gone


def test_tags_keep_those_that_are_named_or_any():
    found = registry([model(1, 9, "good"), model(2, 9, "odd"), model(3, 9)], {})
    assert dropped(found, Retention(keep_tagged=("good",))) == {2, 3}
    assert dropped(found, Retention(keep_any_tag=True)) == {3}


def test_a_model_that_an_alias_meant_twice_counts_once():
    found = registry([model(number, 9) for number in (1, 2, 3)], {"prod": [1, 2, 3, 2, 3]})
    assert dropped(found, Retention(keep_last=3)) == set()


def test_what_was_published_only_just_stays():
    found = registry([model(1, 0.5), model(2, 2)], {})
    assert dropped(found, Retention(keep_last=1)) == {2}


def test_temporary_uploads_are_left_to_their_own_time():
    found = registry([model(1, 50, expires_at=NOW + 60)], {})
    assert judge(found, Retention(keep_last=1), NOW) == ()


def test_reasons_are_told_to_people():
    found = registry([model(1, 9, "good")], {"prod": [1]})
    found = replace(found, protections={"prod": ("publisher",)})
    policy = Retention(keep_last=2, keep_tagged=("good",), max_age_s=30 * DAY_S)
    (verdict,) = judge(found, policy, NOW)
    assert verdict.reasons == (
        "alias prod (protected)",
        "one of the last 2 of prod",
        "tag good",
        "younger than 30d",
    )
    assert rules_said(policy) == (
        "the last 2 of each alias",
        "what has one of the tags good",
        "what is younger than 30d",
    )
    assert rules_said(Retention(keep_any_tag=True)) == ("what has a tag",)


numbers = st.integers(1, 12)
models = st.lists(
    st.builds(
        model,
        numbers,
        st.floats(0, 400),
        st.sampled_from(["good", "odd"]),
        expires_at=st.sampled_from([None, None, NOW + 60]),
    ),
    unique_by=lambda one: one.manifest_id,
)
moves = st.dictionaries(
    st.sampled_from(["prod", "staging", "best"]), st.lists(st.none() | numbers, max_size=8)
)
policies = st.builds(
    Retention,
    keep_last=st.none() | st.integers(1, 5),
    keep_tagged=st.sampled_from([(), ("good",)]),
    keep_any_tag=st.booleans(),
    max_age_s=st.none() | st.integers(0, 400 * DAY_S),
)


@given(models, moves, policies)
def test_nothing_that_is_named_recent_or_kept_by_a_rule_ever_goes(models, moves, policy):
    found = registry(models, moves)
    gone = {one.model.manifest_id for one in judge(found, policy, NOW) if not one.kept}
    assert not gone & set(found.aliases.values())
    for one in found.models.values():
        if one.at + RETENTION_GRACE_S > NOW or one.expires_at is not None:
            assert one.manifest_id not in gone
        if policy.keep_any_tag and one.tags:
            assert one.manifest_id not in gone
    for targets in moves.values():
        there = [model_id(n) for n in reversed(targets) if n and model_id(n) in found.models]
        assert not gone & set(list(dict.fromkeys(there))[: policy.keep_last or 0])


@given(models, moves, policies)
def test_what_goes_is_kept_by_no_rule(models, moves, policy):
    found = registry(models, moves)
    for one in judge(found, policy, NOW):
        if not one.kept:
            assert not policy.keeps_all
            assert not one.model.aliases
            assert policy.max_age_s is None or one.model.at + policy.max_age_s <= NOW


@given(models, moves, policies)
def test_withdrawing_what_goes_leaves_nothing_more_to_go(models, moves, policy):
    found = registry(models, moves)
    verdicts = judge(found, policy, NOW)
    left = dict(found.models)
    for one in verdicts:
        if not one.kept:
            del left[one.model.manifest_id]
    assert all(one.kept for one in judge(replace(found, models=left), policy, NOW))
