"""The search itself: what it draws, how it makes things small, what it writes down."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from dreamer.protocol.swarm.asking import Asking
from dreamer.simulations.fuzz.drawing import draw
from dreamer.simulations.fuzz.findings import write
from dreamer.simulations.fuzz.search import fuzz
from dreamer.simulations.fuzz.shrinking import shrink
from dreamer.simulations.fuzz.trial import Failure, try_out
from dreamer.simulations.scenario.loader import dump, load, loads
from dreamer.simulations.scenario.model import Group, ModelSpec, Scenario, Wish


def machines(scenario: Scenario) -> int:
    return sum(group.count for group in scenario.groups)


def test_drawn_scenarios_are_the_same_for_a_seed_and_can_be_written() -> None:
    drawn = [draw(Random(seed)) for seed in range(40)]
    assert drawn == [draw(Random(seed)) for seed in range(40)]
    for scenario in drawn:
        assert loads(dump(scenario)) == scenario


def test_drawn_scenarios_have_all_that_a_scenario_can_have() -> None:
    drawn = [draw(Random(seed)) for seed in range(400)]
    groups = [group for scenario in drawn for group in scenario.groups]
    assert {group.misdeed for group in groups} > {"bad_blocks", "claims_all", "silent", "floods"}
    assert {group.nat for group in groups} > {"public", "symmetric", "no_udp"}
    for odd in (
        "churn",
        "misdeed_from_s",
        "disk_gb",
        "up_limit_mbit",
        "down_limit_mbit",
        "relay_budget_mib",
    ):
        assert any(getattr(group, odd) for group in groups)
    for part in ("origin", "relays", "partitions", "tracker_outages"):
        assert any(getattr(scenario, part) for scenario in drawn)
    assert any(len(scenario.models) > 1 for scenario in drawn)


def test_shrinking_keeps_what_the_failure_needs_and_nothing_else() -> None:
    odd = [draw(Random(seed)) for seed in range(200)]
    large = next(one for one in odd if one.relays and machines(one) > 8 and one.origin)
    large = replace(large, network=replace(large.network, latency_ms=150.0))

    def fails(scenario: Scenario) -> bool:
        return bool(scenario.relays) and machines(scenario) >= 3

    small = shrink(large, fails)
    assert fails(small)
    assert machines(small) == 3
    assert len(small.relays) == 1
    # Somebody must have what others want, and that is one of them.
    assert (small.origin is None) is any(group.holds for group in small.groups)
    assert small.network.latency_ms == 20.0
    assert len(small.models) == 1


def test_trial_is_the_same_each_time_and_ends_by_itself_or_is_cut_short() -> None:
    scenario = Scenario(
        "small",
        "",
        (ModelSpec("m", 0.02),),
        (Group("seed", 1, holds=("m",)), Group("takers", 2, pulls=(Wish("m"),))),
        block_mib=4,
    )
    first, again = try_out(scenario), try_out(scenario)
    assert first == again
    assert first.over
    assert first.failure is None
    assert not try_out(scenario, events_max=10).over


def test_search_finds_what_is_broken_and_writes_it_small(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Asking, "_allowed", lambda self, source, now: source.blocks)
    times = iter(range(100))
    lines: list[str] = []
    # The clock stands for the trials: so many, whatever the machine.
    bounds = {"events_max": 1500, "tries": 60}
    found = fuzz(6 / 3600, tmp_path, 3, lines.append, lambda: float(next(times)), **bounds)
    assert found
    kept = load(found[0])
    assert machines(kept) <= 6
    failure = try_out(kept).failure
    assert failure is not None
    assert failure.kind == "origin spared"
    assert "findings" in lines[-1]


def test_finding_says_what_failed_and_how_it_was_found(tmp_path) -> None:
    scenario = draw(Random(1))
    failure = Failure("served once", "served once: " + "words " * 40)
    path = write(scenario, failure, "dreamer-sim fuzz --seed 7", tmp_path)
    other = write(scenario, failure, "dreamer-sim fuzz --seed 7", tmp_path)
    assert path != other
    text = path.read_text()
    assert "# Found by: dreamer-sim fuzz --seed 7" in text
    assert all(line.startswith("#") for line in text.splitlines()[:3])
    assert replace(load(path), name=scenario.name, about=scenario.about) == scenario
