"""A room that was seen, with changes, as a scenario for the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.limits import MIB
from dreamer.protocol.topology import ModelSeen, Topology
from dreamer.simulations.scenario.model import (
    Group,
    Line,
    ModelSpec,
    Network,
    OriginSpec,
    Relay,
    Scenario,
    Wish,
)
from dreamer.simulations.whatif.machines import Machine, Notes, Room
from dreamer.simulations.whatif.question import Changes

GB = 10**9
HERE = "here"
ELSEWHERE = "elsewhere"
"""The region of machines of which no round trip is known: the network's latency to everybody."""
BLOCKS_WANTED = 4096
"""Blocks are as fine as a room of dozens needs for a good answer in seconds."""


@dataclass(frozen=True)
class Seen:
    """A topology, and what is assumed of its machines."""

    topology: Topology
    room: Room


def chosen_model(topology: Topology, ref: str | None) -> ModelSeen:
    """Return the model that is to be pulled.

    Raises:
        NoMatchError: the room has none, or none that is called so.
        InputError: several are.
    """
    models = topology.models
    if not models:
        raise NoMatchError("the room has no model: push one, and export the topology again")
    if ref is None:
        return models[0]
    found = [one for one in models if one.id.startswith(ref) or one.name == ref]
    if not found:
        names = ", ".join(f"{one.id} {one.name}" for one in models[:8])
        raise NoMatchError(f"the room has no model {ref!r:.80}; it has: {names}")
    if len(found) > 1 and found[0].id != ref:
        ids = ", ".join(one.id for one in found[:8])
        raise InputError(f"{ref!r:.80} names several models: say which ({ids})")
    return found[0]


def scenario_of(
    seen: Seen, model: ModelSeen, label: str, changes: Changes, notes: Notes
) -> Scenario:
    """Return the scenario in which everybody who lacks a model pulls it at once.

    Raises:
        InputError: the room is empty, or nobody has the model.
    """
    topology = seen.topology
    if not topology.members and not changes.newcomers and not changes.more_seeders:
        raise InputError(
            "nobody else is in the room: start the other nodes and export it again, or say how "
            "many come with --newcomers"
        )
    groups = _groups(seen, model, changes, notes)
    if not any(group.holds for group in groups) and not topology.origin:
        raise InputError(
            f"nobody in the room holds {model.id} {model.name}, and it has no origin: "
            "export the topology while a node that has it is there, or add --more-seeders 1"
        )
    return Scenario(
        name="whatif",
        about=f"{model.name} ({model.id}) in room {topology.room}: {label}",
        models=(ModelSpec(model.name, model.size_bytes / GB, max(1, model.files)),),
        groups=groups,
        block_mib=_block_mib(model.size_bytes),
        network=_network(seen.room),
        origin=OriginSpec(holds=(model.name,)) if topology.origin else None,
        relays=(Relay(),) if _relayed(groups) else (),
    )


def _block_mib(size_bytes: int) -> int:
    block = 1
    while block * MIB * BLOCKS_WANTED < size_bytes:
        block *= 2
    return block


def _groups(seen: Seen, model: ModelSeen, changes: Changes, notes: Notes) -> tuple[Group, ...]:
    topology, room = seen.topology, seen.room
    disk_gb = changes.cache_gb or 0.0
    groups = [_group(room.us, model, holds=_we_hold(topology, model, changes), disk_gb=disk_gb)]
    # Who is fetching it begins anew here; where nobody knows who that is, it is nobody.
    holders = model.whole or model.sharers
    groups += [_group(one, model, holds=one.name in holders) for one in room.others]
    if changes.more_seeders:
        groups.append(_more("seeder", room.typical, model, changes.more_seeders, holds=True))
    newcomers = changes.newcomers
    if not newcomers and not any(group.pulls for group in groups):
        notes.add("everybody has the model: one newcomer pulls it (ask for more by --newcomers)")
        newcomers = 1
    if newcomers:
        groups.append(_more("newcomer", room.typical, model, newcomers, holds=False))
    if model.sharers and not model.whole:
        notes.add("members that share the model are taken to have all of it")
    budget = _budget_mib(topology, changes)
    return tuple(_with_budget(group, budget) for group in groups)


def _we_hold(topology: Topology, model: ModelSeen, changes: Changes) -> bool:
    """Return whether the node that told has the model, with a cache of the size that is asked."""
    if changes.cache_gb is None:
        return model.here_bytes >= model.size_bytes
    left = changes.cache_gb * GB
    # The newest first, as far as they fit: what it would have kept of all that it wanted.
    for one in topology.models:
        if one.size_bytes <= left:
            if one is model:
                return True
            left -= one.size_bytes
    return False


def _group(machine: Machine, model: ModelSeen, *, holds: bool, disk_gb: float = 0.0) -> Group:
    return Group(
        name=machine.name,
        count=1,
        up_mbit=machine.up_mbit,
        down_mbit=machine.down_mbit,
        region=_region(machine),
        nat=machine.nat,
        holds=(model.name,) if holds else (),
        pulls=() if holds else (Wish(model.name),),
        up_limit_mbit=machine.up_limit_mbit,
        down_limit_mbit=machine.down_limit_mbit,
        disk_gb=disk_gb,
    )


def _more(name: str, typical: Machine, model: ModelSeen, count: int, *, holds: bool) -> Group:
    one = _group(typical, model, holds=holds)
    return Group(**{**vars(one), "name": name, "count": count, "region": ELSEWHERE})


def _region(machine: Machine) -> str:
    if machine.latency_ms is None:
        return ELSEWHERE
    return HERE if machine.latency_ms == 0.0 else machine.name


def _budget_mib(topology: Topology, changes: Changes) -> int:
    if changes.relay_budget_mib is not None:
        return changes.relay_budget_mib
    return topology.node.relay_budget.per_peer_bytes // MIB


def _with_budget(group: Group, budget_mib: int) -> Group:
    # To a scenario 0 is no bound at all, to a person it is none to spare.
    return Group(**{**vars(group), "relay_budget_mib": max(1, budget_mib)})


def _network(room: Room) -> Network:
    lines = tuple(
        Line(HERE, one.name, one.latency_ms) for one in room.others if one.latency_ms is not None
    )
    return Network(latency_ms=room.latency_ms, lines=lines)


def _relayed(groups: tuple[Group, ...]) -> bool:
    return any(group.nat in ("symmetric", "no_udp") for group in groups)
