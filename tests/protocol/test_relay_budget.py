"""Budgets of relayed bytes: by peer, day and month, over links that draw on them together."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import CHUNK_BYTES, MIB, RELAY_ACTIVE_S, RELAY_RESERVE_BYTES
from dreamer.protocol.relay_budget import (
    Allow,
    Budgets,
    Hold,
    RelayBudget,
    Resume,
    Usage,
    day_of,
)

A, B = NodeId(b"\1" * 32), NodeId(b"\2" * 32)
GENEROUS = 1000 * MIB


def at(day: int, hour: float = 12.0, month: int = 11) -> float:
    return datetime(2026, month, day, tzinfo=UTC).timestamp() + hour * 3600.0


def budget(peer=GENEROUS, day=GENEROUS, month=GENEROUS, used=()) -> RelayBudget:
    return RelayBudget(Budgets(peer, day, month), used)


def test_link_may_carry_what_is_left_with_its_peer():
    relays = budget(peer=10 * MIB, used=[Usage("2026-11-02", A, 4 * MIB)])
    assert relays.link_up(1, A, at(21)) == [Allow(1, 6 * MIB)]
    assert relays.link_up(2, B, at(21)) == [Allow(2, 10 * MIB)]


def test_spent_budget_holds_the_link_once_and_takes_its_allowance():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(21))
    assert relays.counted(1, 5 * MIB, at(21)) == []
    full = 10 * MIB - RELAY_RESERVE_BYTES + 1
    assert relays.counted(1, full, at(21)) == [Allow(1, full), Hold(1)]
    # Messages go on and count, and nothing is said again.
    assert relays.counted(1, full + 1000, at(21)) == []
    assert relays.stopped(1, at(21)) == []
    assert relays.left(A, at(21)) == 10 * MIB - full - 1000


def test_link_that_stopped_by_itself_is_held():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(21))
    relays.counted(1, 9 * MIB, at(21))
    assert relays.stopped(1, at(21))[0] == Hold(1)


def test_link_that_outran_its_reports_goes_on():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(21))
    assert relays.stopped(1, at(21)) == [Hold(1), Resume(1)]


@pytest.mark.parametrize("size", [0, RELAY_RESERVE_BYTES - 1])
def test_budget_too_small_for_a_chunk_allows_none(size):
    assert budget(peer=size).link_up(1, A, at(21)) == [Hold(1)]


def test_day_budget_comes_back_on_the_next_day_also_for_held_links():
    relays = budget(day=10 * MIB)
    relays.link_up(1, A, at(21))
    relays.link_up(2, B, at(21))
    assert Hold(1) in relays.counted(1, 10 * MIB, at(21))
    assert relays.left(B, at(21, 23.9)) == 0
    # Any news of any link will do: a ping's few bytes.
    resumed = relays.counted(2, 500, at(22, 0.1))
    assert {Resume(1), Resume(2)} <= set(resumed)
    assert relays.used_in_day(at(22, 0.1)) == 500


def test_held_links_go_on_the_next_day_whoever_looked_at_the_budget_first():
    relays = budget(day=10 * MIB)
    relays.link_up(1, A, at(21))
    assert Hold(1) in relays.counted(1, 10 * MIB, at(21))
    # A look at the status, another link and the last bytes of a third come before its own count.
    assert relays.used_in_day(at(22, 0.01)) == 0
    relays.link_up(2, B, at(22, 0.02))
    relays.add(B, 500, at(22, 0.03))
    assert Resume(1) in relays.counted(1, 10 * MIB + 500, at(22, 0.1))
    assert Resume(1) not in relays.counted(1, 10 * MIB + 1000, at(22, 0.2))


def test_peer_budget_lasts_for_the_month_and_not_for_the_day():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(29))
    relays.counted(1, 10 * MIB, at(29))
    assert relays.counted(1, 10 * MIB + 100, at(30)) == []
    assert Resume(1) in relays.counted(1, 10 * MIB + 200, at(1, month=12))


def test_month_budget_counts_all_peers():
    relays = budget(month=10 * MIB, used=[Usage("2026-11-01", B, 9 * MIB)])
    assert relays.link_up(1, A, at(21)) == [Allow(1, MIB)]
    assert relays.used_in_month(at(21)) == {B: 9 * MIB}


def test_clock_set_back_gives_no_second_budget():
    relays = budget(day=10 * MIB)
    relays.link_up(1, A, at(21))
    relays.counted(1, 10 * MIB, at(21))
    relays.counted(1, 10 * MIB + 1, at(22))
    assert relays.left(A, at(21)) == 0


def test_links_that_move_blocks_share_what_all_draw_on():
    relays = budget(day=100 * MIB)
    relays.link_up(1, A, at(21))
    relays.counted(1, MIB, at(21))
    relays.link_up(2, B, at(21))
    # The second begins: both may count half of what is left from where they are.
    said = relays.counted(2, MIB, at(21))
    assert set(said) == {Allow(1, MIB + 49 * MIB), Allow(2, MIB + 49 * MIB)}
    # Once the first is idle, the second has all of it again.
    later = at(21) + RELAY_ACTIVE_S + 1.0
    assert Allow(2, 2 * MIB + 97 * MIB) in relays.counted(2, 2 * MIB, later)


def test_two_rooms_with_one_peer_share_its_budget():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(21))
    relays.link_up(2, A, at(21))
    # The second is idle, but may begin: it may have no more than the half of what is left.
    assert Allow(2, 2 * MIB) in relays.counted(1, 6 * MIB, at(21))
    assert relays.left(A, at(21)) == 4 * MIB


def test_bytes_of_a_link_that_is_gone_count():
    relays = budget(peer=10 * MIB)
    relays.link_up(1, A, at(21))
    relays.link_down(1)
    relays.add(A, 3 * MIB, at(21))
    assert relays.counted(1, 9 * MIB, at(21)) == []
    assert relays.left(A, at(21)) == 7 * MIB


def test_days_are_those_of_utc():
    assert day_of(at(21, 23.99)) == "2026-11-21"
    assert day_of(at(21, 24.0)) == "2026-11-22"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3 * MIB)), max_size=60),
    st.integers(0, 40 * MIB),
    st.integers(0, 40 * MIB),
)
def test_links_that_heed_their_allowance_stay_within_every_budget(moves, peer, day):
    """Each link moves at most up to what it was allowed, as the transport does, and reports."""
    relays = budget(peer=peer, day=day)
    allowed, totals, peers = {}, {}, {1: A, 2: A, 3: B, 4: B}
    clock = at(21)

    def heed(commands):
        for command in commands:
            if isinstance(command, Allow):
                allowed[command.link] = command.relayed_bytes

    for number, node in peers.items():
        totals[number] = allowed[number] = 0
        heed(relays.link_up(number, node, clock))
    for number, wanted in moves:
        clock += 0.25
        room = max(0, allowed[number] - totals[number] - RELAY_RESERVE_BYTES)
        totals[number] += min(wanted, room) // CHUNK_BYTES * CHUNK_BYTES
        heed(relays.counted(number, totals[number], clock))
    assert sum(totals.values()) <= day
    assert totals[1] + totals[2] <= peer
    assert totals[3] + totals[4] <= peer
