"""Swarms of a room's month as scenarios, run by the engine: the daemon's planner moves every block.

Machines that wait for nothing and nobody need not be simulated between swarms, so a month is some
thousands of small worlds, not one large one. Equal ones are run once: what a machine alone fetches
from the origin depends on the model's size and its line, not on the day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from dreamer.protocol.limits import SHARD_BYTES
from dreamer.simulations.costs.bill import GB, Traffic
from dreamer.simulations.costs.month import Place, Swarm
from dreamer.simulations.costs.workload import Machines
from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.scenario.model import Group, ModelSpec, OriginSpec, Relay, Scenario, Wish

MODEL = "model"
UNTIL_S = 24 * 3600.0
MIB = 1 << 20


@dataclass(frozen=True)
class _Ran:
    traffic: Traffic
    trace: bytes


class Swarms:
    """Runs swarms with the engine. ``trace_hash`` names all of them so far, in order."""

    def __init__(self, machines: Machines, seed: int) -> None:
        self._machines = machines
        self._seed = seed
        self._ran: dict[Scenario, _Ran] = {}
        self._sum = blake2b(digest_size=16)
        self.simulated = 0

    @property
    def trace_hash(self) -> str:
        """32 hex digits."""
        return self._sum.hexdigest()

    def alone(self, size_bytes: int, place: Place) -> Traffic:
        """Return what a pull moves that asks nobody but the origin."""
        group = replace(self._group("alone", place), pulls=(Wish(MODEL),), uses_peers=False)
        # Without peers a NAT decides nothing: one world for all of them.
        return self._run(_scenario(size_bytes, [replace(group, nat="public")]))

    def together(self, swarm: Swarm) -> Traffic:
        """Return what the pulls of a swarm move between its machines and the origin."""
        seeds = [self._seed_group(number, place) for number, place in enumerate(swarm.seeds)]
        pulls = [self._pull_group(number, place) for number, place in enumerate(swarm.pulls)]
        return self._run(_scenario(swarm.version.size_bytes, [*seeds, *pulls]))

    def _seed_group(self, number: int, place: Place) -> Group:
        goes_s = place.goes_s if place.goes_s is not None and place.goes_s < UNTIL_S else 0.0
        group = self._group(f"seed{number}", place)
        return replace(group, holds=(MODEL,), leaves_at_s=goes_s)

    def _pull_group(self, number: int, place: Place) -> Group:
        wish = Wish(MODEL, place.from_s, place.from_s)
        return replace(self._group(f"pull{number}", place), pulls=(wish,))

    def _group(self, name: str, place: Place) -> Group:
        own = self._machines
        return Group(
            name=name,
            count=1,
            up_mbit=own.home_up_mbit if place.at_home else own.office_up_mbit,
            down_mbit=own.home_down_mbit if place.at_home else own.office_down_mbit,
            nat=place.home_nat if place.at_home else own.office_nat,
            relay_budget_mib=own.relay_budget_mib,
        )

    def _run(self, scenario: Scenario) -> Traffic:
        ran = self._ran.get(scenario)
        if ran is None:
            result = simulate(scenario, self._seed)
            self.simulated += 1
            trace = bytes.fromhex(result.engine.trace_hash)
            ran = self._ran[scenario] = _Ran(_traffic(result), trace)
        self._sum.update(ran.trace)
        return ran.traffic


def _scenario(size_bytes: int, groups: Sequence[Group]) -> Scenario:
    return Scenario(
        name="costs",
        about="pulls of one model in one room",
        models=(ModelSpec(MODEL, (size_bytes + 0.5) / GB),),
        groups=tuple(groups),
        until_s=UNTIL_S,
        block_mib=SHARD_BYTES // MIB,
        origin=OriginSpec(holds=(MODEL,)),
        relays=(Relay(),),
    )


def _traffic(result: RunResult) -> Traffic:
    arrived = {lane: sum(steps) for lane, steps in result.traffic.by_lane.items()}
    return Traffic(
        pulls=sum(len(node.pulled_s) + len(node.unfinished) for node in result.each),
        origin_bytes=result.origin.bytes,
        peer_bytes=sum(arrived.values()) - arrived["origin"],
        relay_bytes=result.relay.bytes,
        gets=result.origin.requests,
        unfinished=sum(len(node.unfinished) for node in result.each),
    )
