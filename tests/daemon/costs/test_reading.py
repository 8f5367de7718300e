"""What a node's ledger and a room's reports come to together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.costs import reading
from dreamer.daemon.costs.alerts import CostAlerts
from dreamer.daemon.costs.metrics import cost_metrics
from dreamer.daemon.costs.reading import CostReader
from dreamer.daemon.metrics import render
from dreamer.protocol.cost_alerts import AlertWatch, parse_alerts
from dreamer.protocol.costs import GB, Prices
from dreamer.protocol.errors import InputError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.view import Registry

ROOM, OTHER_ROOM = RoomId(b"R" * 32), RoomId(b"O" * 32)
US, ANN, BOB, CYD = (NodeId(letter * 32) for letter in (b"u", b"a", b"b", b"c"))
MODEL = ManifestId(b"m" * 32)


class Session:
    """A room's session, as far as this looks at it."""

    def __init__(self, room: RoomId, registry: Registry | None) -> None:
        self.room_id = room
        self.card = SimpleNamespace(name="lab")
        self._registry = registry

    async def read_registry(self) -> Registry:
        if self._registry is None:
            raise RemoteError("the tracker is away")
        return self._registry

    def known_members(self):
        return iter([US, ANN, CYD, ANN])

    def name_of(self, node: NodeId) -> str:
        return "ann" if node == ANN else ""


@pytest.fixture
def reader(ledger, calendar):
    def make(registry: Registry | None, *alerts: str, prices: Prices | None = None) -> CostReader:
        sessions = [Session(ROOM, registry), Session(OTHER_ROOM, Registry())]
        rooms = SimpleNamespace(some=lambda room: sessions[:1] if room else sessions)
        prices = prices or Prices()
        watch = CostAlerts(ledger, AlertWatch(parse_alerts(alerts), prices))
        state = SimpleNamespace(model=lambda manifest_id: None)
        return CostReader(
            *(US, "here", ledger, state, rooms, prices, "EUR", watch), wall=calendar.wall
        )

    return make


@pytest.fixture
def registry(calendar) -> Registry:
    moved = {
        "2026-10": {"origin-down": 5 * GB},
        "2026-11": {"origin-down": GB, "direct-down": 2 * GB, "all-wanted": 4 * GB},
    }
    model = SimpleNamespace(
        name="weights", stored=Stored(MODEL, "s3://bucket/prefix", 9 * GB, 7 * GB)
    )
    return Registry(
        models={MODEL: model},
        reports={
            ANN: NodeReport((), moved, "ann's machine"),
            BOB: NodeReport((), {"2026-11": {"relay-paid": 10 * GB}}, "bob"),
            # What this node once reported is older than what it knows.
            US: NodeReport((), {"2026-11": {"origin-down": 99 * GB}}, "old"),
        },
        reported_at={ANN: calendar.wall() - 60, BOB: calendar.wall() + 5, US: 0.0},
    )


async def test_a_room_is_the_sum_of_reports_and_of_what_this_node_knows_of_itself(
    reader, registry, ledger, entry
) -> None:
    ledger.add(ROOM, MODEL, entry("origin-down"), 3 * GB)
    ledger.add(OTHER_ROOM, MODEL, entry("origin-down"), 50 * GB)
    found = await reader(registry).read("2026-11", "lab")
    (room,) = found.rooms
    assert (room.members, room.reported) == (4, 3), "CYD is there and has reported nothing"
    assert room.figures.origin_bytes == 4 * GB
    assert room.figures.peer_bytes == 2 * GB
    assert room.figures.cost == pytest.approx(4 * 0.09 + 10 * 0.05)
    nodes = {one.name: (one.here, one.age_s, one.figures.origin_bytes) for one in room.nodes}
    assert nodes == {"ann": (False, 60, GB), "bob": (False, 0, 0), "here": (True, None, 3 * GB)}
    assert (found.currency, found.this_node.origin_bytes) == ("EUR", 3 * GB)
    assert (room.stored_bytes, room.storage_per_month) == (7 * GB, pytest.approx(7 * 0.023))


async def test_without_a_month_all_months_count(reader, registry) -> None:
    found = await reader(registry).read(None, "lab")
    assert found.rooms[0].figures.origin_bytes == 6 * GB
    assert (await reader(registry).read("2026-10", "lab")).rooms[0].figures.peer_bytes == 0


async def test_a_room_whose_registry_can_not_be_read_has_this_node_at_least(
    reader, ledger, entry
) -> None:
    ledger.add(ROOM, MODEL, entry("direct-down"), 7)
    found = await reader(None).read(None, "lab")
    assert (found.rooms[0].reported, found.rooms[0].figures.peer_bytes) == (1, 7)


async def test_all_rooms_together_are_this_nodes_part(reader, registry, ledger, entry) -> None:
    ledger.add(ROOM, MODEL, entry("origin-down"), 1)
    ledger.add(OTHER_ROOM, MODEL, entry("origin-down"), 2)
    found = await reader(registry).read(None, None)
    assert (found.this_node.origin_bytes, len(found.rooms)) == (3, 2)


async def test_models_come_dearest_first_and_what_is_left_out_is_in_the_last(
    reader, registry, ledger, entry, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "COST_MODELS_SHOWN", 2)
    for number in range(1, 5):
        ledger.add(ROOM, ManifestId(bytes([number]) * 32), entry("all-wanted"), number * GB)
    ledger.add(ROOM, MODEL, entry("all-wanted"), 9 * GB)
    ledger.add(ROOM, None, entry("origin-lists"), 3)
    models = (await reader(registry).read(None, "lab")).models
    assert [(one.manifest_id[:2], one.name) for one in models] == [
        ("6d", "weights"), ("04", ""), ("", ""),
    ]  # fmt: skip
    rest = models[-1].figures
    assert (rest.wanted_bytes, rest.lists) == ((1 + 2 + 3) * GB, 3)


async def test_lanes_come_cheapest_first_and_cost_together_what_all_costs(
    reader, registry, ledger, entry
) -> None:
    for name in ("origin-down", "relay-down", "relay-paid", "direct-down", "cache-down"):
        ledger.add(ROOM, MODEL, entry(name), GB)
    ledger.add(ROOM, MODEL, entry("origin-puts"), 1000)
    ledger.add(ROOM, MODEL, entry("torrent-up"), 1)
    found = await reader(registry, prices=Prices(peer_gb=0.01)).read(None, "lab")
    names = [one.lane for one in found.lanes]
    assert names == ["cache", "direct", "relay", "torrent", "origin"]
    assert sum(one.cost for one in found.lanes) == pytest.approx(found.this_node.cost)


async def test_a_month_that_is_none_is_refused(reader, registry) -> None:
    with pytest.raises(InputError):
        await reader(registry).read("november", None)


def test_the_ledger_is_told_to_prometheus(ledger, entry, reader) -> None:
    ledger.add(ROOM, MODEL, entry("origin-down"), 2 * GB)
    ledger.add(ROOM, MODEL, entry("origin-gets"), 5)
    alerts = reader(Registry(), "origin_gb_per_day=1").alerts.standing()
    text = render(cost_metrics(ledger, Prices(), alerts))
    assert 'dreamer_moved_bytes_total{lane="origin",direction="down"} 2000000000\n' in text
    assert 'dreamer_origin_requests_total{kind="gets"} 5\n' in text
    assert 'dreamer_cost_month{kind="paid"} 0.180002\n' in text
    assert 'dreamer_cost_alert{alert="origin_gb_per_day"} 1\n' in text
