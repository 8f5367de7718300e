"""Reports of nodes to their room: rare enough for whoever keeps the document. Time is virtual."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random

import pytest

from dreamer.protocol.cache_limits import (
    REPORT_DEBOUNCE_S,
    REPORT_MIN_INTERVAL_S,
    REPORT_READ_BYTES_PER_S,
    REPORT_RETRY_MAX_S,
    REPORT_SPREAD_S,
)
from dreamer.protocol.registry_limits import REGISTRY_CAS_ATTEMPTS, REGISTRY_RETRY_BASE_S
from dreamer.protocol.report_schedule import NEVER, ReportSchedule, RoomSize

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
REPORT_BYTES = 2000
"""What a node's record and its chain take in a document: a year of figures, tens of models."""

ROUND_TRIP_S = 0.5
"""From reading the document to having written it: verifying hundreds of records included."""


def schedule(members: int = 1, document_bytes: int = 0, seed: int = 1) -> ReportSchedule:
    made = ReportSchedule(Random(seed))
    made.room(RoomSize(members, document_bytes))
    return made


def test_news_of_what_is_held_waits_for_more_of_it_and_is_told_within_half_a_minute() -> None:
    plan = schedule()
    plan.cached_changed(100.0)
    due = plan.due_at
    assert 100 + REPORT_DEBOUNCE_S <= due <= 100 + REPORT_DEBOUNCE_S + REPORT_SPREAD_S
    plan.cached_changed(105.0)
    assert plan.due_at == due, "a stream of news must not put it off for ever"


def test_what_was_moved_is_told_every_five_minutes_or_so() -> None:
    plan = schedule()
    plan.written(0.0)
    plan.usage_changed(1.0)
    assert 0.75 * REPORT_MIN_INTERVAL_S <= plan.due_at <= 1.25 * REPORT_MIN_INTERVAL_S
    first = plan.due_at
    plan.usage_changed(200.0)
    assert plan.due_at == first


def test_nothing_new_is_nothing_to_write() -> None:
    plan = schedule()
    assert plan.due_at == NEVER
    plan.cached_changed(0.0)
    plan.usage_changed(0.0)
    plan.written(30.0)
    assert plan.due_at == NEVER


def test_news_right_after_a_report_does_not_make_a_second_one_at_once() -> None:
    plan = schedule(members=50, document_bytes=50 * REPORT_BYTES)
    plan.written(0.0)
    plan.cached_changed(1.0)
    assert plan.due_at >= REPORT_MIN_INTERVAL_S / 10


def test_a_report_that_failed_is_put_off_twice_as_long_each_time() -> None:
    plan = schedule()
    plan.cached_changed(0.0)
    waits = []
    for _ in range(10):
        plan.failed(0.0)
        waits.append(plan.due_at)
    for number, wait in enumerate(waits):
        middle = REPORT_MIN_INTERVAL_S * 2**number
        assert (
            min(0.5 * middle, REPORT_RETRY_MAX_S) <= wait <= min(1.5 * middle, REPORT_RETRY_MAX_S)
        )
    plan.written(10.0)
    plan.cached_changed(1000.0)
    assert plan.due_at <= 1000 + REPORT_DEBOUNCE_S + REPORT_SPREAD_S


def test_who_may_not_write_does_not_ask_again() -> None:
    plan = schedule()
    plan.refused()
    plan.cached_changed(0.0)
    plan.usage_changed(0.0)
    assert plan.due_at == NEVER


@pytest.mark.parametrize("members", [3, 30, 200, 1000, 5000])
def test_what_all_members_read_because_of_reports_stays_below_a_rate(members: int) -> None:
    size = RoomSize(members, members * REPORT_BYTES)
    writes_per_s = members / size.interval_s
    read_bytes_per_s = writes_per_s * members * size.document_bytes
    assert read_bytes_per_s <= 1.001 * REPORT_READ_BYTES_PER_S


@dataclass
class Room:
    """A crowd of nodes and the store of their document, where the first to write wins."""

    members: int
    seed: int = 1
    writes: list[float] = field(default_factory=list)
    conflicts: int = 0
    given_up: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.plans = [
            schedule(self.members, self.members * REPORT_BYTES, self.seed * 10_000 + number)
            for number in range(self.members)
        ]
        self.last_write = -1.0
        self._events: list[tuple[float, int, int]] = []

    def run(self, until_s: float, moving: bool) -> None:
        """Let time pass; ``moving``: every node moves something all the time."""
        for node, plan in enumerate(self.plans):
            if moving:
                plan.usage_changed(0.0)
            self._wait(node)
        while self._events and self._events[0][0] <= until_s:
            now, node, attempt = heapq.heappop(self._events)
            self._write(now, node, attempt, moving)

    def _wait(self, node: int) -> None:
        if (due := self.plans[node].due_at) < NEVER:
            heapq.heappush(self._events, (due, node, 0))

    def _write(self, began: float, node: int, attempt: int, moving: bool) -> None:
        self.reads += 1
        ended = began + ROUND_TRIP_S
        # Events come in the order of their beginnings: whoever ended meanwhile began before.
        if self.last_write > began:
            self.conflicts += 1
            if attempt + 1 == REGISTRY_CAS_ATTEMPTS:
                self.given_up += 1
                self.plans[node].failed(ended)
                self._wait(node)
                return
            pause_s = self.rng.uniform(0, REGISTRY_RETRY_BASE_S * 2**attempt)
            heapq.heappush(self._events, (ended + pause_s, node, attempt + 1))
            return
        self.last_write = ended
        self.writes.append(ended)
        plan = self.plans[node]
        plan.written(ended)
        if moving:
            plan.usage_changed(ended + 1.0)
        self._wait(node)


def test_a_crowd_of_200_that_pulled_one_model_together_writes_one_after_the_other() -> None:
    room = Room(200)
    for node, plan in enumerate(room.plans):
        plan.cached_changed(node * 0.05)
    room.run(HOUR_S, moving=False)
    assert len(room.writes) == 200, "each has told, once"
    assert room.given_up == 0
    assert max(room.writes) < REPORT_DEBOUNCE_S + 200 + 60
    # Without the spread all of them would meet: 200 in 20 s, and each conflict reads it once more.
    assert room.conflicts < 3 * 200


def test_200_busy_nodes_write_about_once_a_day_each_and_hardly_ever_meet() -> None:
    room = Room(200)
    room.run(2 * DAY_S, moving=True)
    interval_s = RoomSize(200, 200 * REPORT_BYTES).interval_s
    assert len(room.writes) == pytest.approx(200 * 2 * DAY_S / interval_s, rel=0.25)
    assert len(room.writes) / (2 * DAY_S) < 0.01
    assert room.conflicts <= 0.05 * len(room.writes)
    assert room.given_up == 0


def test_a_team_of_ten_is_told_of_within_minutes_all_day_long() -> None:
    room = Room(10)
    room.run(DAY_S, moving=True)
    each = len(room.writes) / 10
    assert each == pytest.approx(DAY_S / REPORT_MIN_INTERVAL_S, rel=0.1)
