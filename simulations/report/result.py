"""The outcome of one run, in plain values: what pictures, tables and comparisons are made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NodeResult:
    """One machine. Times in virtual seconds; bytes of verified blocks unless said otherwise.

    ``pulled_s`` maps a model to how long its pull took, from its beginning; ``unfinished`` names
    those that were not whole at the end, and why, if the planner said. ``stayed``: it was there
    from its first wish to the end of the run.
    """

    name: str
    group: str
    up_bytes: int
    down_bytes: int
    pulled_s: dict[str, float]
    finished_at_s: dict[str, float]
    unfinished: dict[str, str]
    stayed: bool
    honest: bool = True


@dataclass(frozen=True)
class Traffic:
    """Bytes that arrived by lane in ``step_s`` seconds each: ``by_lane[lane][i]`` from
    ``i * step_s`` on. Lanes as ``protocol.swarm.vocabulary.Lane`` names them."""

    step_s: float
    by_lane: dict[str, list[int]]


@dataclass(frozen=True)
class OriginUse:
    """What the origin was asked for. ``copies``: bytes over the size of all models pulled."""

    bytes: int = 0
    requests: int = 0
    refused: int = 0
    copies: float = 0.0


@dataclass(frozen=True)
class RelayUse:
    """What passed TURN relays: every byte, counted once; ``budget_bytes`` of all nodes together."""

    bytes: int = 0
    budget_bytes: int = 0
    over_time: list[int] = field(default_factory=list)
    """Bytes so far, at the end of each step of the run's ``Traffic``."""


@dataclass(frozen=True)
class Engine:
    """What the run cost to compute, and what it was: none of it depends on chance but the trace."""

    trace_hash: str
    events: int
    wall_s: float
    peak_rss_mib: float
    blocks_moved: int


@dataclass(frozen=True)
class RunResult:
    """One run. ``bound_s`` is the least time in which the last machine can have its model: the
    most of size ÷ slowest download, size ÷ what all that hold it at the start can send, and
    all bytes ÷ all uploads together."""

    scenario: str
    about: str
    seed: int
    nodes: int
    replay: str
    ended_at_s: float
    bound_s: float
    last_s: float
    median_s: float
    each: list[NodeResult]
    traffic: Traffic
    origin: OriginUse
    relay: RelayUse
    blamed: int
    bad_blocks_kept: int
    wasted_bytes: int
    """Bytes that arrived and were not needed: second copies, and blocks that were wrong."""
    violations: list[str]
    """Invariants that did not hold, in words; empty in a good run."""
    missed: list[str]
    """Expected figures that were not reached, in words."""
    engine: Engine
    checks: int = 0
    """How often invariants were checked. 0: never, and no violations say nothing."""
    expected: int = 0
    """How many figures were expected of the run; 0: none were, and none can be missed."""
