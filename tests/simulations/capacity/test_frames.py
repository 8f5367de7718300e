"""Frames through a pool: against the event-by-event run and against closed forms."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from dreamer.simulations.capacity.clocked import FramePool
from dreamer.simulations.capacity.curve import Criterion, capacity_curve, crossing
from dreamer.simulations.capacity.estimate import Estimate, quantile
from dreamer.simulations.capacity.gpus import GpuPool, route
from dreamer.simulations.capacity.swept import LOST, FifoNode, Frames, sweep
from dreamer.simulations.capacity.users import Users, turns

NO_LIMIT = 10**9


@pytest.mark.parametrize(
    "pool",
    [
        GpuPool(480.0),
        GpuPool(480.0, nodes=4, rtt_min_s=0.001, rtt_max_s=0.02, queue_max=20),
        GpuPool(300.0, nodes=3, rtt_min_s=0.01, rtt_max_s=0.09, queue_max=50, per_user_max=2),
    ],
)
def test_sweep_equals_the_run_event_by_event(pool: GpuPool) -> None:
    users = Users(74)
    swept = sweep(Frames.of(users, 3, 12.0), pool, 3)
    clocked = FramePool(users, pool, 3, 12.0).run()
    waits = [LOST if frame.wait_s is None else frame.wait_s for frame in clocked]
    assert len(waits) > 4000
    assert swept.refusals == [frame.refusals for frame in clocked]
    assert any(swept.refusals)
    assert swept.wait_s == pytest.approx(waits, abs=1e-9)


def _poisson(rate: float, count: int, seed: int) -> list[float]:
    rng, now, times = Random(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        times.append(now)
    return times


def test_poisson_frames_wait_as_m_d_1_says() -> None:
    load, count = 0.7, 200_000
    frames = Frames(np.array(_poisson(load, count, 1)), np.zeros(count, dtype=np.int64))
    pool = GpuPool(1.0, queue_max=NO_LIMIT, per_user_max=NO_LIMIT)
    served = sweep(frames, pool, 1)
    # Pollaczek and Khinchine: W = rho * s / (2 * (1 - rho)).
    assert math.fsum(served.wait_s) / count == pytest.approx(load / (2 * (1 - load)), rel=0.05)


def test_exponential_service_waits_as_m_m_1_says() -> None:
    load, count, rng = 0.6, 200_000, Random(2)
    node = FifoNode(NO_LIMIT, NO_LIMIT)
    waits = []
    for now in _poisson(load, count, 3):
        begins = node.offer(now, 0, rng.expovariate(1.0))
        assert begins is not None
        waits.append(begins - now)
    assert math.fsum(waits) / count == pytest.approx(load / (1 - load), rel=0.05)
    assert sum(wait > 0 for wait in waits) / count == pytest.approx(load, rel=0.03)


def test_bounded_queue_refuses_as_m_m_1_k_says() -> None:
    load, room, count, rng = 0.9, 5, 200_000, Random(4)
    node = FifoNode(room, NO_LIMIT)
    taken = [node.offer(now, 0, rng.expovariate(1.0)) for now in _poisson(load, count, 5)]
    blocked = (1 - load) * load**room / (1 - load ** (room + 1))
    assert taken.count(None) / count == pytest.approx(blocked, rel=0.03)


def test_loss_of_many_on_and_off_users_is_their_binomial_excess() -> None:
    # Turns of seconds beside a queue of 40 ms: as good as no queue, so what more users than can be
    # served are on offers is lost.
    users, pool, able = Users(71, on_s=2.0), GpuPool(480.0, queue_max=20), 480 / 25
    lost = total = 0
    for seed in (1, 2):
        served = sweep(Frames.of(users, seed, 300.0), pool, seed)
        lost += served.wait_s.count(LOST)
        total += len(served.wait_s)
    n, p = users.count, users.duty
    excess = math.fsum(
        (on - able) * math.comb(n, on) * p**on * (1 - p) ** (n - on)
        for on in range(math.ceil(able), n + 1)
    )
    assert lost / total == pytest.approx(excess / (n * p), rel=0.2)


@pytest.mark.parametrize("switching", ["exponential", "constant", "lognormal"])
def test_users_are_on_for_their_duty_from_the_first_moment(switching: str) -> None:
    users = Users(4000, switching=switching)
    on_at = [
        sum(any(t.start_s <= at < t.end_s for t in turns(users, u, 9, 60.0)) for u in range(2000))
        for at in (0.0, 11.0, 50.0)
    ]
    # Three standard deviations of a binomial of 2,000.
    assert [on / 2000 for on in on_at] == pytest.approx([0.27] * 3, abs=0.03)


def test_frames_are_sent_while_their_user_is_on_and_never_twice_in_a_tick() -> None:
    users = Users(3, on_s=1.0)
    frames = Frames.of(users, 4, 60.0)
    for user in range(users.count):
        sent = frames.sent_s[frames.user == user].tolist()
        on = list(turns(users, user, 4, 60.0))
        assert all(any(turn.start_s <= at < turn.end_s for turn in on) for at in sent)
        steps = [(after - before) * users.frames_s for before, after in pairwise(sent)]
        assert all(step == pytest.approx(round(step)) and round(step) >= 1 for step in steps)
        on_s = sum(min(turn.end_s, 60.0) - turn.start_s for turn in on)
        assert len(sent) == pytest.approx(on_s * users.frames_s, abs=len(on))


def test_one_user_more_changes_nothing_for_the_others() -> None:
    few, many = Frames.of(Users(5), 1, 60.0), Frames.of(Users(6), 1, 60.0)
    assert len(many.sent_s) > len(few.sent_s)
    assert many.sent_s[many.user < 5].tolist() == few.sent_s.tolist()


def test_frames_go_to_the_nearest_node_first() -> None:
    stops = route(GpuPool(nodes=6, rtt_min_s=0.001, rtt_max_s=0.1), user=3, seed=1)
    ways = [stop.one_way_s for stop in stops]
    assert ways == sorted(ways)
    assert sorted(stop.node for stop in stops) == list(range(6))


def test_one_user_gets_no_more_than_a_links_requests_into_a_queue() -> None:
    node = FifoNode(queue_max=100, per_user_max=2)
    assert [node.offer(0.0, 1, 1.0) for _ in range(3)] == [0.0, 1.0, None]
    assert node.offer(0.0, 2, 1.0) == 2.0
    # The first of user 1 has ended by now.
    assert node.offer(1.0, 1, 1.0) == 3.0


def test_more_users_never_get_a_better_pool() -> None:
    result = capacity_curve(GpuPool(480.0), Users(0), (30, 60, 80, 100), (1, 2), 40.0, Criterion())
    losses = [point.loss_share.mean for point in result.points]
    waits = [point.wait_p99_s.mean for point in result.points]
    assert losses == sorted(losses)
    assert waits == sorted(waits)
    assert losses[0] == 0 < losses[-1]
    assert [point.holds for point in result.points] == sorted(
        (point.holds for point in result.points), reverse=True
    )
    assert result.points[0].holds
    assert result.breaks_at_users is not None
    assert 30 < result.breaks_at_users.mean < 80


def test_crossing_is_found_between_two_counts() -> None:
    assert crossing((500, 600, 700), (0.2, 0.5, 1.5)) == pytest.approx(650)
    assert crossing((500, 600), (0.2, 0.5)) is None
    assert crossing((500, 600), (1.2, 1.5)) is None


def test_estimates_have_students_interval() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    assert estimate.within == pytest.approx(4.303 / math.sqrt(3))
    assert Estimate.of([5.0]) == Estimate(5.0, 0.0)
    assert quantile([], 0.5) == 0.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0


_HASH = """
from dreamer.simulations.capacity.curve import *
from dreamer.simulations.capacity.gpus import GpuPool
from dreamer.simulations.capacity.users import Users
pool = GpuPool(480.0, 2, 0.001, 0.01)
print(capacity_curve(pool, Users(0), (70,), (1,), 5.0, Criterion()).trace_hash)
"""


def test_same_seed_gives_the_same_trace_in_another_process() -> None:
    def trace(seed: int) -> str:
        pool = GpuPool(480.0, 2, 0.001, 0.01)
        return capacity_curve(pool, Users(0), (70,), (seed,), 5.0, Criterion()).trace_hash

    ran = subprocess.run(
        [sys.executable, "-c", _HASH],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == trace(1) != trace(2)
