"""What is between machines, and what befalls them, shows in how a run goes."""

from __future__ import annotations

import pytest

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.reach import lane_between
from dreamer.simulations.scenario.model import (
    Churn,
    Line,
    Network,
    OriginSpec,
    Partition,
    Relay,
    Span,
    Wish,
)

MB = 10**6
SIZE = 128 * MB


def finished(result) -> list[str]:
    return [node.name for node in result.each if node.finished_at_s]


def by_lane(result) -> dict[str, int]:
    return {lane: sum(steps) for lane, steps in result.traffic.by_lane.items() if sum(steps)}


def why(result) -> set[str]:
    return {reason for node in result.each for reason in node.unfinished.values()}


@pytest.mark.parametrize(
    ("one", "other", "lane"),
    [
        ("public", "symmetric", Lane.DIRECT),
        ("public", "no_udp", Lane.DIRECT),
        ("full_cone", "symmetric", Lane.WEBRTC),
        ("restricted", "symmetric", Lane.WEBRTC),
        ("port_restricted", "port_restricted", Lane.WEBRTC),
        ("port_restricted", "symmetric", Lane.RELAY),
        ("symmetric", "symmetric", Lane.RELAY),
        ("no_udp", "full_cone", Lane.RELAY),
    ],
)
def test_lane_is_what_real_nodes_get_behind_such_nats(one, other, lane) -> None:
    assert lane_between(one, other, relay=True) is lane
    assert lane_between(other, one, relay=True) is lane
    assert lane_between(one, other, relay=False) is (None if lane is Lane.RELAY else lane)


def test_one_taker_needs_the_time_that_its_line_takes(run, seeder, takers) -> None:
    result = run(seeder, takers(1, down_mbit=100))
    bound = SIZE / (100 * MB / 8)
    assert result.bound_s == pytest.approx(bound)
    assert bound < result.last_s < 1.25 * bound
    assert by_lane(result) == {"direct": SIZE}


def test_takers_get_most_of_it_from_one_another(run, seeder, takers) -> None:
    result = run(seeder, takers(8))
    (giver,) = (node for node in result.each if node.group == "seeder")
    assert len(finished(result)) == 8
    assert giver.up_bytes < 3 * SIZE
    assert sum(node.up_bytes for node in result.each) == 8 * SIZE + result.wasted_bytes


def test_origin_gives_about_one_copy_to_a_crowd(run, takers, origin) -> None:
    result = run(takers(8), origin=origin)
    assert len(finished(result)) == 8
    assert result.origin.copies < 1.05
    assert result.origin.bytes == by_lane(result)["origin"]


def test_origin_that_refuses_too_many_requests_still_serves_all(run, takers, origin) -> None:
    alone = takers(3, uses_peers=False)
    free = run(alone, origin=origin)
    held_up = run(alone, origin=OriginSpec(holds=origin.holds, requests_s=2))
    assert len(finished(held_up)) == 3
    assert held_up.origin.refused > 0
    assert held_up.last_s > free.last_s
    assert held_up.origin.copies == pytest.approx(3)


def test_machines_that_no_lane_connects_pull_from_the_origin(run, seeder, takers, origin) -> None:
    apart = takers(2, nat="symmetric")
    result = run(apart, origin=origin)
    assert by_lane(result) == {"origin": 2 * SIZE}


def test_relay_carries_no_more_than_its_budget(run, seeder, takers, origin) -> None:
    hidden = takers(2, nat="symmetric", relay_budget_mib=40)
    relays = (Relay(),)
    result = run(hidden, origin=origin, relays=relays)
    assert len(finished(result)) == 2
    assert 0 < result.relay.bytes <= 40 * 2**20
    assert by_lane(result)["relay"] <= 2 * 40 * 2**20


def test_liars_are_found_out_and_the_rest_finishes(run, seeder, takers) -> None:
    bad = takers(2, name="bad", pulls=(), holds=("small",), misdeed="bad_blocks")
    result = run(seeder, takers(4), bad)
    assert len(finished(result)) == 4
    assert result.blamed > 0
    assert result.wasted_bytes > 0


def test_bad_block_that_is_kept_is_counted(run, seeder, takers, monkeypatch) -> None:
    """Without verification every block is taken for right: the figure must show it."""
    bad = takers(2, name="bad", pulls=(), holds=("small",), misdeed="bad_blocks")
    assert run(seeder, takers(4), bad).bad_blocks_kept == 0
    trusting = Pull.block_here

    def trusts(pull, source, request, block, *, right) -> None:
        trusting(pull, source, request, block, right=True)

    monkeypatch.setattr(Pull, "block_here", trusts)
    result = run(seeder, takers(4), bad)
    assert len(finished(result)) == 4
    assert result.bad_blocks_kept > 0


