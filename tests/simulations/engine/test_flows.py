"""The network shares its pipes fairly, sends every byte once, and ends every parcel in time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.simulations.engine.clock import Clock
from dreamer.simulations.engine.fair import divide
from dreamer.simulations.engine.flows import FASTEST_BYTES_S, Flow, Flows, Parcel

Shares = tuple[list[float], list[tuple[int, ...]], list[float]]


@st.composite
def networks(draw: st.DrawFn) -> Shares:
    """Capacities, the pipes of each flow, and what each flow takes at most."""
    # Few distinct values, so that shares are often equal: that is where filling goes wrong.
    speeds = st.sampled_from([0.0, 1.0, 2.0, 3.0, 10.0]) | st.floats(0.01, 1000.0)
    capacities = draw(st.lists(speeds, min_size=1, max_size=8))
    pipes = st.lists(st.integers(0, len(capacities) - 1), max_size=4).map(tuple)
    flows = draw(st.lists(pipes, min_size=1, max_size=25))
    limits = [draw(st.just(FASTEST_BYTES_S) | speeds) for _ in flows]
    return capacities, flows, limits


def water_filling(
    capacities: list[float], flows: list[tuple[int, ...]], limits: list[float]
) -> list[float]:
    """Raise all rates alike; whoever meets a full pipe or its limit stays there."""
    rates = [0.0] * len(flows)
    rising = set(range(len(flows)))
    while rising:
        steps = [limits[flow] - rates[flow] for flow in rising]
        full = {}
        for pipe, capacity in enumerate(capacities):
            load = sum(flows[flow].count(pipe) for flow in rising)
            if load:
                used = sum(r * f.count(pipe) for r, f in zip(rates, flows, strict=True))
                full[pipe] = (capacity - used) / load
        step = max(0.0, min([*steps, *full.values()]))
        for flow in rising:
            rates[flow] += step
        stopped = [pipe for pipe, room in full.items() if room <= step + 1e-12 * capacities[pipe]]
        rising = {
            flow
            for flow in rising
            if rates[flow] < limits[flow] - 1e-12 * limits[flow]
            and not any(pipe in stopped for pipe in flows[flow])
        }
    return rates


def shared(network: Shares, slack: float | None = None) -> list[float]:
    """What ``divide`` makes of a network; columns are filled up with a pipe without end."""
    capacities, flows, limits = network
    widest = max(1, *(len(flow) for flow in flows))
    rows = [[pipe + 1 for pipe in flow] + [0] * (widest - len(flow)) for flow in flows]
    table = np.array(rows, dtype=np.intp).T
    arguments = (np.array([np.inf, *capacities]), table, np.array(limits))
    return (divide(*arguments) if slack is None else divide(*arguments, slack)).tolist()


def used(network: Shares, rates: list[float]) -> list[float]:
    capacities, flows, _ = network
    return [
        sum(rate * flow.count(pipe) for rate, flow in zip(rates, flows, strict=True))
        for pipe in range(len(capacities))
    ]


@given(networks())
@settings(max_examples=100)
def test_shares_are_those_of_plain_water_filling(network: Shares) -> None:
    assert shared(network) == pytest.approx(water_filling(*network), rel=1e-9, abs=1e-9)


@given(networks(), st.sampled_from([None, 0.01, 0.3]))
@settings(max_examples=60)
def test_nobody_gets_more_without_taking_from_one_who_has_no_more(
    network: Shares, slack: float | None
) -> None:
    capacities, flows, limits = network
    rates = shared(network, slack)
    near = 1 + (slack or 0) + 1e-9
    use = used(network, rates)
    assert all(u <= c * (1 + 1e-9) for u, c in zip(use, capacities, strict=True))
    for flow, rate, limit in zip(flows, rates, limits, strict=True):
        # Its bottleneck: full, and nobody there has more. (A limit is a pipe of its own.)
        assert rate * near >= limit or any(
            use[pipe] * near >= capacities[pipe] - 1e-9
            and all(r <= rate * near + 1e-9 for r, f in zip(rates, flows, strict=True) if pipe in f)
            for pipe in flow
        )


class Run:
    """A random life of a small network: flows that come, send, take back, and go."""

    def __init__(self, seed: int, interval_s: float, pipes: int = 6, flows: int = 25) -> None:
        self.rng = Random(seed)
        self.clock = Clock()
        self.net = Flows(self.clock, interval_s)
        self.speeds = {self.net.pipe(speed): speed for speed in self._draw(pipes, 1e6, 1e8)}
        self.flows: list[Flow] = []
        self.through: list[tuple[int, ...]] = []
        self.sent: dict[int, float] = {}
        self.ended: list[tuple[float, int, int]] = []
        for number in range(flows):
            self.clock.at(self.rng.uniform(0, 3), partial(self.opens, number))

    def _draw(self, count: int, low: float, high: float) -> list[float]:
        return [self.rng.uniform(low, high) for _ in range(count)]

    def opens(self, number: int) -> None:
        path = tuple(self.rng.sample(sorted(self.speeds), self.rng.randint(1, 3)))
        cap = self.rng.choice([float("inf"), 5e6])
        self.flows.append(self.net.open(path, cap))
        self.through.append(path)
        flow, own = self.flows[-1], len(self.flows) - 1
        for part in range(self.rng.randint(1, 6)):
            size = self.rng.uniform(1e5, 2e7)
            self.sent[own] = self.sent.get(own, 0.0) + size
            flow.send(size, partial(self.ends, number, part))

    def ends(self, number: int, part: int) -> None:
        self.ended.append((self.clock.now, number, part))

    def check(self) -> None:
        """No pipe is overfull now."""
        for pipe, speed in self.speeds.items():
            through = zip(self.flows, self.through, strict=True)
            rates = sum(flow.rate for flow, path in through if pipe in path)
            assert rates <= speed * (1 + 1e-9)
        assert self.net.overfull(1e-9) == []

    def run(self, until_s: float = float("inf")) -> None:
        while self.clock.next_at() <= until_s and self.clock.step():
            self.check()


@pytest.mark.parametrize("interval_s", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_everything_sent_is_delivered_once_and_no_pipe_is_ever_overfull(
    seed: int, interval_s: float
) -> None:
    run = Run(seed, interval_s)
    run.run()
    assert sorted(run.sent) == list(range(len(run.flows)))
    for number, flow in enumerate(run.flows):
        assert flow.delivered_bytes == pytest.approx(run.sent[number], rel=1e-12)
        assert (flow.backlog_bytes, flow.rate) == (pytest.approx(0.0, abs=1e-6), 0.0)
    parts = [(number, part) for _, number, part in run.ended]
    assert len(set(parts)) == len(parts)
    assert all(
        [part for one, part in parts if one == number] == sorted(p for o, p in parts if o == number)
        for number in {one for one, _ in parts}
    )


def test_coarser_intervals_cost_little_and_finer_ones_less() -> None:
    def error(interval_s: float) -> float:
        total = 0.0
        for seed in range(6):
            exact, coarse = Run(seed, 0.0), Run(seed, interval_s)
            exact.run()
            coarse.run()
            times = {(number, part): at for at, number, part in exact.ended}
            total += sum(abs(times[n, p] - at) for at, n, p in coarse.ended) / len(coarse.ended)
        return total / 6

    errors = [error(interval_s) for interval_s in (1.0, 0.3, 0.1, 0.01, 0.0)]
    assert errors == sorted(errors, reverse=True)
    # A parcel waits at most about an interval for its share at each end.
    assert errors[2] < 0.1
    assert errors[4] == 0.0


_TELL = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("flows_under_test", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
for interval_s in (0.0, 0.1):
    run = module.Run(7, interval_s)
    run.run()
    print(run.ended)
"""


