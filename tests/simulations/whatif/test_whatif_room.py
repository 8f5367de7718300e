"""What a room that was seen becomes in the simulator, and what a change changes in it."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.simulations.scenario import loader
from dreamer.simulations.scenario.writing import dump
from dreamer.simulations.whatif.machines import LATENCY_MS, Notes, machines
from dreamer.simulations.whatif.question import Changes, cases
from dreamer.simulations.whatif.scenario import Seen, chosen_model, scenario_of

AS_IT_IS = Changes()


def made(topology, changes=AS_IT_IS, mbit=100.0):
    """Return the scenario and what was assumed."""
    notes = Notes()
    seen = Seen(topology, machines(topology, mbit, notes))
    model = chosen_model(topology, changes.pull)
    return scenario_of(seen, model, "a case", changes, notes), list(notes.lines)


def group(scenario, name):
    (found,) = [one for one in scenario.groups if one.name == name]
    return found


def test_who_shares_the_model_holds_it_and_all_others_pull_it(room):
    scenario, _ = made(room())
    assert {one.name: bool(one.holds) for one in scenario.groups} == {
        "us": False, "seed": True, "laptop": False, "away": False,
    }  # fmt: skip
    assert all(bool(one.pulls) is not bool(one.holds) for one in scenario.groups)
    assert scenario.models[0].size_gb == pytest.approx(0.04)
    assert (scenario.origin, scenario.relays) == (None, ())


def test_who_is_known_to_be_fetching_pulls_and_else_all_sharers_hold_it(room):
    first, *rest = room().models
    for whole, laptop_holds in ((("seed",), False), ((), True)):
        shared = type(first)(**{**vars(first), "sharers": ("seed", "laptop"), "whole": whole})
        scenario, assumed = made(room(models=(shared, *rest)))
        assert bool(group(scenario, "laptop").holds) is laptop_holds
        assert any("taken to have all" in line for line in assumed) is laptop_holds


def test_rates_are_those_measured_and_else_the_median_of_the_room(room):
    scenario, assumed = made(room())
    laptop, away, us = (group(scenario, name) for name in ("laptop", "away", "us"))
    # What came from the laptop went up its line.
    assert (laptop.up_mbit, laptop.down_mbit) == (16.0, 32.0)
    assert (us.up_mbit, us.down_mbit, us.down_limit_mbit) == (40.0, 80.0, 40.0)
    assert (away.up_mbit, away.down_mbit) == (40.0, 56.0)
    assert any("the most that was seen" in line for line in assumed)


def test_room_in_which_nothing_was_measured_takes_the_rate_it_is_given(room, make_member):
    quiet = room(members=(make_member("seed", "webrtc"),))
    quiet = type(quiet)(**{**vars(quiet), "node": _unmeasured(quiet.node)})
    scenario, assumed = made(quiet, mbit=25.0)
    assert {(one.up_mbit, one.down_mbit) for one in scenario.groups} == {(25.0, 25.0)}
    assert scenario.network.latency_ms == LATENCY_MS
    assert any("25 Mbit/s" in line for line in assumed)


def _unmeasured(node):
    return type(node)(**{**vars(node), "measured": type(node.measured)()})


def test_lane_that_was_seen_is_the_lane_in_the_simulator(room, make_member):
    from dreamer.simulations.engine.reach import lane_between

    lanes = ("direct", "webrtc", "relay")
    seen = room(members=tuple(make_member(lane, lane) for lane in lanes))
    scenario, assumed = made(seen, Changes(more_seeders=1))
    us = group(scenario, "us")
    for lane in lanes:
        assert lane_between(us.nat, group(scenario, lane).nat, relay=True).value == lane
    assert len(scenario.relays) == 1
    assert any("guessed from lanes" in line for line in assumed)


def test_distances_are_half_the_round_trip_and_else_the_median(room):
    scenario, _ = made(room())
    network = scenario.network
    assert {(line.one, line.other): line.latency_ms for line in network.lines} == {
        ("here", "seed"): 10.0, ("here", "laptop"): 30.0,
    }  # fmt: skip
    assert network.latency_ms == 20.0
    assert group(scenario, "away").region == "elsewhere"


def test_seeders_and_newcomers_are_added_like_the_median_machine(room):
    scenario, _ = made(room(), Changes(more_seeders=2, newcomers=5))
    more, come = group(scenario, "seeder"), group(scenario, "newcomer")
    assert (more.count, bool(more.holds), come.count, bool(come.pulls)) == (2, True, 5, True)
    assert (more.up_mbit, come.down_mbit) == (40.0, 56.0)


def test_model_that_everybody_has_is_pulled_by_one_newcomer(room):
    scenario, assumed = made(room(), Changes(pull="older"))
    assert group(scenario, "newcomer").count == 1
    assert any("one newcomer" in line for line in assumed)


@pytest.mark.parametrize(
    ("cache_gb", "tiny", "older"),
    [(None, False, True), (0.05, True, False), (0.07, True, True), (0.035, False, True)],
)
def test_cache_keeps_the_newest_models_that_fit(room, cache_gb, tiny, older):
    for model, kept in (("tiny", tiny), ("older", older)):
        scenario, _ = made(room(), Changes(pull=model, cache_gb=cache_gb))
        assert bool(group(scenario, "us").holds) is kept
        assert group(scenario, "us").disk_gb == (cache_gb or 0.0)


def test_relay_budget_is_the_nodes_own_or_the_one_asked_for(room):
    assert {one.relay_budget_mib for one in made(room())[0].groups} == {500}
    asked = made(room(), Changes(relay_budget_mib=0))[0].groups
    # To a scenario 0 is no bound.
    assert {one.relay_budget_mib for one in asked} == {1}


def test_large_model_comes_in_coarser_blocks(room):
    models = [type(one)(**{**vars(one), "size_bytes": 14 * 10**9}) for one in room().models]
    assert made(room(models=tuple(models)))[0].block_mib == 4


def test_scenario_can_be_written_down_and_read_again(room):
    scenario, _ = made(room(), Changes(more_seeders=1))
    assert loader.loads(dump(scenario)) == scenario


@pytest.mark.parametrize("ref", ["tiny", "abab0001", None])
def test_model_goes_by_name_id_or_as_the_newest(room, ref):
    assert chosen_model(room(), ref).id == "abab0001"


def test_model_that_is_none_or_several_is_said_so(room):
    with pytest.raises(NoMatchError, match="abab0001 tiny, abab0002 older"):
        chosen_model(room(), "huge")
    with pytest.raises(InputError, match="say which"):
        chosen_model(room(), "abab")
    with pytest.raises(NoMatchError, match="push one"):
        chosen_model(room(models=()), None)


def test_empty_room_and_model_that_nobody_has_say_what_to_do(room):
    with pytest.raises(InputError, match="--newcomers"):
        made(room(members=(), models=(type(room().models[0])("a", "b", 5, 1, 5, False, (), ()),)))
    lost = [
        type(one)(**{**vars(one), "sharers": (), "whole": (), "here_bytes": 0})
        for one in room().models
    ]
    with pytest.raises(InputError, match="--more-seeders 1"):
        made(room(models=tuple(lost)))
    assert made(room(models=tuple(lost), origin=True))[0].origin.holds == ("tiny",)


def test_each_change_is_a_case_of_its_own_and_newcomers_come_in_all():
    asked = Changes(more_seeders=2, relay_budget_mib=100, cache_gb=50, newcomers=3)
    found = cases(asked)
    assert [case.label for case in found] == [
        "as it is", "2 more seeders", "100 MiB of relay a peer", "a cache of 50 GB",
    ]  # fmt: skip
    assert {case.changes.newcomers for case in found} == {3}
    assert [bool(case.changes.more_seeders) for case in found] == [False, True, False, False]


def test_newcomers_alone_are_the_change():
    found = cases(Changes(newcomers=1))
    assert [(case.label, case.changes.newcomers) for case in found] == [
        ("as it is", 0), ("1 newcomer", 1),
    ]  # fmt: skip
    assert len(cases(Changes())) == 1
