"""A room's month: what is loaded, what caches hold, who is there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import SHARD_BYTES
from dreamer.simulations.costs.bill import GB, load_prices
from dreamer.simulations.costs.cache import Cache
from dreamer.simulations.costs.month import live
from dreamer.simulations.costs.presence import DAY_S, Member, workdays_share
from dreamer.simulations.costs.shelf import Shelf, Version
from dreamer.simulations.costs.workload import Catalogue, People, Workload, load_workload

TEAM = Workload(
    people=People(loads_per_month=40.0, reload_share=0.6),
    catalogue=Catalogue(size_tb=0.4),
    users=24,
    users_per_room=12,
    warm_up_days=10,
)


def _version(rank: int, size_bytes: int) -> Version:
    return Version(rank, 0, size_bytes)


def test_cache_drops_what_was_unused_for_longest() -> None:
    a, b, c = (_version(rank, 40) for rank in range(3))
    cache = Cache(100)
    assert [cache.use(a), cache.use(b), cache.use(a), cache.use(c)] == [False, False, True, False]
    assert (a in cache, b in cache, c in cache) == (True, False, True)
    assert cache.held_bytes == 80


def test_cache_keeps_nothing_larger_than_itself() -> None:
    cache = Cache(100)
    small, large = _version(0, 60), _version(1, 101)
    cache.use(small)
    assert not cache.use(large)
    assert not cache.use(large)
    assert small in cache


def test_new_version_is_not_in_a_cache_that_has_the_old_one() -> None:
    cache = Cache(1000)
    cache.use(Version(0, 0, 10))
    assert Version(0, 1, 10) not in cache


def test_shelf_has_a_rooms_part_of_the_catalogue_in_whole_shards() -> None:
    shelf = Shelf(TEAM, 0, Random(1), 100 * DAY_S)
    assert all(size % SHARD_BYTES == 0 and size > 0 for size in shelf.sizes)
    # Half of the people, half of 400 GB; the last model may stand out.
    assert 200 * GB <= sum(shelf.sizes) < 200 * GB + TEAM.catalogue.most_gb * GB


def test_popular_models_are_wanted_as_zipf_says() -> None:
    shelf, rng, draws = Shelf(TEAM, 0, Random(1), DAY_S), Random(2), 50_000
    ranks = [shelf.draw(rng) for _ in range(draws)]
    harmonic = math.fsum((rank + 1) ** -0.9 for rank in range(len(shelf.sizes)))
    for rank in (0, 1, 9):
        assert ranks.count(rank) / draws == pytest.approx((rank + 1) ** -0.9 / harmonic, rel=0.1)


def test_newest_version_counts_what_came_out_before() -> None:
    shelf = Shelf(TEAM, 0, Random(1), 60 * DAY_S)
    rank, released = next(iter(shelf.released_s.items()))
    assert shelf.newest(rank, released[0] - 1).number == 0
    assert shelf.newest(rank, released[0]).number == 1


def test_people_are_there_on_workdays_in_their_hours() -> None:
    weeks = replace(TEAM, warm_up_days=12)
    members = [Member(weeks, Random(f"who/{who}")) for who in range(200)]
    stays = [stay for member in members for stay in member.stays]
    days = weeks.warm_up_days + weeks.days
    assert len(stays) / (200 * days) == pytest.approx(workdays_share(TEAM.people), rel=0.05)
    assert all(int(stay.from_s // DAY_S) % 7 < 5 for stay in stays)
    at_night = [member.online(3 * 3600.0) for member in members]
    assert at_night == [member.always_on for member in members]
    office = next(m for m in members if not m.always_on and not m.stays[0].at_home)
    stay = office.stays[0]
    assert office.online(stay.from_s)
    assert not office.at_home(stay.from_s)
    assert office.goes_at(stay.from_s) == stay.to_s
    assert not office.online(stay.to_s)


def test_people_load_as_often_as_the_workload_says() -> None:
    loads = sum(len(live(TEAM, room, seed).loads) for room in (0, 1) for seed in (1, 2))
    assert loads == pytest.approx(2 * 24 * 40, rel=0.1)


def test_loads_that_no_cache_answers_are_the_pulls_of_swarms() -> None:
    month = live(TEAM, 0, 1)
    missed = [load for load in month.loads if not load.cached]
    assert 0 < len(missed) < len(month.loads)
    assert sum(len(swarm.pulls) for swarm in month.swarms) == len(missed)


def test_first_to_want_a_model_finds_nobody_who_has_it() -> None:
    month = live(replace(TEAM, warm_up_days=0), 0, 1)
    seen: set[Version] = set()
    for swarm in sorted(month.swarms, key=lambda one: one.began_s):
        if swarm.version not in seen:
            assert not swarm.seeds
        seen.add(swarm.version)
    assert any(swarm.seeds for swarm in month.swarms)


def test_no_cache_means_a_pull_at_every_load() -> None:
    nothing = replace(TEAM, machines=replace(TEAM.machines, cache_gb=0.0))
    assert not any(load.cached for load in live(nothing, 0, 1).loads)


def test_larger_caches_answer_more() -> None:
    answered = []
    for cache_gb in (1.0, 5.0, 20.0, 100.0):
        team = replace(TEAM, machines=replace(TEAM.machines, cache_gb=cache_gb))
        loads = live(team, 0, 1).loads
        answered.append(sum(load.version.size_bytes for load in loads if load.cached))
    assert answered == sorted(answered)
    assert answered[0] < answered[-1]


def test_same_seed_gives_the_same_month() -> None:
    assert live(TEAM, 0, 1) == live(TEAM, 0, 1)
    assert live(TEAM, 0, 1) != live(TEAM, 0, 2)
    assert live(TEAM, 0, 1).loads != live(TEAM, 1, 1).loads


def test_committed_month_moves_what_it_was_chosen_for() -> None:
    # All rooms come within 1% of it; a few of them, chosen here to be quick, within their luck.
    workload = replace(load_workload(), warm_up_days=0)
    rooms = range(0, workload.rooms - 1, 6)
    moved = sum(load.version.size_bytes for room in rooms for load in live(workload, room, 1).loads)
    people = len(rooms) * workload.users_per_room
    asked_for = load_prices().expected_egress_usd.everything / load_prices().egress_gb * GB
    assert moved * workload.users / people == pytest.approx(asked_for, rel=0.15)


def test_misspelt_assumption_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "team.toml"
    path.write_text("[people]\nloads_per_month = 1\nreload_share = 0.5\nhome_shar = 0.1\n")
    with pytest.raises(InputError, match=r"team.toml: people.home_shar.*did you mean 'home_share'"):
        load_workload(path)


def test_only_machines_that_are_on_give_anything() -> None:
    # Whoever holds a model and is not there would have no time at which to go.
    team = replace(TEAM, people=replace(TEAM.people, always_on_share=0.0))
    seeds = [seed for swarm in live(team, 0, 1).swarms for seed in swarm.seeds]
    assert seeds
    assert all(seed.goes_s is not None and seed.goes_s > 0 for seed in seeds)
