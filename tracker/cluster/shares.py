"""Which offers stay here and which go elsewhere.

Where this process has few peers of a swarm, they are drawn as if all were in one place. Where it
has plenty, most offers stay: each one that leaves costs two processes and the bus, and its answer
again. One in five goes far all the same, so every announce of a peer that makes five offers ties
the parts of a swarm together, and what sharing costs doesn't grow with the number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from dreamer.protocol.tracker_limits import CLUSTER_FAR_SHARE, CLUSTER_PLENTY_HERE
from dreamer.tracker.public.elsewhere import ProcessId
from dreamer.tracker.public.wire import Counts


def candidates(counts: Counts, seeding: bool) -> int:
    """Return how many of a swarm's peers a peer could be given: a seeder has no use for seeders."""
    return counts.incomplete if seeding else counts.complete + counts.incomplete


def share_out(
    offers: int, here: int, others: Mapping[ProcessId, int], rng: Random
) -> tuple[int, dict[ProcessId, int]]:
    """Return how many offers are for peers here, and how many for those of each other process.

    Peers are drawn without putting back, so no process is asked for more peers than it said it
    has. O(offers × processes); ``here`` and ``others`` are numbers of candidates.
    """
    far = sum(others.values())
    leaving = min(far, _leaving(offers, here, far, rng))
    shares: dict[ProcessId, int] = {}
    for ticket in rng.sample(range(far), leaving):
        holder = _holder(ticket, others)
        shares[holder] = shares.get(holder, 0) + 1
    return min(here, offers - leaving), shares


def _leaving(offers: int, here: int, far: int, rng: Random) -> int:
    if not far:
        return 0
    total = here + far
    if here < CLUSTER_PLENTY_HERE:
        return sum(each >= here for each in rng.sample(range(total), min(offers, total)))
    share = min(CLUSTER_FAR_SHARE, far / total)
    return sum(rng.random() < share for _ in range(offers))


def _holder(place: int, others: Mapping[ProcessId, int]) -> ProcessId:
    for process, count in others.items():
        if place < count:
            return process
        place -= count
    raise AssertionError("no ticket is beyond the last process")
