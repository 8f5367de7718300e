"""The cost study: prices, and three ways through the engine."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import ORIGIN_PART_BYTES, SHARD_BYTES
from dreamer.simulations.costs.bill import GB, Prices, Traffic, load_prices, price
from dreamer.simulations.costs.month import Place, Swarm, live
from dreamer.simulations.costs.sensitivity import (
    Assumption,
    sample,
    scale,
    sensitivity,
    value_of,
    with_value,
)
from dreamer.simulations.costs.shelf import Version
from dreamer.simulations.costs.study import cost_tables, run_study, write_study
from dreamer.simulations.costs.swarms import Swarms
from dreamer.simulations.costs.ways import Ways, three_ways
from dreamer.simulations.costs.workload import Catalogue, Machines, People, Workload

TEAM = Workload(
    people=People(loads_per_month=8.0, reload_share=0.6),
    catalogue=Catalogue(size_tb=0.1, most_gb=4.0),
    users=16,
    users_per_room=8,
    days=14,
    warm_up_days=14,
)
PRICES = Prices(0.09, 0.02, 0.4, 5.0, 0.05, 0.023)
OFFICE = Place(at_home=False, home_nat="port_restricted")


@pytest.fixture(scope="module")
def ways() -> Ways:
    return three_ways(TEAM, range(TEAM.rooms), 1)


def test_bill_is_bytes_times_price() -> None:
    traffic = Traffic(
        origin_bytes=100 * GB, cross_region_bytes=25 * GB, relay_bytes=10 * GB, gets=3000, puts=200
    )
    bill = price(traffic, PRICES, scale=2.0)
    assert bill.egress_usd == pytest.approx(2 * 75 * 0.09)
    assert bill.cross_region_usd == pytest.approx(2 * 25 * 0.02)
    assert bill.turn_usd == pytest.approx(2 * 10 * 0.05)
    assert bill.requests_usd == pytest.approx(2 * (3 * 0.4 + 0.2 * 5.0))
    assert bill.total_usd == pytest.approx(
        bill.egress_usd + bill.cross_region_usd + bill.turn_usd + bill.requests_usd
    )


def test_each_way_moves_every_byte_that_was_loaded(ways: Ways) -> None:
    loads = [load for room in range(TEAM.rooms) for load in live(TEAM, room, 1).loads]
    loaded = sum(load.version.size_bytes for load in loads)
    for traffic in (ways.everything, ways.caches, ways.peers):
        assert traffic.loads == len(loads)
        assert traffic.cached_bytes + traffic.origin_bytes + traffic.peer_bytes == loaded
        assert traffic.unfinished == 0
    assert ways.everything.pulls == len(loads)
    assert ways.everything.peer_bytes == ways.caches.peer_bytes == 0
    assert ways.caches.pulls == ways.peers.pulls == sum(not load.cached for load in loads)


def test_caches_cost_less_than_none_and_peers_less_than_caches(ways: Ways) -> None:
    costs = [
        price(traffic, PRICES).total_usd for traffic in (ways.peers, ways.caches, ways.everything)
    ]
    assert costs == sorted(costs)
    assert ways.peers.origin_bytes < ways.caches.origin_bytes < ways.everything.origin_bytes


def test_what_nobody_had_is_the_least_that_peers_leave(ways: Ways) -> None:
    assert 0 < ways.least.origin_bytes <= ways.peers.origin_bytes


def test_people_alone_in_their_rooms_have_no_peers() -> None:
    alone = replace(TEAM, users_per_room=1, users=6)
    found = three_ways(alone, range(6), 1)
    assert found.peers.peer_bytes == 0
    assert found.peers.origin_bytes == found.caches.origin_bytes == found.least.origin_bytes


def test_rooms_in_the_cloud_pay_the_price_between_regions() -> None:
    cloud = replace(TEAM, days=5, cloud_room_share=0.5)
    found = three_ways(cloud, range(2), 1).everything
    first = three_ways(cloud, (0,), 1).everything
    assert 0 < found.cross_region_bytes == first.origin_bytes < found.origin_bytes


def test_new_versions_are_put_in_parts() -> None:
    month = live(TEAM, 0, 1)
    puts = three_ways(TEAM, (0,), 1).everything.puts
    assert puts == sum(-(-size // ORIGIN_PART_BYTES) for size in month.released_bytes) > 0


def _swarm(seeds: list[Place], pulls: list[Place], shards: int = 4) -> Swarm:
    return Swarm(0, Version(0, 0, shards * SHARD_BYTES), 0.0, 0.0, pulls, seeds)


def test_member_who_has_a_model_saves_the_origin_all_of_it() -> None:
    moved = Swarms(Machines(), 1).together(_swarm([OFFICE], [OFFICE]))
    assert (moved.origin_bytes, moved.peer_bytes) == (0, 4 * SHARD_BYTES)
    assert moved.gets == 0


def test_crowd_that_nobody_can_help_costs_one_copy() -> None:
    crowd = [replace(OFFICE, from_s=float(second)) for second in range(4)]
    moved = Swarms(Machines(), 1).together(_swarm([], crowd))
    assert moved.origin_bytes + moved.peer_bytes == 4 * 4 * SHARD_BYTES
    assert moved.origin_bytes <= 1.5 * 4 * SHARD_BYTES


def test_what_passes_a_relay_is_bounded_and_counted() -> None:
    home = Place(at_home=True, home_nat="symmetric")
    machines = replace(Machines(), relay_budget_mib=200)
    moved = Swarms(machines, 1).together(_swarm([OFFICE], [home], shards=8))
    assert 0 < moved.relay_bytes <= 200 << 20
    assert moved.relay_bytes <= moved.peer_bytes
    assert moved.origin_bytes >= 8 * SHARD_BYTES - (200 << 20)


def test_equal_pulls_from_the_origin_are_simulated_once() -> None:
    swarms = Swarms(Machines(), 1)
    first = swarms.alone(2 * SHARD_BYTES, OFFICE)
    assert swarms.alone(2 * SHARD_BYTES, replace(OFFICE, from_s=5.0, goes_s=9.0)) == first
    assert swarms.simulated == 1
    assert first.origin_bytes == 2 * SHARD_BYTES


def test_same_seed_gives_the_same_study(ways: Ways) -> None:
    assert three_ways(TEAM, range(TEAM.rooms), 1) == ways
    few = replace(TEAM, days=5)
    assert three_ways(few, (0,), 1).trace_hash != three_ways(few, (0,), 2).trace_hash


def test_sample_of_rooms_is_scaled_to_all_people() -> None:
    team = replace(TEAM, users=100, users_per_room=8)
    rooms = sample(team, 40)
    assert list(rooms) == [0, 2, 4, 6, 8]
    assert scale(team, rooms) == 2.5
    assert list(sample(team, 10_000)) == list(range(13))
    assert scale(team, range(13)) == 1.0


def test_one_assumption_is_changed_and_no_other() -> None:
    varied = with_value(TEAM, "people.home_share", 0.9)
    assert value_of(varied, "people.home_share") == 0.9
    assert replace(varied, people=TEAM.people) == TEAM
    assert with_value(TEAM, "users_per_room", 4.0).users_per_room == 4


def test_assumption_that_moves_the_result_comes_first() -> None:
    found = sensitivity(
        replace(TEAM, users=8, days=7),
        PRICES,
        1,
        8,
        assumptions=(
            Assumption("machines.office_up_mbit", 400.0, 500.0, "moves next to nothing"),
            Assumption("people.reload_share", 0.1, 0.95, "moves a lot"),
        ),
    )
    assert found.effects[0].assumption.path == "people.reload_share"
    assert (
        found.effects[0].low.caches_usd > found.base.caches_usd > found.effects[0].high.caches_usd
    )


def test_study_is_written_as_json_and_pictures(tmp_path: Path) -> None:
    result = run_study(TEAM, PRICES, seed=1, users=8)
    assert (result.simulated_users, result.scale) == (8, 2.0)
    assert [way.name for way in result.ways] == ["everything from S3", "with caches", "with peers"]
    assert result.storage_usd == pytest.approx(100 * 0.023)
    assert [table.row_count for table in cost_tables(result)] == [3, 3]
    write_study(result, tmp_path)
    assert json.loads((tmp_path / "costs.json").read_text())["trace_hash"] == result.trace_hash
    assert {path.name for path in tmp_path.iterdir()} == {"costs.json", "costs.svg", "costs.png"}
    assert asdict(result)["ways"][0]["bill"]["egress_usd"] > 0


def test_committed_prices_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    assert load_prices().egress_gb == 0.09
    path = tmp_path / "prices.toml"
    path.write_text("egress_gb = -1\n")
    with pytest.raises(InputError, match=r"prices.toml: "):
        load_prices(path)
