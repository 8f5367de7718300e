"""What writes into the ledger: links, origins, alerts that read it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from dreamer.daemon.costs.account import Accounts
from dreamer.daemon.costs.alerts import CostAlerts
from dreamer.daemon.costs.ledger import Span
from dreamer.daemon.costs.origin_meter import KeyOwners
from dreamer.daemon.costs.served import Served
from dreamer.daemon.links.link import Link
from dreamer.daemon.origin.meter import class_of, class_of_url
from dreamer.protocol.cost_alerts import AlertWatch, parse_alerts
from dreamer.protocol.costs import Prices
from dreamer.protocol.ids import Digest, ManifestId, NodeId, RoomId
from dreamer.protocol.link.messages import Want
from dreamer.protocol.presign import Operation
from dreamer.protocol.swarm.vocabulary import Lane

LAB = RoomId(b"l" * 32)
MODEL, OTHER, MADE_UP = (ManifestId(letter * 32) for letter in (b"m", b"o", b"x"))


def by_model(ledger) -> dict:
    found = ledger.by_model(Span(), LAB)
    return {
        key: {str(one): amount for one, amount in usage.items()} for key, usage in found.items()
    }


@pytest.fixture
def link() -> Link:
    return Link(1, LAB, NodeId(b"n" * 32), False, {}, lambda command: None, 0.0)


@pytest.fixture
def served(ledger) -> Served:
    made = Served(ledger, lambda room, manifest: manifest != MADE_UP)
    ledger.sources.append(made.look)
    return made


def want(model: ManifestId, count: int) -> Want:
    return Want(1, model, 0, count, False)


def test_what_a_link_sent_is_put_down_to_the_model_and_lane_it_was_asked_for(
    ledger, served, link
) -> None:
    served.link_up(link)
    served.message(link, want(MODEL, 5))
    link.bytes_up = 700
    assert by_model(ledger) == {MODEL: {"webrtc-up": 700}}
    # A direct connection takes the next; the link's own channel is relayed from then on.
    link.bytes_up, link.bytes_up_direct = 950, 200
    link.relayed = True
    served.lane_changed(link)
    link.bytes_up, link.bytes_up_direct = 1000, 210
    served.link_down(link, "gone")
    assert by_model(ledger) == {MODEL: {"webrtc-up": 750, "direct-up": 210, "relay-up": 40}}


def test_two_models_on_one_link_share_what_it_sent_and_nothing_is_lost(
    ledger, served, link
) -> None:
    served.link_up(link)
    served.message(link, want(MODEL, 2))
    served.message(link, want(OTHER, 1))
    link.bytes_up = 100
    assert by_model(ledger) == {MODEL: {"webrtc-up": 66}, OTHER: {"webrtc-up": 34}}
    link.bytes_up = 110
    assert by_model(ledger) == {MODEL: {"webrtc-up": 66}, OTHER: {"webrtc-up": 44}}


def test_nothing_is_put_down_to_a_model_that_a_member_made_up(ledger, served, link) -> None:
    served.link_up(link)
    served.message(link, want(MADE_UP, 5))
    link.bytes_up = 9
    assert by_model(ledger) == {None: {"webrtc-up": 9}}


def test_a_request_is_put_down_to_the_model_whose_hash_its_key_has(ledger) -> None:
    accounts = Accounts(ledger)
    meter = accounts.meter(LAB)
    digest = Digest(b"\x01" * 32)
    accounts.owners.belong(MODEL, [digest])
    meter.requested("gets", f"lab/files/{digest.hex()}", 0)
    meter.received(f"lab/files/{digest.hex()}", 1000)
    meter.requested("puts", f"http://host/bucket/lab/files/{digest.hex()}?partNumber=1", 500)
    meter.requested("lists", "http://host/bucket?list-type=2", 0)
    meter.requested("free", f"lab/files/{digest.hex()}", 0)
    meter.received("lab/manifest.json", 7)
    assert by_model(ledger) == {
        MODEL: {"origin-gets": 1, "origin-down": 1000, "origin-puts": 1, "origin-up": 500},
        None: {"origin-lists": 1, "origin-down": 7},
    }


def test_a_file_of_two_models_is_put_down_to_the_one_moved_last(monkeypatch) -> None:
    from dreamer.daemon.costs import origin_meter

    owners, shared = KeyOwners(), Digest(b"\x02" * 32)
    owners.belong(MODEL, [shared])
    owners.belong(OTHER, [shared])
    assert owners.owner(f"files/{shared.hex()}") == OTHER
    monkeypatch.setattr(origin_meter, "LEDGER_KEYS_MAX", 2)
    owners.belong(MODEL, [Digest(bytes([number]) * 32) for number in (3, 4)])
    assert owners.owner(f"files/{shared.hex()}") is None


def test_a_job_tells_what_is_new_and_leaves_the_origin_to_its_meter(ledger) -> None:
    account = Accounts(ledger).of(LAB, MODEL)
    account.moved({Lane.DIRECT: 5, Lane.ORIGIN: 100})
    account.moved({Lane.DIRECT: 5, Lane.ORIGIN: 100})
    account.moved({Lane.DIRECT: 8, Lane.RELAY: 1})
    account.used(12, 3)
    account.gave(Lane.TORRENT, 2)
    assert by_model(ledger) == {
        MODEL: {
            "direct-down": 8,
            "relay-down": 1,
            "all-uses": 1,
            "all-wanted": 12,
            "cache-down": 3,
            "torrent-up": 2,
        }
    }


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("GetObject", "gets"),
        ("HeadObject", "gets"),
        ("HeadBucket", "gets"),
        ("ListObjectsV2", "lists"),
        ("ListParts", "lists"),
        ("PutObject", "puts"),
        ("UploadPart", "puts"),
        ("CreateMultipartUpload", "puts"),
        ("CompleteMultipartUpload", "puts"),
        ("CopyObject", "puts"),
        ("DeleteObject", "free"),
        ("AbortMultipartUpload", "free"),
    ],
)
def test_requests_are_classed_as_s3_prices_them(operation: str, kind: str) -> None:
    assert class_of(operation) == kind


def test_signed_urls_are_classed_alike() -> None:
    assert class_of_url(Operation.GET) == class_of_url(Operation.HEAD) == "gets"
    assert class_of_url(Operation.LIST_PARTS) == "lists"
    assert class_of_url(Operation.PUT_PART) == class_of_url(Operation.CREATE_UPLOAD) == "puts"
    assert class_of_url(Operation.ABORT_UPLOAD) == "free"


def test_a_crossed_threshold_is_logged_once_and_shown_as_long_as_it_is(
    ledger, calendar, entry, caplog
) -> None:
    watch = AlertWatch(parse_alerts(["origin_gb_per_day=1"]), Prices())
    alerts = CostAlerts(ledger, watch)
    ledger.add(LAB, MODEL, entry("origin-down"), 10**9)
    assert [one.crossed for one in alerts.standing()] == [False]
    ledger.add(LAB, MODEL, entry("origin-down"), 1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [one.crossed for one in alerts.standing()] == [True]
    assert [record.message for record in caplog.records] == [
        "origin_gb_per_day is 1.00 in 2026-11-21: more than the 1 of [cost] alerts; "
        "'dreamer cost' shows why"
    ]
    calendar.day = "2026-11-22"
    assert [one.crossed for one in alerts.standing()] == [False]


def test_relayed_bytes_are_paid_for_by_whose_allocation_they_pass() -> None:
    # Of a link that has carried 10, 4 over our own allocation, then 10 more, all over the peer's.
    from dreamer.daemon.links.relays import Relays
    from dreamer.daemon.transport.vocabulary import Relayed
    from dreamer.protocol.relay_budget import Budgets, RelayBudget

    class Record:
        def add_relayed(self, passed) -> None:
            """Kept elsewhere."""

    paid: list[tuple[RoomId, int]] = []
    budget = RelayBudget(Budgets(10**9, 10**9, 10**9))
    relays = Relays(budget, Record(), lambda command: None, wall=lambda: 1.8e9)
    relays.paid = lambda room, size: paid.append((room, size))
    link = Link(1, LAB, NodeId(b"n" * 32), True, {}, lambda command: None, 0.0)
    room = relays.in_room(SimpleNamespace(lane_changed=lambda link: None), lambda node, why: None)
    room.link_up(link)
    relays.transport_event(Relayed(1, 6, 4, 4))
    relays.transport_event(Relayed(1, 10, 10, 4))
    room.link_down(link, "gone")
    relays.transport_event(Relayed(1, 10, 12, 6))
    assert paid == [(LAB, 4), (LAB, 0), (LAB, 2)]