@pytest.mark.parametrize("misdeed", ["claims_all", "silent", "floods"])
def test_nobody_is_kept_from_a_model_by_those_who_give_nothing(
    run, seeder, takers, misdeed
) -> None:
    bad = takers(3, name="bad", pulls=(), holds=("small",), misdeed=misdeed)
    result = run(seeder, takers(4), bad)
    assert len(finished(result)) == 4


def test_machines_that_come_back_go_on_from_their_disk(run, seeder, takers) -> None:
    comes_and_goes = Churn(on_half_life_s=4, off_half_life_s=4)
    result = run(seeder, takers(3, down_mbit=100, churn=comes_and_goes))
    assert len(finished(result)) == 3
    # What was on its way when a machine went is fetched again, no more.
    assert sum(by_lane(result).values()) < 2 * 3 * SIZE


def test_machine_that_never_comes_back_is_not_waited_for(run, seeder, takers) -> None:
    result = run(seeder, takers(2), takers(1, name="gone", down_mbit=10, leaves_at_s=3.0))
    assert len(finished(result)) == 2
    assert why(result) == {"its machine left"}
    assert result.ended_at_s < 60


def test_seeder_that_leaves_early_is_made_up_for_by_the_origin(run, takers, origin) -> None:
    leaves = takers(1, name="seeder", pulls=(), holds=("small",), leaves_at_share=0.3)
    result = run(leaves, takers(3), origin=origin)
    assert len(finished(result)) == 3
    assert 0 < by_lane(result)["origin"] < SIZE


def test_partitioned_site_goes_on_once_it_is_mended(run, seeder, takers) -> None:
    cut = Partition(Span(2.0, 60.0), ("site",))
    result = run(seeder, takers(2, name="site", down_mbit=100), partitions=(cut,))
    assert len(finished(result)) == 2
    assert 60 < result.last_s < 120


def test_members_find_one_another_while_the_tracker_is_down(run, seeder, takers) -> None:
    late = takers(1, pulls=(Wish("small", 10.0),))
    result = run(seeder, late, tracker_outages=(Span(5.0, 100.0),))
    (taker,) = (node for node in result.each if node.finished_at_s)
    assert taker.finished_at_s["small"] < 30


def test_machine_that_comes_while_the_tracker_is_down_waits_for_it(run, seeder, takers) -> None:
    new = takers(1, joins_from_s=10.0, joins_to_s=10.0)
    result = run(seeder, new, tracker_outages=(Span(5.0, 100.0),))
    (taker,) = (node for node in result.each if node.finished_at_s)
    assert 100 < taker.finished_at_s["small"] < 160


def test_slow_line_between_regions_is_shared_by_all_who_use_it(run, seeder, takers) -> None:
    line = Line("here", "there", latency_ms=80, mbit=50)
    far = takers(4, region="there")
    result = run(seeder, far, network=Network(lines=(line,)))
    # One copy crosses, or little more: over the ocean each block goes once.
    least = SIZE / (50 * MB / 8)
    assert least < result.last_s < 2.5 * least


def test_lossy_lines_are_slower(run, seeder, takers) -> None:
    clean = run(seeder, takers(1), network=Network(latency_ms=50))
    lossy = run(seeder, takers(1), network=Network(latency_ms=50, loss=0.01))
    assert lossy.last_s > 2 * clean.last_s


def test_full_disk_ends_a_pull_with_a_reason(run, seeder, takers) -> None:
    result = run(seeder, takers(1, disk_gb=0.1))
    assert why(result) == {"the disk is full"}


def test_limit_of_the_rate_holds(run, seeder, takers) -> None:
    result = run(seeder, takers(1, down_limit_mbit=80))
    assert result.last_s > SIZE / 10e6 * 0.95


def test_hashing_slower_than_the_line_sets_the_pace(run, seeder, takers) -> None:
    result = run(seeder, takers(1, hash_mb_s=20))
    assert result.last_s > SIZE / 20e6


def test_clocks_that_are_wrong_change_nothing(run, seeder, takers) -> None:
    right = run(seeder, takers(3))
    wrong = run(seeder, takers(3, clock_skew_s=-5000.0))
    # Not to the last digit: numbers that far from nothing are rounded otherwise.
    assert wrong.last_s == pytest.approx(right.last_s, rel=0.1)


def test_same_seed_is_the_same_run_and_another_is_not(run, seeder, takers) -> None:
    hashes = [run(seeder, takers(5), seed=seed).engine.trace_hash for seed in (3, 3, 4)]
    assert hashes[0] == hashes[1] != hashes[2]
