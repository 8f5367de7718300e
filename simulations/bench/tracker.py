"""A tracker under load: announces, offers and answers of many clients; its CPU and its memory.

Usage: python -m dreamer.simulations.bench.tracker [throughput|equal|memory|neighbours …]
           [--npm [NODE_MODULES]] [--against URL [--pid PID]] [--json]

N clients in swarms announce with five realistic offers each; every offer is answered, every answer
goes back. The clients are one process and the tracker another: each one's CPU is measured.
Latency is from sending an announce to an offer's arrival at its peer, by the clients' clock.

throughput  as fast as the tracker answers, a number of announces being on their way at a time
equal       at one fixed rate for all: half of what the slower one managed in throughput
memory      many sockets: resident memory before, with peers, after announces, after a burst
neighbours  latency of clients alone and beside one that floods, stalls in a frame, never reads

Without --against it starts a dreamer-tracker; with --npm also bittorrent-tracker's server, and
they take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from dreamer.simulations.bench.tracker_load import report, servers, usage
from dreamer.simulations.bench.tracker_load.neighbour import Kind
from dreamer.simulations.bench.tracker_load.neighbours import Beside, beside
from dreamer.simulations.bench.tracker_load.rounds import (
    Footprint,
    Round,
    Shape,
    footprint,
    measure,
)
from dreamer.simulations.bench.tracker_load.servers import Server, Source

MODES = ("throughput", "equal", "memory", "neighbours")
NPM_PACKAGES = Path(".cache/npm/node_modules")
DEFAULT_RATE = 500.0
# Files a bench keeps open besides its sockets.
OTHER_FILES = 100

Result = TypeVar("Result")


@dataclass
class Results:
    """What was measured, in the order in which it was."""

    throughput: list[Round] = dataclasses.field(default_factory=list)
    equal: list[Round] = dataclasses.field(default_factory=list)
    memory: list[Footprint] = dataclasses.field(default_factory=list)
    neighbours: list[Beside] = dataclasses.field(default_factory=list)


def run(sources: list[Source], modes: list[str], given: argparse.Namespace) -> Results:
    """Measure every tracker in every mode."""
    results = Results()
    for mode in MODES:
        if mode in modes:
            for line in _RUNS[mode](sources, given, results):
                print(line, file=sys.stderr if given.json else sys.stdout, flush=True)
    return results


def _throughput(
    sources: list[Source], given: argparse.Namespace, results: Results
) -> Iterator[str]:
    shape = replace(_shape(given), window=given.window)
    yield f"throughput: {shape.sockets} sockets, {shape.window} announces on their way"
    results.throughput = _in_turns(sources, given.rounds, lambda s: measure(s, shape))
    yield from report.throughput(results.throughput)


def _equal(sources: list[Source], given: argparse.Namespace, results: Results) -> Iterator[str]:
    rate = given.rate or _half_of_the_slower(results.throughput) or DEFAULT_RATE
    shape = replace(_shape(given), rate=rate)
    yield f"equal load: {shape.sockets} sockets, {rate:,.0f} announces/s"
    results.equal = _in_turns(sources, given.rounds, lambda s: measure(s, shape))
    yield from report.throughput(results.equal)


def _memory(sources: list[Source], given: argparse.Namespace, results: Results) -> Iterator[str]:
    usage.allow_files(given.memory_sockets + OTHER_FILES)
    shape = replace(_shape(given), sockets=given.memory_sockets, window=given.window)
    yield f"memory: {shape.sockets} sockets"
    results.memory = _in_turns(sources, 1, lambda s: footprint(s, shape))
    yield from report.memory(results.memory)


def _neighbours(
    sources: list[Source], given: argparse.Namespace, results: Results
) -> Iterator[str]:
    shape = replace(_shape(given), rate=given.neighbour_rate)
    yield f"neighbours: {shape.sockets} sockets, {shape.rate:,.0f} announces/s"
    for kind in Kind:
        measure_one = partial(beside, shape=shape, kind=kind, turns=given.rounds)
        found = _in_turns(sources, 1, measure_one)
        results.neighbours += found
        yield from report.neighbours(found)


_RUNS = {
    "throughput": _throughput,
    "equal": _equal,
    "memory": _memory,
    "neighbours": _neighbours,
}


def _shape(given: argparse.Namespace) -> Shape:
    return Shape(given.sockets, given.per_swarm, given.seconds, given.warm_up)


def _in_turns(
    sources: list[Source],
    rounds: int,
    measure_one: Callable[[Server], Coroutine[Any, Any, Result]],
) -> list[Result]:
    """One round of each tracker, again and again: the machine's moods hit all of them."""
    measured = []
    for _ in range(rounds):
        for source in sources:
            with source() as server:
                measured.append(uvloop.run(measure_one(server)))
    return measured


def _half_of_the_slower(rounds: list[Round]) -> float:
    names = {each.tracker: None for each in rounds}
    rates = [
        statistics.median(each.announces_per_s for each in rounds if each.tracker == name)
        for name in names
    ]
    return min(rates, default=0.0) / 2


def sources_of(given: argparse.Namespace) -> list[Source]:
    """Return the trackers to measure.

    Raises:
        LoopbackError: npm's is asked for and not installed.
    """
    first = servers.against(given.against, given.pid) if given.against else servers.ours
    return [first, servers.npm(given.npm)] if given.npm else [first]


def arguments() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)}")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--per-swarm", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured in each round")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=64, help="announces on their way at a time")
    parser.add_argument("--rate", type=float, default=0.0, help="announces a second (equal)")
    parser.add_argument("--neighbour-rate", type=float, default=200.0, help="(neighbours)")
    parser.add_argument("--memory-sockets", type=int, default=10_000, help="(memory)")
    parser.add_argument("--against", metavar="URL", help="measure the tracker that runs there")
    parser.add_argument("--pid", type=int, help="its process, if it can't be found by its port")
    parser.add_argument("--npm", nargs="?", type=Path, const=NPM_PACKAGES, metavar="NODE_MODULES")
    parser.add_argument("--json", action="store_true")
    return parser


def main() -> None:
    """Run the benchmark and print what it found."""
    given = arguments().parse_args()
    if unknown := set(given.modes) - set(MODES):
        sys.exit(f"there is no mode {sorted(unknown)[0]!r}: choose of {', '.join(MODES)}")
    usage.allow_files(given.sockets + OTHER_FILES)
    results = run(sources_of(given), given.modes or list(MODES), given)
    if given.json:
        print(json.dumps(dataclasses.asdict(results)))


if __name__ == "__main__":
    main()
