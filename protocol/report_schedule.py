"""When a node writes into its room's registry what it holds and what it has moved.

A report is one change of the one document that all members share, so reports are made rarely, and
the more so the larger the room. Every write has all members read the document anew: with N members
that each write once in T seconds, a document of D bytes is read N times N/T times a second. T is
chosen so that this stays below a named rate, and is never less than some minutes:

    T = max(REPORT_MIN_INTERVAL_S, N² · D / REPORT_READ_BYTES_PER_S)

News of what is held here is worth more than a sum of bytes, so it may come sooner: after a moment
in which more such news may come, at a time of its own for each node, since a crowd that pulled a
model together has news together; but not sooner than a tenth of T after the report before it.

A report that others' writes kept from being made is put off, twice as long each time. Nothing is
written that was written before. Feed events with ``now`` (any steady seconds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamer.protocol.cache_limits import (
    REPORT_CACHED_SOONER,
    REPORT_DEBOUNCE_S,
    REPORT_MIN_INTERVAL_S,
    REPORT_READ_BYTES_PER_S,
    REPORT_RETRY_MAX_S,
    REPORT_SPREAD_S,
    REPORT_SPREAD_S_PER_MEMBER,
)

if TYPE_CHECKING:
    from random import Random

NEVER = float("inf")


@dataclass(frozen=True)
class RoomSize:
    """How many members a room has, and how large its document is."""

    members: int = 1
    document_bytes: int = 0

    @property
    def interval_s(self) -> float:
        """The seconds between two reports of one node (T)."""
        read_bytes = self.members**2 * self.document_bytes
        return max(REPORT_MIN_INTERVAL_S, read_bytes / REPORT_READ_BYTES_PER_S)

    @property
    def spread_s(self) -> float:
        """The seconds over which the nodes of a crowd spread what they all have to say."""
        return max(REPORT_SPREAD_S, self.members * REPORT_SPREAD_S_PER_MEMBER)


class ReportSchedule:
    """One node's reports in one room. ``due_at`` says when the next is to be made."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._size = RoomSize()
        self._written_at = -NEVER
        self._failures = 0
        self._not_before = -NEVER
        self._cached_due = NEVER
        self._usage_due = NEVER
        self._ended = False

    @property
    def due_at(self) -> float:
        """When to make a report; infinity: not before something changes."""
        if self._ended:
            return NEVER
        return max(min(self._cached_due, self._usage_due), self._not_before)

    def room(self, size: RoomSize) -> None:
        """Take the room's size as it is now; it counts for what changes from now on."""
        self._size = size

    def cached_changed(self, now: float) -> None:
        """Something is held here that was not, or no longer."""
        if self._cached_due < NEVER:
            # Put off once, not with each piece of news: under a stream of them none would be told.
            return
        soon = now + REPORT_DEBOUNCE_S + self._rng.uniform(0, self._size.spread_s)
        apart_s = self._size.interval_s / REPORT_CACHED_SOONER
        self._cached_due = max(soon, self._written_at + apart_s)

    def usage_changed(self, now: float) -> None:
        """Something was moved."""
        if self._usage_due == NEVER:
            # Also the first since the start: a crowd that starts together ends together.
            wait_s = self._size.interval_s * self._rng.uniform(0.75, 1.25)
            self._usage_due = max(now + REPORT_DEBOUNCE_S, self._since(now) + wait_s)

    def _since(self, now: float) -> float:
        return self._written_at if self._written_at > -NEVER else now

    def written(self, now: float) -> None:
        """A report was made, or there was nothing to say after all."""
        self._written_at = now
        self._failures = 0
        self._not_before = -NEVER
        self._cached_due = self._usage_due = NEVER

    def failed(self, now: float) -> None:
        """A report could not be made: others wrote at the same time, or the store is away."""
        self._failures += 1
        wait_s = REPORT_MIN_INTERVAL_S * 2 ** (self._failures - 1) * self._rng.uniform(0.5, 1.5)
        self._not_before = now + min(wait_s, REPORT_RETRY_MAX_S)

    def refused(self) -> None:
        """This node may not write here: it won't be asked to again."""
        self._ended = True
