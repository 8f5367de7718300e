"""The bench's figures as sentences for people; every ratio is of medians of the same session."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dreamer.simulations.bench.tracker_load import usage
from dreamer.simulations.bench.tracker_load.neighbours import Beside
from dreamer.simulations.bench.tracker_load.rounds import Footprint, Round

Measured = TypeVar("Measured", Round, Footprint)


def throughput(rounds: Sequence[Round]) -> Iterator[str]:
    """Say what each round did, and how the second tracker compares with the first."""
    for each in rounds:
        yield (
            f"{each.tracker}: {each.announces_per_s:,.0f} announces/s, "
            f"{each.offers_per_s:,.0f} offers/s; forwarding p50 {each.latency.p50_ms:.2f} ms, "
            f"p99 {each.latency.p99_ms:.2f} ms; CPU of tracker {_share(each.server_cpu, each)} "
            f"({_in_kernel(each.server_cpu)} of it in the kernel), "
            f"of generator {_share(each.generator_cpu, each)}; "
            f"{each.announces_per_cpu_s:,.0f} announces/CPU-s; "
            f"{each.server_memory.rss_mib:.0f} MiB resident; {_kept(each)}"
        )
    yield from _compared(
        rounds,
        ("announces per CPU-second", lambda each: each.announces_per_cpu_s),
        ("announces per second", lambda each: each.announces_per_s),
        ("p50 of forwarding", lambda each: each.latency.p50_ms),
        ("p99 of forwarding", lambda each: each.latency.p99_ms),
    )


def memory(footprints: Sequence[Footprint]) -> Iterator[str]:
    """Say what memory each tracker took, stage by stage."""
    for each in footprints:
        stages = {
            "alone": each.alone,
            "connected": each.connected,
            "joined": each.joined,
            "after a round of announces": each.announced,
            "after a burst": each.burst,
            "rested": each.rested,
        }
        told = ", ".join(f"{stage} {at.rss_mib:.0f}" for stage, at in stages.items())
        yield (
            f"{each.tracker}: MiB resident with {each.sockets:,} sockets: {told}; "
            f"per 1,000 peers {each.mib_per_thousand:.2f} after a round, "
            f"{each.mib_per_thousand_rested:.2f} after a burst and a rest"
        )
    yield from _compared(
        footprints,
        ("memory per peer after a round", lambda each: each.mib_per_thousand),
        ("memory per peer after a burst and a rest", lambda each: each.mib_per_thousand_rested),
    )


def neighbours(found: Sequence[Beside]) -> Iterator[str]:
    """Say what each kind of bad neighbour cost the others."""
    for each in found:
        turns = "; ".join(
            f"p50 {turn.alone.p50_ms:.2f} → {turn.beside.p50_ms:.2f} ms, "
            f"p99 {turn.alone.p99_ms:.2f} → {turn.beside.p99_ms:.2f} ms"
            for turn in each.turns
        )
        yield (
            f"{each.tracker}, beside one that {each.kind}: p50 ×{each.p50_ratio:.2f}, "
            f"p99 ×{each.p99_ratio:.2f} ({turns})"
        )


def _share(used: usage.Cpu, each: Round) -> str:
    return f"{used.total_s / each.seconds:.0%}"


def _in_kernel(used: usage.Cpu) -> str:
    return f"{used.system_s / used.total_s:.0%}" if used.total_s else "none"


def _kept(each: Round) -> str:
    if each.balanced:
        return "every offer and answer arrived once"
    return f"NOT everything arrived: {each.books}"


def _compared(
    measured: Sequence[Measured], *figures: tuple[str, Callable[[Measured], float]]
) -> Iterator[str]:
    names = list(dict.fromkeys(each.tracker for each in measured))
    if len(names) != 2:
        return
    for what, figure in figures:
        ours, theirs = (
            statistics.median(figure(each) for each in measured if each.tracker == name)
            for name in names
        )
        if theirs:
            yield f"{what}: {names[0]} / {names[1]} = {ours / theirs:.2f}"
