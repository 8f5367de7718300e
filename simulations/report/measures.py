"""The figures of a run, each with its unit and which way is better: tables, pages and comparisons
are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.report import quantities
from dreamer.simulations.report.pulls import Pull, honest, pulls
from dreamer.simulations.report.result import RunResult, Traffic

_ROUNDED = 0.99

Unit = Literal["s", "bytes", "share", "times", "count", "copies", "mib"]
Better = Literal["less", "more"]


@dataclass(frozen=True)
class Measure:
    """One figure. ``value``: None where the run has no such figure.

    ``scales``: it grows with the number of machines or the size of models, so that it says nothing
    of better or worse between runs of different sizes. ``noisy``: two runs of one seed differ in
    it, for it was measured by the clock on the wall.
    """

    section: str
    name: str
    value: float | None
    unit: Unit
    better: Better | None = None
    note: str = ""
    scales: bool = False
    noisy: bool = False

    @property
    def text(self) -> str:
        """The value as people read it; a dash for none."""
        return "–" if self.value is None else said(self.value, self.unit)


def said(value: float, unit: Unit) -> str:
    """Return a value of a unit as people read it."""
    match unit:
        case "s":
            return quantities.duration(value)
        case "bytes":
            return quantities.size(value)
        case "share":
            return quantities.share(value)
        case "times":
            return quantities.times(value)
        case "copies":
            return f"{value:.3f}"
        case "mib":
            return f"{value:,.0f} MiB"
        case "count":
            return f"{value:,.0f}"


def measures(result: RunResult) -> list[Measure]:
    """Return all figures of a run, in the order in which they are best read."""
    return [
        *_completion(result),
        *_lanes(result.traffic),
        *_sources(result),
        *_faults(result),
        *_engine(result),
    ]


def lane_totals(traffic: Traffic) -> dict[str, int]:
    """Return bytes by lane, cheapest lane first; lanes that are not the protocol's come last."""
    known = [lane.value for lane in Lane]
    names = [name for name in known if name in traffic.by_lane]
    names += [name for name in traffic.by_lane if name not in known]
    return {name: sum(traffic.by_lane[name]) for name in names}


def _completion(result: RunResult) -> Iterator[Measure]:
    section = "Completion"
    every = list(pulls(honest(result)))
    done = sum(pull.seconds is not None for pull in every)
    bound = result.bound_s if result.bound_s > 0 else None
    yield Measure(section, "machines", result.nodes, "count", note=_machines_note(result))
    yield Measure(
        section,
        "pulls finished",
        done / len(every) if every else None,
        "share",
        "more",
        note=_finished_note(every, done),
    )
    yield Measure(section, "lower bound", bound, "s", scales=True)
    counted = [one for one in every if one.node.stayed and one.seconds is not None]
    left_out = done - len(counted)
    note = f"of the {len(counted):,} pulls of machines that stayed" if left_out else ""
    for name, seconds in (("median", result.median_s), ("last", result.last_s)):
        # A run in which nobody finished has no such moment, whatever number stands for it.
        value = seconds if counted else None
        yield Measure(section, f"{name} completion", value, "s", "less", note, scales=True)
        over = value / bound if bound and value is not None else None
        yield _beside_bound(name, over)
    if left_out:
        slowest = max(one.seconds for one in every if one.seconds is not None)
        yield Measure(section, "slowest pull of all", slowest, "s", "less", scales=True)


def _beside_bound(name: str, over: float | None) -> Measure:
    title, note = f"{name} ÷ lower bound", ""
    # The bound is that of all pulls; where most machines have left, the few that count may have
    # wanted less. What is rounded is not yet earlier.
    if name == "last" and over is not None and over < _ROUNDED:
        over, note = None, "those who stayed wanted less than the bound is of"
    return Measure("Completion", title, over, "times", "less", note)


def _machines_note(result: RunResult) -> str:
    away = sum(not node.stayed for node in result.each)
    bad = sum(not node.honest for node in result.each)
    parts = [f"{away:,} did not stay to the end"] if away else []
    parts += [f"{bad:,} misbehaved"] if bad else []
    return ", ".join(parts)


def _finished_note(every: list[Pull], done: int) -> str:
    if not every:
        return "nobody wanted anything"
    left = sum(pull.seconds is None and not pull.node.stayed for pull in every)
    note = f"{done:,} of {len(every):,}"
    return f"{note}; {left:,} were of machines that left" if left else note


def _lanes(traffic: Traffic) -> Iterator[Measure]:
    totals = lane_totals(traffic)
    whole = sum(totals.values())
    for lane, count in totals.items():
        if not count:
            continue
        note = f"{quantities.share(count / whole)} of what arrived"
        yield Measure("Bytes by lane", lane, count, "bytes", note=note, scales=True)


def _sources(result: RunResult) -> Iterator[Measure]:
    section = "Origin and relays"
    origin, relay = result.origin, result.relay
    yield Measure(section, "origin copies", origin.copies, "copies", "less")
    yield Measure(section, "origin bytes", origin.bytes, "bytes", "less", scales=True)
    refused = f"{origin.refused:,} refused" if origin.refused else ""
    yield Measure(
        section, "origin requests", origin.requests, "count", "less", note=refused, scales=True
    )
    budget = relay.budget_bytes
    note = f"of a budget of {quantities.size(budget)}" if budget else ""
    yield Measure(section, "relay bytes", relay.bytes, "bytes", "less", note=note, scales=True)
    if budget:
        yield Measure(section, "relay budget used", relay.bytes / budget, "share", "less")


def _faults(result: RunResult) -> Iterator[Measure]:
    section = "Waste and faults"
    arrived = sum(lane_totals(result.traffic).values())
    part = result.wasted_bytes / arrived if arrived else None
    yield Measure(section, "wasted bytes", result.wasted_bytes, "bytes", "less", scales=True)
    yield Measure(section, "wasted share", part, "share", "less")
    yield Measure(section, "blamed", result.blamed, "count", note="sources caught with bad blocks")
    yield Measure(section, "bad blocks kept", result.bad_blocks_kept, "count", "less")
    broken, missed = len(result.violations), len(result.missed)
    yield Measure(section, "invariants broken", broken, "count", "less")
    yield Measure(section, "expected figures missed", missed, "count", "less")


def _engine(result: RunResult) -> Iterator[Measure]:
    section, engine = "Engine", result.engine
    yield Measure(section, "virtual time", result.ended_at_s, "s", scales=True)
    yield Measure(section, "events", engine.events, "count", scales=True)
    yield Measure(section, "blocks moved", engine.blocks_moved, "count", scales=True)
    rate = engine.events / engine.wall_s if engine.wall_s > 0 else 0.0
    note = f"{rate:,.0f} events/s" if rate else ""
    yield Measure(section, "wall time", engine.wall_s, "s", "less", note, scales=True, noisy=True)
    yield Measure(
        section, "peak memory", engine.peak_rss_mib, "mib", "less", scales=True, noisy=True
    )
