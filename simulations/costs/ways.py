"""The same month three ways: everything from S3, with caches, with peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dreamer.protocol.limits import ORIGIN_PART_BYTES
from dreamer.simulations.costs.bill import Traffic
from dreamer.simulations.costs.month import Load, RoomMonth, live
from dreamer.simulations.costs.swarms import Swarms
from dreamer.simulations.costs.workload import Workload

REPORT_EVERY = 10
"""So many rooms between two lines of progress: about ten seconds."""


@dataclass(frozen=True)
class Ways:
    """Traffic of the rooms that were simulated: ``everything`` asks the origin at every load,
    ``caches`` only for what a machine doesn't hold, ``peers`` first those in the room who do.
    ``least``: what even peers that reach each other at once would leave to the origin, one copy
    of what nobody had who was there."""

    rooms: int
    everything: Traffic
    caches: Traffic
    peers: Traffic
    least: Traffic
    swarms: int
    simulated: int
    """So many worlds the engine ran: equal ones once."""
    trace_hash: str


def three_ways(
    workload: Workload,
    rooms: Sequence[int],
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> Ways:
    """Return the month of some rooms, three ways."""
    swarms = Swarms(workload.machines, seed)
    everything = caches = peers = least = Traffic()
    count = 0
    for done, room in enumerate(rooms):
        if done % REPORT_EVERY == 0:
            report(f"room {done + 1} of {len(rooms)}")
        month = live(workload, room, seed)
        count += len(month.swarms)
        in_cloud = _in_cloud(workload, room)
        everything += _everything(month, swarms, in_cloud)
        caches += _caches(month, swarms, in_cloud)
        peers += _peers(month, swarms, in_cloud)
        least += _least(month, in_cloud)
    return Ways(
        len(rooms), everything, caches, peers, least, count, swarms.simulated, swarms.trace_hash
    )


def _everything(month: RoomMonth, swarms: Swarms, in_cloud: bool) -> Traffic:
    return _whole(month, [_alone(load, swarms) for load in month.loads], in_cloud)


def _caches(month: RoomMonth, swarms: Swarms, in_cloud: bool) -> Traffic:
    moved = [_alone(load, swarms) for load in month.loads if not load.cached]
    return _whole(month, [*moved, _answered(month)], in_cloud)


def _peers(month: RoomMonth, swarms: Swarms, in_cloud: bool) -> Traffic:
    moved = [swarms.together(swarm) for swarm in month.swarms]
    return _whole(month, [*moved, _answered(month)], in_cloud)


def _least(month: RoomMonth, in_cloud: bool) -> Traffic:
    unheld = [swarm.version.size_bytes for swarm in month.swarms if not swarm.seeds]
    return _whole(month, [Traffic(origin_bytes=sum(unheld))], in_cloud)


def _alone(load: Load, swarms: Swarms) -> Traffic:
    return swarms.alone(load.version.size_bytes, load.place)


def _answered(month: RoomMonth) -> Traffic:
    """Return what caches answered: nothing moves."""
    cached = [load.version.size_bytes for load in month.loads if load.cached]
    return Traffic(cached_bytes=sum(cached))


def _whole(month: RoomMonth, parts: Sequence[Traffic], in_cloud: bool) -> Traffic:
    """Sum up a room's month, with the uploads that put its new versions into the bucket."""
    puts = sum(-(-size // ORIGIN_PART_BYTES) for size in month.released_bytes)
    total = sum(parts, Traffic(loads=len(month.loads), puts=puts))
    return replace(total, cross_region_bytes=total.origin_bytes) if in_cloud else total


def _in_cloud(workload: Workload, room: int) -> bool:
    return room < round(workload.cloud_room_share * workload.rooms)
