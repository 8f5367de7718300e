"""What a run of the simulator costs, and what coarse blocks cost in accuracy.

The flash crowd with fewer or more machines: seconds of wall and of CPU time, events of the heap
each second, microseconds of CPU for each block moved, peak memory (of the process so far). Then one
small swarm with blocks of 1 MiB, as real nodes have them, and coarser ones: completion times
relative to the first.

    python -m dreamer.simulations.bench.simulator [--large] [--only-speed]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.scenario.loader import committed, load
from dreamer.simulations.scenario.model import Scenario

SCENARIO = "flash-crowd"

SPEEDS = ((100, 14.0, 64), (1_000, 14.0, 64))
LARGE = ((10_000, 14.0, 256),)
"""Machines, gigabytes of the model, MiB of a block."""

GRAINS_MIB = (1, 4, 16, 64, 256)
GRAIN_MACHINES, GRAIN_GB = 20, 4.0


@dataclass(frozen=True)
class Run:
    """One run and what it took."""

    result: RunResult
    wall_s: float
    cpu_s: float


def flash_crowd(machines: int, size_gb: float, block_mib: int) -> Scenario:
    """Return the committed scenario with so many machines, another size and other blocks."""
    scenario = load(committed()[SCENARIO])
    return replace(
        scenario,
        block_mib=block_mib,
        models=tuple(replace(model, size_gb=size_gb) for model in scenario.models),
        groups=tuple(replace(group, count=machines) for group in scenario.groups),
    )


def timed(scenario: Scenario) -> Run:
    """Run a scenario."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = simulate(scenario, scenario.seed)
    return Run(result, time.perf_counter() - wall, time.process_time() - cpu)


def speed(large: bool) -> None:
    """Print what runs cost."""
    print("machines   GB  MiB   wall s    CPU s  events/s  us/block  peak MiB  last/bound")
    for machines, size_gb, block_mib in SPEEDS + (LARGE if large else ()):
        run = timed(flash_crowd(machines, size_gb, block_mib))
        engine = run.result.engine
        print(
            f"{machines:8} {size_gb:4.0f} {block_mib:4} {run.wall_s:8.1f} {run.cpu_s:8.1f} "
            f"{engine.events / run.wall_s:9.0f} {run.cpu_s / engine.blocks_moved * 1e6:9.0f} "
            f"{engine.peak_rss_mib:9.0f} {run.result.last_s / run.result.bound_s:11.2f}",
            flush=True,
        )


def grain() -> None:
    """Print what coarse blocks cost in accuracy."""
    print(f"\n{GRAIN_MACHINES} machines, {GRAIN_GB:.0f} GB")
    print(" MiB   median s     last s  median/fine    last/fine    CPU s")
    finest: RunResult | None = None
    for block_mib in GRAINS_MIB:
        run = timed(flash_crowd(GRAIN_MACHINES, GRAIN_GB, block_mib))
        finest = finest or run.result
        median, last = run.result.median_s, run.result.last_s
        print(
            f"{block_mib:4} {median:10.1f} {last:10.1f} {median / finest.median_s:12.2f} "
            f"{last / finest.last_s:12.2f} {run.cpu_s:8.1f}",
            flush=True,
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="10,000 machines, too")
    parser.add_argument("--only-speed", action="store_true", help="not the small swarm")
    options = parser.parse_args()
    speed(options.large)
    if not options.only_speed:
        grain()


if __name__ == "__main__":
    main()
