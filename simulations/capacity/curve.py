"""Queue, wait and loss of a pool against the number of users, and where it stops holding.

Every point is run with the same seeds, and a user's behaviour depends on the seed and its own
number only: from one point to the next, users are added to the same crowd, so the curves of one
seed rise with the load and their crossing of a limit is one place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from dreamer.simulations.capacity.estimate import Estimate, quantile
from dreamer.simulations.capacity.gpus import GpuPool
from dreamer.simulations.capacity.swept import LOST, Frames, sweep
from dreamer.simulations.capacity.users import Users


@dataclass(frozen=True)
class Criterion:
    """What it means that a pool holds: both, on the average of all users."""

    wait_p99_s: float = 0.1
    loss_share: float = 0.01


@dataclass(frozen=True)
class LoadPoint:
    """Some users on the pool. ``load``: frames offered over frames that can be served.
    ``queue_mean``: frames that wait, averaged over time. ``margin``: the larger of wait and loss
    over their limits; above 1 it does not hold."""

    users: int
    load: float
    loss_share: Estimate
    wait_p50_s: Estimate
    wait_p99_s: Estimate
    queue_mean: Estimate
    refusals_per_frame: Estimate
    margin: Estimate
    holds: bool


@dataclass(frozen=True)
class CapacityResult:
    """A curve. ``breaks_at_users``: where each seed's margin passes 1, on the average; None where
    the curve never does or always. ``trace_hash``: of every frame's wait, in order."""

    pool: GpuPool
    users: Users
    criterion: Criterion
    seeds: tuple[int, ...]
    seconds: float
    points: tuple[LoadPoint, ...]
    breaks_at_users: Estimate | None
    trace_hash: str


@dataclass(frozen=True)
class _Run:
    """One point with one seed."""

    frames_s: float
    loss_share: float
    wait_p50_s: float
    wait_p99_s: float
    queue_mean: float
    refusals_per_frame: float
    digest: bytes

    def margin(self, criterion: Criterion) -> float:
        wait = self.wait_p99_s / criterion.wait_p99_s
        return max(wait, self.loss_share / criterion.loss_share)


def capacity_curve(
    pool: GpuPool,
    users: Users,
    counts: Sequence[int],
    seeds: Sequence[int],
    seconds: float,
    criterion: Criterion,
    report: Callable[[str], None] = lambda line: None,
) -> CapacityResult:
    """Return the curve for these numbers of users (``users.count`` does not matter)."""
    runs: list[list[_Run]] = []
    for count in counts:
        report(f"{count} users on {pool.nodes} × {pool.frames_s / pool.nodes:.0f} frames/s")
        runs.append([_run(pool, replace(users, count=count), seed, seconds) for seed in seeds])
    points = tuple(
        _point(pool, replace(users, count=count), of_count, criterion)
        for count, of_count in zip(counts, runs, strict=True)
    )
    of_seed = zip(*([run.margin(criterion) for run in of_count] for of_count in runs), strict=True)
    breaks = [crossing(counts, margins) for margins in of_seed]
    return CapacityResult(
        pool, users, criterion, tuple(seeds), seconds, points, _sure(breaks), _hash(runs)
    )


def _run(pool: GpuPool, users: Users, seed: int, seconds: float) -> _Run:
    frames = Frames.of(users, seed, seconds)
    served = sweep(frames, pool, seed)
    waits = np.array(served.wait_s)
    taken = np.sort(waits[waits != LOST]).tolist()
    sent = max(1, len(waits))
    return _Run(
        frames_s=len(waits) / seconds,
        loss_share=1 - len(taken) / sent,
        wait_p50_s=quantile(taken, 0.5),
        wait_p99_s=quantile(taken, 0.99),
        # Little's law is exact for what has waited within the run.
        queue_mean=math.fsum(taken) / seconds,
        refusals_per_frame=sum(served.refusals) / sent,
        digest=blake2b(waits.tobytes(), digest_size=16).digest(),
    )


def _point(pool: GpuPool, users: Users, runs: Sequence[_Run], criterion: Criterion) -> LoadPoint:
    loss = Estimate.of([run.loss_share for run in runs])
    wait = Estimate.of([run.wait_p99_s for run in runs])
    return LoadPoint(
        users=users.count,
        load=users.offered_frames_s / pool.frames_s,
        loss_share=loss,
        wait_p50_s=Estimate.of([run.wait_p50_s for run in runs]),
        wait_p99_s=wait,
        queue_mean=Estimate.of([run.queue_mean for run in runs]),
        refusals_per_frame=Estimate.of([run.refusals_per_frame for run in runs]),
        margin=Estimate.of([run.margin(criterion) for run in runs]),
        holds=wait.mean <= criterion.wait_p99_s and loss.mean <= criterion.loss_share,
    )


def crossing(counts: Sequence[int], margins: Sequence[float]) -> float | None:
    """Return where the margin first passes 1, between two counts in proportion; None: nowhere."""
    pairs = list(zip(counts, margins, strict=True))
    for (few, below), (many, above) in itertools.pairwise(pairs):
        if below <= 1 < above:
            return few + (many - few) * (1 - below) / (above - below)
    return None


def _sure(breaks: Sequence[float | None]) -> Estimate | None:
    """Return the mean of the crossings if every seed has one."""
    found = [each for each in breaks if each is not None]
    return Estimate.of(found) if found and len(found) == len(breaks) else None


def _hash(runs: Sequence[Sequence[_Run]]) -> str:
    whole = blake2b(digest_size=16)
    for of_count in runs:
        for run in of_count:
            whole.update(run.digest)
    return whole.hexdigest()