def test_equal_calls_give_equal_times_in_any_process() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", _TELL, __file__],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].strip()


class Ends:
    """Takes the moments at which parcels end, by name."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.at: dict[str, float] = {}

    def __call__(self, name: str) -> Callable[[], None]:
        def done() -> None:
            self.at[name] = self.clock.now

        return done


def small(interval_s: float = 0.0) -> tuple[Clock, Flows, Ends]:
    clock = Clock()
    return clock, Flows(clock, interval_s), Ends(clock)


def pass_time(clock: Clock, until_s: float) -> None:
    clock.at(until_s, lambda: None)
    clock.run(until_s)


def test_parcels_of_one_flow_follow_one_another_to_the_exact_moment() -> None:
    clock, net, ends = small(interval_s=10.0)
    flow = net.open([net.pipe(100.0)])
    for name in "abc":
        flow.send(50.0, ends(name))
    clock.run()
    assert ends.at == {"a": 0.5, "b": 1.0, "c": 1.5}


def test_two_flows_halve_a_pipe_and_the_second_half_goes_to_whoever_is_left() -> None:
    clock, net, ends = small()
    pipe = net.pipe(100.0)
    net.open([pipe]).send(100.0, ends("long"))
    net.open([pipe]).send(50.0, ends("short"))
    clock.run()
    assert ends.at == {"short": 1.0, "long": 1.5}


def test_a_flow_that_begins_between_divisions_takes_only_what_is_left_over() -> None:
    clock, net, ends = small(interval_s=1.0)
    up, down, other = net.pipe(100.0), net.pipe(30.0), net.pipe(1000.0)
    first, second = net.open([up, down]), net.open([up, other])
    first.send(1000.0, ends("first"))
    pass_time(clock, 0.5)
    second.send(1000.0, ends("second"))
    assert (first.rate, second.rate) == (30.0, 70.0)
    late = net.open([up])
    late.send(1000.0, ends("late"))
    assert late.rate == 0.0
    pass_time(clock, 1.0)
    assert (first.rate, second.rate, late.rate) == (30.0, 35.0, 35.0)


def test_a_limit_leaves_the_rest_to_the_others() -> None:
    clock, net, ends = small()
    pipe = net.pipe(100.0)
    capped, free = net.open([pipe], cap_bytes_s=10.0), net.open([pipe])
    capped.send(1000.0, ends("capped"))
    free.send(1000.0, ends("free"))
    pass_time(clock, 0.0)
    assert (capped.rate, free.rate) == (10.0, 90.0)


def test_a_pipe_named_twice_carries_a_flow_twice() -> None:
    clock, net, ends = small()
    relay = net.pipe(100.0)
    net.open([relay, relay]).send(100.0, ends("there and back"))
    clock.run()
    assert ends.at == {"there and back": 2.0}


@pytest.mark.parametrize("interval_s", [0.0, 5.0])
def test_nothing_passes_a_pipe_cut_off_and_it_goes_on_where_it_was(interval_s: float) -> None:
    clock, net, ends = small(interval_s)
    pipe = net.pipe(100.0)
    flow = net.open([pipe])
    flow.send(1000.0, ends("cut"))
    pass_time(clock, 4.0)
    net.set_capacity(pipe, 0.0)
    assert (flow.rate, flow.delivered_bytes, flow.backlog_bytes) == (0.0, 400.0, 600.0)
    pass_time(clock, 20.0)
    assert clock.next_at() == float("inf")
    clock.at(100.0, lambda: net.set_capacity(pipe, 200.0))
    clock.run()
    assert ends.at == {"cut": 103.0}


def test_a_pipe_that_shrinks_is_not_overfull_until_the_next_division() -> None:
    clock, net, ends = small(interval_s=10.0)
    pipe = net.pipe(100.0)
    flows = [net.open([pipe]) for _ in range(4)]
    for flow in flows:
        flow.send(1000.0, ends("any"))
    pass_time(clock, 1.0)
    net.set_capacity(pipe, 20.0)
    assert sum(flow.rate for flow in flows) <= 20.0
    assert flows[0].delivered_bytes == pytest.approx(100.0 if flows[1].rate == 0.0 else 25.0)


def test_what_is_taken_back_stops_at_once_and_its_bytes_still_count() -> None:
    clock, net, ends = small()
    flow = net.open([net.pipe(100.0)])
    parcels = [flow.send(100.0, ends(name)) for name in "abc"]
    pass_time(clock, 0.25)
    assert flow.drop(parcels[1]) == 0.0
    assert flow.backlog_bytes == 175.0
    assert flow.drop(parcels[0]) == 25.0
    assert flow.drop(parcels[0]) == 0.0
    clock.run()
    assert ends.at == {"c": 1.25}
    assert (flow.delivered_bytes, flow.backlog_bytes) == (125.0, 0.0)
    assert flow.drop(parcels[2]) == 0.0


def test_a_closed_flow_loses_its_queue_and_leaves_its_share() -> None:
    clock, net, ends = small()
    pipe = net.pipe(100.0)
    gone, stays = net.open([pipe]), net.open([pipe])
    for name in ("gone", "gone too"):
        gone.send(100.0, ends(name))
    stays.send(100.0, ends("stays"))
    clock.at(1.0, gone.close)
    clock.run()
    assert ends.at == {"stays": 1.5}
    assert (gone.delivered_bytes, gone.backlog_bytes, gone.rate) == (50.0, 0.0, 0.0)
    gone.close()
    with pytest.raises(ValueError, match="closed"):
        gone.send(1.0, ends("late"))


def test_a_slot_used_again_is_a_new_flow() -> None:
    clock, net, ends = small()
    pipe = net.pipe(100.0)
    for turn in range(200):
        old = net.open([pipe], cap_bytes_s=1.0)
        old.send(100.0, ends("never"))
        old.close()
        flow = net.open([pipe])
        flow.send(100.0, ends(f"turn {turn}"))
        clock.run()
        flow.close()
    assert "never" not in ends.at
    assert ends.at["turn 199"] == pytest.approx(200.0)


@pytest.mark.parametrize("interval_s", [0.0, 0.1])
def test_whoever_sends_closes_or_takes_back_when_a_parcel_ends_is_heeded(interval_s: float) -> None:
    clock, net, ends = small(interval_s)
    pipe = net.pipe(100.0)
    again, ending = net.open([pipe]), net.open([pipe])
    queued: list[Parcel] = []
    again.send(50.0, lambda: again.send(50.0, ends("again")))
    ending.send(50.0, lambda: (ending.drop(queued[0]), ending.close()))
    queued.append(ending.send(50.0, ends("never")))
    clock.run()
    assert ends.at["again"] == pytest.approx(1.5, abs=interval_s)
    assert "never" not in ends.at


def test_an_idle_network_has_no_events() -> None:
    clock, net, ends = small(interval_s=0.1)
    flow = net.open([net.pipe(100.0)])
    assert clock.next_at() == float("inf")
    flow.send(1000.0, ends("one"))
    clock.run()
    assert (ends.at, clock.now) == ({"one": 10.0}, 10.0)
    # Alone and unchanged, it is not looked at in each of the hundred intervals.
    assert clock.happened < 10
