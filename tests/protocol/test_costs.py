"""What moving models costs, and what it would: checked against figures worked out by hand."""

from __future__ import annotations

import pytest

from dreamer.protocol.costs import (
    ENTRIES,
    GB,
    LANES,
    Bill,
    Costs,
    Entry,
    Prices,
    Row,
    What,
    added,
    check_month,
    costs_of,
    from_words,
    storage_per_month,
    to_words,
    usage_of,
)
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.limits import MIB

PRICES = Prices()
ROOM = RoomId(b"r" * 32)
SMALL, LARGE = ManifestId(b"s" * 32), ManifestId(b"l" * 32)


def entry(name: str) -> Entry:
    (found,) = (one for one in ENTRIES if str(one) == name)
    return found


def usage(**amounts: int) -> dict[Entry, int]:
    return {entry(name.replace("_", "-")): amount for name, amount in amounts.items()}


def test_a_month_replayed_comes_to_the_figures_of_paper_and_pencil() -> None:
    # 30 days. Each day one model of 10 GB is wanted 4 times: once from the origin, once from a
    # peer over TURN that this node pays for, twice from the store itself.
    rows = []
    for day in range(1, 31):
        amounts = {
            "origin-down": 10 * GB,
            "origin-gets": 200,
            "relay-down": 10 * GB,
            "relay-paid": 11 * GB,
            "cache-down": 20 * GB,
            "all-wanted": 40 * GB,
            "all-uses": 4,
        }
        rows += [
            Row(f"2026-11-{day:02}", ROOM, LARGE, entry(name), amount)
            for name, amount in amounts.items()
        ]
    # One model of 5 GB was pushed on the 3rd: 640 parts of 8 MiB, and two requests around them.
    rows += [
        Row("2026-11-03", ROOM, SMALL, entry("origin-up"), 5 * GB),
        Row("2026-11-03", ROOM, SMALL, entry("origin-puts"), 642),
        Row("2026-11-03", ROOM, SMALL, entry("origin-lists"), 10),
    ]
    total = usage_of(rows)
    assert total[entry("all-wanted")] == 1200 * GB
    costs = costs_of(total, PRICES)
    # 300 GB at 0.09; 6,000 GETs at 0.0004, 642 PUTs and 10 LISTs at 0.005 a thousand; 330 GB of
    # TURN at 0.05.
    assert costs.paid.egress == pytest.approx(27.0)
    assert costs.paid.requests == pytest.approx(0.0024 + 0.00321 + 0.00005)
    assert costs.paid.turn == pytest.approx(16.5)
    assert costs.paid.total == pytest.approx(43.50566)
    # What the peer brought comes from S3: 600 GB, and 35,763 GETs of 8 MiB more; no TURN.
    assert costs.without_peers.total == pytest.approx(54.0 + 0.00566 + 0.0143052)
    # What the store had comes from S3: 900 GB, 71,526 GETs more, and TURN as it was.
    assert costs.without_cache.total == pytest.approx(81.0 + 16.5 + 0.00566 + 0.0286104)
    # All of it: 1,200 GB by 143,052 GETs; the push is no less work.
    assert costs.without_both.total == pytest.approx(108.0 + 0.0572208 + 0.00326)
    assert costs.saved == pytest.approx(108.0604808 - 43.50566)


def test_nothing_moved_costs_nothing() -> None:
    assert costs_of({}, PRICES) == Costs(Bill(), Bill(), Bill(), Bill())


def test_a_pull_that_failed_is_paid_for_and_saves_less_than_nothing() -> None:
    costs = costs_of(usage(origin_down=GB, origin_gets=1), PRICES)
    assert costs.paid.total == pytest.approx(0.09 + 0.0004 / 1000)
    assert costs.without_both.total == 0
    assert costs.saved < 0


def test_peers_cost_what_the_setting_says_whatever_lane_they_use() -> None:
    moved = usage(direct_down=GB, webrtc_down=GB, torrent_down=GB, relay_down=GB)
    assert costs_of(moved, PRICES).paid.total == 0
    between_zones = Prices(peer_gb=0.01)
    costs = costs_of(moved, between_zones)
    assert costs.paid.peers == pytest.approx(0.04)
    assert costs.without_peers.peers == 0


def test_a_relayed_byte_is_paid_once_over_both_ends_of_a_link() -> None:
    # A has an allocation, B has none: A pays for both ways, B for nothing, whoever sent.
    a, b = usage(relay_paid=3 * GB, relay_up=3 * GB), usage(relay_down=3 * GB)
    assert costs_of(added(a, b), PRICES).paid.turn == pytest.approx(0.15)


def test_what_gets_would_have_been_is_rounded_up_to_whole_requests() -> None:
    free_bytes = Prices(egress_gb=0, get_1000=1000)
    assert costs_of(usage(all_wanted=1), free_bytes).without_both.total == 1
    assert costs_of(usage(all_wanted=8 * MIB), free_bytes).without_both.total == 1
    assert costs_of(usage(all_wanted=8 * MIB + 1), free_bytes).without_both.total == 2


def test_usage_goes_into_a_report_and_comes_back() -> None:
    whole = {one: number for number, one in enumerate(ENTRIES, 1)}
    assert from_words(to_words(whole)) == whole
    assert to_words({entry("all-uses"): 0}) == {}


def test_what_a_newer_node_counts_is_left_alone() -> None:
    assert from_words({"origin-down": 5, "moon-down": 7}) == usage(origin_down=5)


def test_every_lane_of_the_surfaces_is_counted() -> None:
    from dreamer.daemon.ports import LANES as SHOWN

    assert LANES == SHOWN
    assert all(Entry(lane, What.DOWN) in ENTRIES for lane in SHOWN)


def test_storage_is_priced_by_the_month() -> None:
    assert storage_per_month(1000 * GB, PRICES) == pytest.approx(23.0)


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "2026-1", "26-11", "2026/11", "", "²⁰²⁶-11"]
)
def test_a_month_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="YYYY-MM"):
        check_month(text)


def test_a_month_is_taken_as_it_is() -> None:
    assert check_month("2026-11") == "2026-11"
