"""What one process knows of the others: who lives, and what each has said of a swarm lately.

No I/O and no clock; ``now`` is of any steady clock, in seconds. What a process told counts only
while it lives, so a killed one vanishes from every swarm at once. Its downloads stay: they
happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    CLUSTER_CACHE_MAX_SWARMS,
    CLUSTER_CACHE_S,
    CLUSTER_MAX_PROCESSES,
    CLUSTER_SILENCE_S,
)
from dreamer.tracker.cluster.bus import Seen
from dreamer.tracker.public.elsewhere import ProcessId
from dreamer.tracker.public.wire import Counts


class _Entry(NamedTuple):
    learnt: float
    told: Mapping[ProcessId, Counts]


class View:
    """The others, as ``me`` sees them."""

    def __init__(self, me: ProcessId) -> None:
        self._me = me
        # Looked through, not looked up: in a cluster there are few.
        self._alive: tuple[ProcessId, ...] = ()
        self._swarms: dict[InfoHash, _Entry] = {}

    @property
    def alive(self) -> Sequence[ProcessId]:
        """The other processes that live."""
        return self._alive

    def saw(self, seen: Iterable[Seen]) -> bool:
        """Take in the list of processes; return whether it says that this one can be reached."""
        alive = [
            each.process for each in seen if each.listening and each.silent_s <= CLUSTER_SILENCE_S
        ]
        others = [each for each in alive if each != self._me]
        self._alive = tuple(others[:CLUSTER_MAX_PROCESSES])
        return self._me in alive

    def learn(self, info_hash: InfoHash, told: Mapping[ProcessId, Counts], now: float) -> None:
        """Take in what the processes told of a swarm."""
        self._swarms.pop(info_hash, None)
        self._swarms[info_hash] = _Entry(now, told)
        self._expire(now)

    def knows(self, info_hash: InfoHash, now: float) -> bool:
        """Return whether what is known of a swarm is fresh enough to go by."""
        entry = self._swarms.get(info_hash)
        return entry is not None and now - entry.learnt <= CLUSTER_CACHE_S

    def others(self, info_hash: InfoHash) -> dict[ProcessId, Counts]:
        """Return what the living processes, without this one, told of a swarm."""
        return {process: told for process, told in self._told(info_hash) if process in self._alive}

    def total(self, info_hash: InfoHash, here: Counts) -> Counts:
        """Return a swarm's counts over all processes; ``here`` are this one's."""
        complete, incomplete, downloaded = here.complete, here.incomplete, here.downloaded
        for process, told in self._told(info_hash):
            downloaded += told.downloaded
            if process in self._alive:
                complete += told.complete
                incomplete += told.incomplete
        return Counts(complete, incomplete, downloaded)

    def clear(self) -> None:
        """Forget everything: this process is alone."""
        self._alive = ()
        self._swarms.clear()

    def _told(self, info_hash: InfoHash) -> Iterator[tuple[ProcessId, Counts]]:
        entry = self._swarms.get(info_hash)
        for process, told in entry.told.items() if entry else ():
            if process != self._me:
                yield process, told

    def _expire(self, now: float) -> None:
        # Learnt one after the other, the oldest is always the first.
        while self._swarms:
            oldest = next(iter(self._swarms))
            fresh = now - self._swarms[oldest].learnt <= CLUSTER_CACHE_S
            if fresh and len(self._swarms) <= CLUSTER_CACHE_MAX_SWARMS:
                return
            del self._swarms[oldest]
