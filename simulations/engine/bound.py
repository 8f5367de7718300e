"""The least time in which a crowd can have what it wants, whatever anybody decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.world import World

_BYTES_PER_MBIT = 125_000.0

Crowd = dict[int, list[str]]
"""What machines wish for in the same span of time: names of models by the machine's index."""


def bound_s(world: World) -> float:
    """Return the least time in which the last machine of any crowd can be done; 0: nobody pulls.

    It says much only of machines that begin at about the same time: a crowd is counted as if all
    of it began at once, though the span may be long.
    """
    return max((_bound_s(world, crowd) for crowd in _crowds(world)), default=0.0)


def _crowds(world: World) -> list[Crowd]:
    found: dict[tuple[float, float], Crowd] = {}
    for node in world.nodes:
        for wish in node.group.pulls:
            if wish.model not in node.group.holds:
                crowd = found.setdefault((wish.from_s, wish.to_s), {})
                crowd.setdefault(node.index, []).append(wish.model)
    return list(found.values())


def _bound_s(world: World, crowd: Crowd) -> float:
    """Return the most of three: the slowest download, sending one copy, sending all copies."""
    models, nodes = world.models, world.nodes
    wanted = {
        index: sum(models[name].size_bytes for name in names) for index, names in crowd.items()
    }
    once = list(dict.fromkeys(name for names in crowd.values() for name in names))
    given = _given_bytes_s(world, once)
    if not given:
        return 0.0
    received = max(size / _down(nodes[index]) for index, size in wanted.items())
    first = sum(models[name].size_bytes for name in once) / given
    # Whoever fetches gives what it has meanwhile; who holds all of it has been counted.
    passed_on = sum(_up(nodes[index]) for index in crowd if not _holds(nodes[index], once))
    return max(received, first, sum(wanted.values()) / (given + passed_on))


def _given_bytes_s(world: World, names: list[str]) -> float:
    """Return what all can send together that hold any of some models from the beginning."""
    given = sum(_up(node) for node in world.nodes if _holds(node, names))
    origin = world.origin
    if origin is not None and any(origin.holds(world.models[name]) for name in names):
        given += origin.spec.up_mbit * _BYTES_PER_MBIT
    return given


def _holds(node: Node, names: list[str]) -> bool:
    return any(name in node.group.holds for name in names)


def _up(node: Node) -> float:
    return node.group.up_mbit * _BYTES_PER_MBIT


def _down(node: Node) -> float:
    return node.group.down_mbit * _BYTES_PER_MBIT
