"""How far the simulator is from real daemons: the fan-out of one seed to some nodes, both ways.

Usage: python -m dreamer.simulations.calibrate [--size-mib 256] [--nodes 8] [--mbit 100]
       [--rounds 3] [--json]

As root: every machine is a network namespace whose link is shaped in both directions. Real daemons
pull first; then the simulator runs the same protocol over lines of the same rate. Three things that
it has no model of are measured, none is fitted to the outcome:

- what TCP gets through a shaped line when every host sends to every other, and how long a message
  takes beside that (``calibration/lines``, with nothing of Dreamer on the lines): headers,
  acknowledgements, full queues;
- when each pull knew what to fetch, and when each link could carry blocks (the daemons' own logs):
  on a machine of few cores, setting up dozens of links takes seconds;
- how long it took from the last block to the receipt: hashing the file, laying it out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from dreamer.simulations.bench.fanout import lower_bound_s
from dreamer.simulations.bench.fanout_clients.star import MIB, star
from dreamer.simulations.calibration.lines import BusyLines, busy_lines
from dreamer.simulations.calibration.real import Fanned, fan_out, finish_s
from dreamer.simulations.calibration.virtual import Overheads, simulated

MEDIAN_WITHIN = 0.10
LAST_WITHIN = 0.15
SEEDS = 5
"""Runs of the simulator beside each real one: both throw dice, and only one is quick."""


@dataclass(frozen=True)
class Round:
    """Completion times by node: as they were, and as simulated, once for each seed."""

    real_s: tuple[float, ...]
    runs_s: tuple[tuple[float, ...], ...]

    @property
    def simulated_s(self) -> tuple[float, ...]:
        """Each node's simulated time: the mean over the seeds."""
        return tuple(map(mean, zip(*self.runs_s, strict=True)))

    @property
    def median_error(self) -> float:
        """How much later the simulator's median is, as a share of the real one."""
        return mean(map(median, self.runs_s)) / median(self.real_s) - 1

    @property
    def last_error(self) -> float:
        """The same of the last."""
        return mean(map(max, self.runs_s)) / max(self.real_s) - 1


@dataclass(frozen=True)
class Calibration:
    """All rounds, and what was measured beside them. Errors: means over the rounds."""

    bound_s: float
    overheads: Overheads
    rounds: tuple[Round, ...]

    @property
    def median_error(self) -> float:
        """See ``Round``."""
        return mean(one.median_error for one in self.rounds)

    @property
    def last_error(self) -> float:
        """See ``Round``."""
        return mean(one.last_error for one in self.rounds)

    @property
    def good(self) -> bool:
        """Whether the simulator is as near as it is to be."""
        return abs(self.median_error) <= MEDIAN_WITHIN and abs(self.last_error) <= LAST_WITHIN


def calibrate(size: int, nodes: int, mbit: float, rounds: int) -> Calibration:
    """Run both; sizes in bytes, rates in Mbit/s.

    Raises:
        LoopbackError: a real pull failed or got stuck.
        LabError: no network can be built here; says what is missing.
    """
    runs: list[Fanned] = []
    lines: list[BusyLines] = []
    for _ in range(rounds):
        # Each in a network and on a disk of its own: nothing of one is left for the next.
        with (
            tempfile.TemporaryDirectory(prefix="calibrate-") as scratch,
            star(Path(scratch), size, nodes, mbit) as network,
        ):
            lines.append(busy_lines(network, mbit))
            runs.append(fan_out(network))
    busy = BusyLines(mean(one.share for one in lines), mean(one.latency_ms for one in lines))
    overheads = Overheads(busy, finish_s(runs))
    return Calibration(
        lower_bound_s(size, nodes, mbit),
        overheads,
        tuple(_compared(run, size, mbit, overheads) for run in runs),
    )


def _compared(run: Fanned, size: int, mbit: float, overheads: Overheads) -> Round:
    seeds = range(1, SEEDS + 1)
    runs = tuple(tuple(simulated(run, size, mbit, overheads, seed)) for seed in seeds)
    return Round(tuple(run.completions), runs)


def document(found: Calibration) -> dict[str, object]:
    """Return it in plain values."""
    errors = {"median_error": found.median_error, "last_error": found.last_error}
    return {**asdict(found), **errors, "good": found.good}


def table(found: Calibration) -> str:
    """Return it for people."""
    over = found.overheads
    lines = [
        f"lower bound {found.bound_s:.1f} s; measured: {over.lines.share:.1%} of a busy line gets "
        f"through, a message takes {over.lines.latency_ms:.0f} ms beside that, "
        f"{over.finish_s:.2f} s from the last block to the receipt"
    ]
    for number, one in enumerate(found.rounds, start=1):
        lines.append(f"round {number}   node  real s  simulated s")
        lines += [
            f"          {node:>4}  {real:>6.2f}  {simulation:>11.2f}"
            for node, (real, simulation) in enumerate(
                zip(one.real_s, one.simulated_s, strict=True), start=1
            )
        ]
        lines.append(f"          median {one.median_error:+.1%}, last {one.last_error:+.1%}")
    lines.append(
        f"error of the median {found.median_error:+.1%} (target: within {MEDIAN_WITHIN:.0%}), of "
        f"the last {found.last_error:+.1%} (within {LAST_WITHIN:.0%})"
    )
    return "\n".join(lines)


def main() -> None:
    """Calibrate, print how far off it is, and fail if that is too far."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = calibrate(given.size_mib * MIB, given.nodes, given.mbit, given.rounds)
    print(json.dumps(document(found)) if given.json else table(found))
    sys.exit(0 if found.good else 1)


if __name__ == "__main__":
    main()
