"""Plays every scenario and prints which lane carried, how long it took, and whether it is right.

Usage: python -m dreamer.simulations.netlab.matrix [--only WORD] [--at-once 3] [--json]

As root. Exits 1 when a scenario failed, took another lane, or its file is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dreamer.simulations.netlab.pair import Outcome
from dreamer.simulations.netlab.scenarios.changes import CHANGES
from dreamer.simulations.netlab.scenarios.lines import LINES
from dreamer.simulations.netlab.scenarios.nats import NATS
from dreamer.simulations.netlab.world import Scenario, world

SCENARIOS: Mapping[str, Scenario] = {one.name: one for one in (*CHANGES, *NATS, *LINES)}
"""Those that wait longest come first, so that the others run meanwhile."""

AT_ONCE = 4
"""How many are played at a time: most of them wait more than they work."""


@contextmanager
def playing(
    scratch: Path, names: Sequence[str], at_once: int = AT_ONCE
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """Begin these scenarios in one network; yields what each of them will come to."""
    with world(scratch) as shared, ThreadPoolExecutor(at_once) as pool:
        begun = {name: pool.submit(SCENARIOS[name].play, shared) for name in names}
        try:
            yield begun
        finally:
            # Whoever has stopped asking need not wait for those that have not begun.
            for one in begun.values():
                one.cancel()


def row(name: str, outcome: Outcome) -> str:
    """Return one line of the table."""
    lanes = " + ".join(f"{lane} {mib:.1f}" for lane, mib in outcome.lanes.items())
    right = "right" if outcome.right else "WRONG"
    paused = f"{outcome.pause_s:.1f}"
    return f"{name:<36} {lanes:<26} {outcome.seconds:>6.1f} {paused:>6} {right} {outcome.note}"


def main() -> None:
    """Play them and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [name for name in SCENARIOS if given.only in name]
    good = True
    done: dict[str, object] = {}
    with (
        tempfile.TemporaryDirectory(prefix="netlab-") as scratch,
        playing(Path(scratch), names, given.at_once) as begun,
    ):
        if not given.json:
            print(f"{'scenario':<36} {'MiB by lane':<26} {'s':>6} {'pause':>6} file")
        for name in names:
            good &= _report(name, begun[name], done, given.json)
    if given.json:
        print(json.dumps(done))
    sys.exit(0 if good else 1)


def _report(name: str, begun: Future[Outcome], done: dict[str, object], quiet: bool) -> bool:
    try:
        outcome = begun.result()
    except Exception as error:
        # One that failed shall not hide the others.
        print(f"{name:<36} FAILED: {error}", file=sys.stderr, flush=True)
        return False
    done[name] = asdict(outcome)
    if not quiet:
        print(row(name, outcome), flush=True)
    return outcome.right and outcome.lane == SCENARIOS[name].lane


if __name__ == "__main__":
    main()
