"""What is assumed of machines that were seen from one of them: rates, NATs, distances.

A node knows its own links and nothing between two others. What it has measured is a bound from
below, for nobody may have wanted more. So every figure that is not in the topology is taken from
the ones that are, by the rules here, and what was taken is told (``Notes``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import cast

from dreamer.protocol.topology import MemberSeen, Topology
from dreamer.simulations.scenario.model import NatKind

MBIT_PER_BYTE_S = 8 / 1e6
LATENCY_MS = 20.0
"""Between machines of which no round trip was measured."""
BEHIND_NAT: NatKind = "port_restricted"
"""What most homes and offices have: two of them reach each other, no stranger reaches either."""


@dataclass
class Notes:
    """What was assumed, for people; each thing once."""

    lines: dict[str, None] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Take a line."""
        self.lines[line] = None


@dataclass(frozen=True)
class Machine:
    """One machine for a scenario. ``latency_ms``: one way to the node that told; None: unknown."""

    name: str
    up_mbit: float
    down_mbit: float
    nat: NatKind
    latency_ms: float | None
    up_limit_mbit: float = 0.0
    down_limit_mbit: float = 0.0


@dataclass(frozen=True)
class Room:
    """All machines: ``us`` told of the others, ``typical`` is what one more would be like."""

    us: Machine
    others: tuple[Machine, ...]
    typical: Machine
    latency_ms: float


def machines(topology: Topology, mbit: float, notes: Notes) -> Room:
    """Return the machines of a room; ``mbit`` is the rate of those of which none was measured."""
    ups, downs = _measured(topology)
    typical_up, typical_down = _median(ups, mbit), _median(downs, mbit)
    if not ups and not downs:
        notes.add(f"no rate was measured yet: every machine has {mbit:g} Mbit/s each way")
    else:
        notes.add("rates are the most that was seen to pass: lines may carry more")
    latencies = [one.link.rtt_s * 500 for one in topology.members if one.link and one.link.rtt_s]
    latency_ms = _median(latencies, LATENCY_MS)
    others = tuple(_machine(one, typical_up, typical_down, notes) for one in topology.members)
    return Room(
        us=_us(topology, typical_up, typical_down),
        others=others,
        typical=Machine("typical", typical_up, typical_down, _usual_nat(others), None),
        latency_ms=latency_ms,
    )


def _measured(topology: Topology) -> tuple[list[float], list[float]]:
    """Return what uplinks and downlinks have shown; what came from a peer went up its line."""
    links = [member.link for member in topology.members if member.link is not None]
    ups = [link.measured.down_bytes_s for link in links] + [topology.node.measured.up_bytes_s]
    downs = [link.measured.up_bytes_s for link in links] + [topology.node.measured.down_bytes_s]
    return [_mbit(rate) for rate in ups if rate], [_mbit(rate) for rate in downs if rate]


def _median(known: Iterable[float], otherwise: float) -> float:
    values = list(known)
    return median(values) if values else otherwise


def _machine(member: MemberSeen, up: float, down: float, notes: Notes) -> Machine:
    link = member.link
    seen = link.measured if link else None
    return Machine(
        name=member.id,
        up_mbit=_mbit(seen.down_bytes_s) if seen and seen.down_bytes_s else up,
        down_mbit=_mbit(seen.up_bytes_s) if seen and seen.up_bytes_s else down,
        nat=_nat(member, notes),
        latency_ms=link.rtt_s * 500 if link and link.rtt_s else None,
    )


def _us(topology: Topology, up: float, down: float) -> Machine:
    node = topology.node
    return Machine(
        name=node.id,
        up_mbit=_mbit(node.measured.up_bytes_s) if node.measured.up_bytes_s else up,
        down_mbit=_mbit(node.measured.down_bytes_s) if node.measured.down_bytes_s else down,
        nat=_our_nat(topology),
        latency_ms=0.0,
        up_limit_mbit=_mbit(node.up_limit_bytes_s or 0.0),
        down_limit_mbit=_mbit(node.down_limit_bytes_s or 0.0),
    )


def _mbit(bytes_s: float) -> float:
    return bytes_s * MBIT_PER_BYTE_S


# A NAT is not seen, only what came of two of them. The rules below give each pair of which one is
# the node that told the lane that it has.


def _nat(member: MemberSeen, notes: Notes) -> NatKind:
    if member.nat != "unknown":
        return cast("NatKind", member.nat)
    notes.add("NATs are guessed from lanes: direct is public, webrtc a cone NAT, relay symmetric")
    lane = (member.link.measured_over or member.link.lane) if member.link else None
    match lane:
        case "webrtc":
            return BEHIND_NAT
        case "relay":
            return "symmetric"
        case _:
            return "public"


def _our_nat(topology: Topology) -> NatKind:
    lanes = {one.link.measured_over or one.link.lane for one in topology.members if one.link}
    # Whoever can be dialled has neither; nothing worse is assumed than explains what it has.
    return BEHIND_NAT if lanes & {"webrtc", "relay"} else "public"


def _usual_nat(others: tuple[Machine, ...]) -> NatKind:
    if not others:
        return "public"
    kinds = [machine.nat for machine in others]
    return max(dict.fromkeys(kinds), key=kinds.count)
