"""What a full cache gives up: the oldest first, nothing that must stay, nothing in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.eviction import Candidate, Kept, Plan, choose, shares
from dreamer.protocol.ids import Digest, ManifestId

NOW = 1_000_000.0
GRACE_S = 600.0


def digest(number: int) -> Digest:
    return Digest(bytes([number]) * 32)


def model(number: int, size: int = 100, age_s: float = 10_000.0, **more) -> Candidate:
    name = ManifestId(bytes([number]) * 32)
    return Candidate(name, {digest(number): size}, last_used=NOW - age_s, **more)


def victims(models, wanted: int) -> list[int]:
    plan = choose(models, wanted, NOW, GRACE_S)
    assert plan.enough
    return [victim[0] for victim in plan.victims]


def test_least_recently_used_goes_first_and_only_as_many_as_needed():
    models = [model(1, age_s=5_000), model(2, age_s=9_000), model(3, age_s=7_000)]
    assert victims(models, 1) == [2]
    assert victims(models, 101) == [2, 3]


def test_nothing_goes_when_nothing_is_wanted():
    assert choose([model(1)], 0, NOW, GRACE_S) == Plan(enough=True)


def test_expired_model_goes_before_an_older_one():
    temporary = model(1, age_s=1.0, expires_at=NOW - 1)
    assert victims([model(2, age_s=90_000), temporary], 1) == [1]


def test_expired_model_that_is_in_use_or_pinned_stays():
    for stays in (Kept.IN_USE, Kept.PINNED):
        assert victims([model(1, expires_at=NOW - 1, stays=stays), model(2)], 1) == [2]


def test_expired_model_goes_though_it_is_the_only_copy():
    assert victims([model(1, expires_at=NOW - 1, stays=Kept.ONLY_COPY)], 1) == [1]


def test_shared_file_comes_free_only_with_the_last_model_that_names_it():
    first, second = model(1, size=10, age_s=9_000), model(2, size=10, age_s=8_000)
    both = {digest(9): 1_000}
    models = [
        replace(first, files={**first.files, **both}),
        replace(second, files={**second.files, **both}),
    ]
    assert victims(models, 10) == [1]
    assert victims(models, 11) == [1, 2]
    assert shares(models) == {first.manifest_id: 10, second.manifest_id: 10}


def test_old_model_that_gives_nothing_back_is_spared():
    old = model(1, size=0, age_s=99_000)
    assert victims([old, model(2)], 50) == [2]


def test_refusal_names_what_would_have_to_go_and_why():
    models = [
        model(1, stays=Kept.PINNED),
        model(2, size=500, stays=Kept.IN_USE, age_s=20_000),
        model(3, age_s=5.0),
        model(4, size=40),
    ]
    plan = choose(models, 600, NOW, GRACE_S)
    assert not plan.enough
    assert plan.victims == ()
    assert plan.freed_bytes == 40
    assert dict(plan.blocked) == {
        models[0].manifest_id: Kept.PINNED,
        models[1].manifest_id: Kept.IN_USE,
    }
    assert plan.missing_bytes == 0
    hopeless = choose(models, 900, NOW, GRACE_S)
    assert hopeless.missing_bytes == 900 - 740
    assert dict(hopeless.blocked)[models[2].manifest_id] is Kept.YOUNG


@st.composite
def caches(draw: st.DrawFn) -> list[Candidate]:
    sizes = draw(st.lists(st.integers(0, 50), min_size=1, max_size=6))
    count = draw(st.integers(0, 8))
    return [
        Candidate(
            ManifestId(bytes([number]) * 32),
            {
                digest(which): sizes[which]
                for which in draw(st.sets(st.integers(0, len(sizes) - 1)))
            },
            own_bytes=draw(st.integers(0, 20)),
            last_used=NOW - draw(st.sampled_from([0, 10, GRACE_S, 5_000, 5_001, 90_000])),
            expires_at=draw(st.sampled_from([None, NOW - 1, NOW + 1])),
            stays=draw(st.sampled_from([None, None, None, *Kept])),
        )
        for number in range(count)
    ]


def held_bytes(models: list[Candidate]) -> int:
    files = {name: size for each in models for name, size in each.files.items()}
    return sum(files.values()) + sum(each.own_bytes for each in models)


@given(caches(), st.integers(-5, 300))
def test_plan_keeps_its_word(models, wanted):
    plan = choose(models, wanted, NOW, GRACE_S)
    gone = set(plan.victims)
    left = [one for one in models if one.manifest_id not in gone]
    if not plan.enough:
        may_go = [one for one in models if one.kept(NOW, GRACE_S) is None]
        rest = [one for one in models if one not in may_go]
        assert not gone
        assert plan.freed_bytes == held_bytes(models) - held_bytes(rest) < wanted
        return
    assert plan.freed_bytes == held_bytes(models) - held_bytes(left) >= min(wanted, 0)
    assert plan.freed_bytes >= wanted
    assert len(gone) == len(plan.victims)
    assert all(one.kept(NOW, GRACE_S) is None for one in models if one.manifest_id in gone)


@given(caches(), st.integers(1, 300))
def test_no_victim_could_have_been_spared(models, wanted):
    plan = choose(models, wanted, NOW, GRACE_S)
    for spared in plan.victims:
        others = set(plan.victims) - {spared}
        left = [one for one in models if one.manifest_id not in others]
        assert held_bytes(models) - held_bytes(left) < wanted


@given(caches(), st.integers(1, 300))
def test_refusal_is_enough_if_its_word_is_followed(models, wanted):
    plan = choose(models, wanted, NOW, GRACE_S)
    if plan.enough or plan.missing_bytes:
        return
    freed = {name for name, _ in plan.blocked}
    now_free = [
        replace(one, stays=None, last_used=0.0) if one.manifest_id in freed else one
        for one in models
    ]
    assert choose(now_free, wanted, NOW, GRACE_S).enough


@pytest.mark.parametrize("reason", list(Kept))
def test_every_reason_keeps_a_model(reason):
    stays = None if reason is Kept.YOUNG else reason
    age_s = 1.0 if reason is Kept.YOUNG else 10_000.0
    assert not choose([model(1, age_s=age_s, stays=stays)], 1, NOW, GRACE_S).enough
