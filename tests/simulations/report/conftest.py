"""Results made by hand: what a run could have shown, without running one."""

from dataclasses import replace

import pytest

from dreamer.simulations.report.files import write_report
from dreamer.simulations.report.pictures import CostBar
from dreamer.simulations.report.result import (
    Engine,
    NodeResult,
    OriginUse,
    RelayUse,
    RunResult,
    Traffic,
)

GB = 10**9


def one_machine(at: int, **changed) -> NodeResult:
    """A laptop that pulled 14 GB and gave a little less; the later, the slower."""
    plain = NodeResult(
        name=f"laptop-{at}",
        group="office" if at % 2 else "home",
        up_bytes=13 * GB,
        down_bytes=14 * GB,
        pulled_s={"llm": 112.0 + at},
        finished_at_s={"llm": 115.0 + at},
        unfinished={},
        stayed=True,
    )
    return replace(plain, **changed)


def good_run(machines: int = 4, **changed) -> RunResult:
    """A run in which the machines get 14 GB each: from each other, relays and the origin."""
    each = [one_machine(at) for at in range(machines)]
    lanes = {
        "direct": [0, 9 * GB, 20 * GB, 0],
        "webrtc": [0, 0, 10 * GB, 0],
        "relay": [0, 1 * GB, 2 * GB, 0],
        "origin": [10 * GB, 4 * GB, 0, 0],
    }
    plain = RunResult(
        scenario="flash-crowd",
        about="Everybody pulls a new model at once.",
        seed=7,
        nodes=machines,
        replay=f"dreamer-sim run flash-crowd --nodes {machines} --seed 7",
        ended_at_s=160.0,
        bound_s=112.0,
        last_s=112.0 + machines - 1,
        median_s=112.0 + (machines - 1) / 2,
        each=each,
        traffic=Traffic(40.0, lanes),
        origin=OriginUse(bytes=14 * GB, requests=224, refused=3, copies=1.0),
        relay=RelayUse(3 * GB, 5 * GB, [0, 1 * GB, 3 * GB, 3 * GB]),
        blamed=1,
        bad_blocks_kept=0,
        wasted_bytes=GB // 4,
        violations=[],
        missed=[],
        engine=Engine("5ca1ab1e" * 4, 12_345, 1.5, 64.0, 896),
        checks=12_345,
        expected=2,
    )
    return replace(plain, **changed)


@pytest.fixture
def machine():
    """``machine(at, up_bytes=…)`` returns a machine's result."""
    return one_machine


@pytest.fixture
def run():
    """``run(machines, seed=…)`` returns a run's result."""
    return good_run


@pytest.fixture
def bare_run():
    """A run in which one machine wanted a model, nothing moved, and there was nobody to ask."""
    stuck = one_machine(
        0,
        up_bytes=0,
        down_bytes=0,
        pulled_s={},
        finished_at_s={},
        unfinished={"llm": "nobody holds it"},
    )
    return good_run(
        1,
        each=[stuck],
        bound_s=0.0,
        last_s=0.0,
        median_s=0.0,
        traffic=Traffic(1.0, {}),
        origin=OriginUse(),
        relay=RelayUse(),
        wasted_bytes=0,
        checks=0,
        expected=0,
    )


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of a written report, with costs: drawn once for all tests that only look."""
    folder = tmp_path_factory.mktemp("written")
    write_report(good_run(), folder, [CostBar("from S3", 1696.0, 1700.0), CostBar("peers", 12.5)])
    return folder
