"""The models of one room: their sizes, how much each is wanted, and which version is the newest."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from random import Random

from dreamer.protocol.limits import SHARD_BYTES
from dreamer.simulations.costs.workload import Catalogue, Workload

GB = 10**9
MONTH_S = 30 * 86400.0


@dataclass(frozen=True)
class Version:
    """One version of a room's model; ``rank`` 0 is the most popular."""

    rank: int
    number: int
    size_bytes: int


class Shelf:
    """A room's part of the catalogue: as many models as make up its part of the size."""

    def __init__(self, workload: Workload, room: int, rng: Random, until_s: float) -> None:
        part = workload.catalogue.size_tb * 1000 * GB * workload.members(room) / workload.users
        self.sizes = _sizes(workload.catalogue, part, rng)
        weights = [(rank + 1) ** -workload.catalogue.zipf for rank in range(len(self.sizes))]
        self._cumulative = list(itertools.accumulate(weights))
        self.released_s = self._releases(workload.catalogue, rng, until_s)

    def draw(self, rng: Random) -> int:
        """Return the rank of a model that somebody wants for the first time."""
        at = rng.random() * self._cumulative[-1]
        return min(bisect.bisect_right(self._cumulative, at), len(self.sizes) - 1)

    def newest(self, rank: int, now: float) -> Version:
        """Return the version of a model that is current."""
        released = self.released_s.get(rank, [])
        return Version(rank, bisect.bisect_right(released, now), self.sizes[rank])

    def _releases(
        self, catalogue: Catalogue, rng: Random, until_s: float
    ) -> dict[int, list[float]]:
        """Draw when new versions come out: what is wanted more is worked at more."""
        released: dict[int, list[float]] = {}
        if not catalogue.versions_per_room_month:
            return released
        per_s = catalogue.versions_per_room_month / MONTH_S
        at = rng.expovariate(per_s)
        while at < until_s:
            released.setdefault(self.draw(rng), []).append(at)
            at += rng.expovariate(per_s)
        return released


def _sizes(catalogue: Catalogue, part_bytes: float, rng: Random) -> list[int]:
    """Draw sizes up to a room's part of the catalogue; at least one model."""
    sizes: list[int] = []
    total = 0
    while total < part_bytes or not sizes:
        drawn = rng.lognormvariate(math.log(catalogue.median_gb), catalogue.sigma)
        size = max(1, round(min(drawn, catalogue.most_gb) * GB / SHARD_BYTES)) * SHARD_BYTES
        sizes.append(size)
        total += size
    return sizes
