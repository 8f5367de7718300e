"""What a run falls short of is said in words; what was not asked for is not."""

from dataclasses import replace

import pytest

from dreamer.simulations.report.result import (
    Engine,
    NodeResult,
    OriginUse,
    RelayUse,
    RunResult,
    Traffic,
)
from dreamer.simulations.scenario.expectations import expected, missed
from dreamer.simulations.scenario.model import Expect, Group, ModelSpec, Scenario, Wish

MIB = 1 << 20


def scenario(**expect):
    groups = (Group("g", 2, pulls=(Wish("base"),)), Group("bad", 1, pulls=(Wish("base"),)))
    return Scenario("s", "?", (ModelSpec("base", 1.0),), groups, expect=Expect(**expect))


def node(name, group="g", done=True, stayed=True, honest=True):
    pulled = {"base": 12.0} if done else {}
    unfinished = {} if done else {"base": "nobody had it"}
    return NodeResult(name, group, 0, 0, pulled, pulled, unfinished, stayed, honest)


@pytest.fixture
def result():
    """A run that is just good enough."""
    return RunResult(
        scenario="s",
        about="?",
        seed=1,
        nodes=3,
        replay="",
        ended_at_s=12.0,
        bound_s=10.0,
        last_s=12.0,
        median_s=11.0,
        each=[node("g-0"), node("g-1")],
        traffic=Traffic(1.0, {}),
        origin=OriginUse(copies=1.05),
        relay=RelayUse(bytes=100 * MIB),
        blamed=0,
        bad_blocks_kept=0,
        wasted_bytes=0,
        violations=[],
        missed=[],
        engine=Engine("", 0, 0.0, 0.0, 0),
    )


def test_figures_that_are_just_reached_are_not_missed(result):
    asked = scenario(last_over_bound=1.2, origin_copies=1.05, relay_mib=100.0)
    assert missed(asked, result) == []
    assert expected(asked) == 5


def test_figure_that_was_not_asked_for_is_not_missed(result):
    assert missed(scenario(), replace(result, last_s=1e6, origin=OriginUse(copies=1e6))) == []


def test_each_figure_is_missed_in_words(result):
    asked = scenario(last_over_bound=1.1, origin_copies=1.0, relay_mib=99.0)
    assert missed(asked, replace(result, bad_blocks_kept=3)) == [
        "the last completion took 12.0 s, 1.20 times the least possible 10.0 s; "
        "expected at most 1.1 times",
        "the origin sent 1.050 copies; expected at most 1",
        "3 bad blocks were kept; expected 0",
        "relays carried 100 MiB; expected at most 99 MiB",
    ]


def test_machine_that_stayed_must_finish(result):
    [said] = missed(scenario(), replace(result, each=[node("g-0"), node("g-1", done=False)]))
    assert said == "1 pulls of machines that stayed did not finish: g-1 (nobody had it)"


def test_machine_that_left_or_means_harm_need_not_finish(result):
    gone = node("g-1", done=False, stayed=False)
    bad = node("bad-0", "bad", done=False, honest=False)
    assert missed(scenario(), replace(result, each=[gone, bad])) == []


def test_pull_that_never_began_is_missed(result):
    idle = replace(node("g-1", done=False), unfinished={})
    [said] = missed(scenario(), replace(result, each=[idle]))
    assert said.endswith("g-1 (it never began)")
