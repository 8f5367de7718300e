"""What a node tells the simulator of a room: what it measured, and nobody's name or address."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.link_rates import LinkRates
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.topology import TopologyReader
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import PEAK_RATE_WINDOW_S
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.relay_budget import Budgets, RelayBudget, Usage, day_of
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.topology import Measured, RelayUse, StoreSeen, from_json, to_json

NOON = 1_795_000_000.0
US, ANN, BOB = (NodeId(each * 32) for each in (b"\x0a", b"\x0b", b"\x0c"))
TWIN = NodeId(ANN[:31] + b"!")
ROOM = RoomId(b"r" * 32)
TINY = ManifestId(b"\xab" * 32)
SIZES = [4, 4, 2]


class Room:
    """A session: a registry of one model, links, who is present and who shares."""

    room_id = ROOM

    def __init__(self, *links: Link, present=(), sharers=()) -> None:
        self.card = SimpleNamespace(
            name="secret-lab", origin="s3://secret-bucket/x", trackers=("http://secret:1",)
        )
        self.links = SimpleNamespace(links=list(links))
        self.present = {node: {"name": "secret-name"} for node in present}
        self.sharers = list(sharers)
        self.failure: Exception | None = None

    async def read_registry(self) -> Registry:
        if self.failure:
            raise self.failure
        return Registry({TINY: Model(TINY, "tiny", sum(SIZES), 2, "files", US, 1.0)})

    async def seek(self, manifest_id) -> Found:
        # A tracker names whoever asks, too, if it shares.
        return Found((US, *self.sharers), whole=tuple(self.sharers[:1]))


def link(peer: NodeId, relayed: bool = False) -> Link:
    return Link(peer[0], ROOM, peer, relayed, {"name": "secret-name"}, lambda _: None, NOON)


class House:
    """The parts that a reader reads, with a store that holds some blocks of the model."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rates = LinkRates(clock=lambda: self.now)
        self.blocks = 0
        usage = [Usage(day_of(NOON), ANN, 30)]
        budget = RelayBudget(Budgets(100, 1000, 10_000), usage)
        layout = SimpleNamespace(block_size=SIZES.__getitem__)
        offering = SimpleNamespace(
            manifest=SimpleNamespace(layout=layout), blocks=0b101, whole=False
        )
        self.reader = TopologyReader(
            us=US,
            store=SimpleNamespace(usage=lambda: StoreSeen(1, 2, 3)),
            library=SimpleNamespace(find=lambda room, model: offering),
            puller=SimpleNamespace(is_pulling=lambda model: True),
            relays=Relays(budget, SimpleNamespace(), lambda _: None, wall=lambda: NOON),
            rates=self.rates,
            limits=Limits(Rates(up=1e6)),
            wall=lambda: NOON,
        )

    def read(self, room: Room):
        return asyncio.run(self.reader.read(room))


@pytest.fixture
def house() -> House:
    return House()


def test_everybody_known_is_a_member_once(house) -> None:
    found = house.read(Room(link(ANN), present=[US, ANN, BOB], sharers=[BOB]))
    assert [member.id for member in found.members] == ["0b0b0b0b", "0c0c0c0c"]
    assert [member.link is not None for member in found.members] == [True, False]
    assert found.models[0].sharers == ("0c0c0c0c",)
    assert found.models[0].whole == ("0c0c0c0c",)
    assert (found.origin, found.trackers) == (True, 1)


def test_names_addresses_and_buckets_stay_here(house) -> None:
    text = json.dumps(to_json(house.read(Room(link(ANN), present=[BOB]))))
    assert "secret" not in text
    assert ANN.hex() not in text
    assert '"tiny"' in text


def test_document_is_one_that_can_be_read_back(house) -> None:
    found = house.read(Room(link(ANN, relayed=True), present=[BOB], sharers=[ANN, BOB]))
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_keys_that_begin_alike_are_two_members(house) -> None:
    found = house.read(Room(present=[ANN, TWIN], sharers=[TWIN]))
    assert [member.id for member in found.members] == ["0b0b0b0b", "0b0b0b0b-2"]
    assert found.models[0].sharers == ("0b0b0b0b-2",)


def test_link_tells_what_was_measured_and_of_a_relay_what_is_left(house) -> None:
    fast, plain = link(ANN, relayed=True), link(BOB)
    fast.rtt_s = 0.03
    house.rates.link_up(fast)
    house.rates.look()
    fast.bytes_down = round(8000 * PEAK_RATE_WINDOW_S)
    house.now += PEAK_RATE_WINDOW_S
    house.rates.look()
    members = house.read(Room(fast, plain)).members
    seen = members[0].link
    assert (seen.lane, seen.rtt_s, seen.relay) == ("relay", 0.03, RelayUse(30, 70))
    assert (seen.measured, seen.measured_over) == (Measured(8000), "relay")
    other = members[1].link
    assert (other.lane, other.rtt_s, other.measured, other.relay) == (
        "webrtc", None, Measured(), None,
    )  # fmt: skip


def test_node_tells_its_limits_its_budget_and_its_store(house) -> None:
    node = house.read(Room()).node
    assert (node.id, node.up_limit_bytes_s, node.down_limit_bytes_s) == ("0a0a0a0a", 1e6, None)
    budget = node.relay_budget
    assert (budget.per_peer_bytes, budget.day_bytes, budget.month_bytes) == (100, 30, 30)
    assert node.store == StoreSeen(1, 2, 3)


def test_model_half_here_counts_the_blocks_that_are(house) -> None:
    model = house.read(Room()).models[0]
    assert (model.id, model.here_bytes, model.size_bytes, model.pulling) == (
        "abababab", 6, 10, True,
    )  # fmt: skip


def test_room_whose_registry_can_not_be_read_says_so(house) -> None:
    room = Room()
    room.failure = RemoteError("the tracker is away; try again")
    with pytest.raises(RemoteError, match="try again"):
        house.read(room)
