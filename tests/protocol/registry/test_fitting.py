"""How large a document can grow, and that models never give way to what nodes report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from blake3 import blake3

from dreamer.protocol.canonical import count_items
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import JSON_MAX_ITEMS
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.changes import Author, Publish, ReportNode, apply
from dreamer.protocol.registry.document import Document, Published, parse
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.view import Registry, Verified
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES
from dreamer.protocol.rooms.certificate import Role, invitation, node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.protocol.tracker_limits import TRACKER_REGISTRY_MAX_BYTES

NOW = 1_800_000_000.0
NODES = 2000
FEW = 200
MODELS = 300
CACHED = 50
ROOM_KEY = SigningKey(b"r" * 32)
ROOM = RoomId(ROOM_KEY.public)


def digest(number: int) -> bytes:
    return blake3(number.to_bytes(8, "big")).digest()


IDS = [ManifestId(digest(10**6 + number)) for number in range(MODELS)]


def invited(key: SigningKey, role: Role) -> list[object]:
    """A real member's chain: an invitation and the node's own certificate."""
    door = SigningKey(b"d" * 32)
    ticket = invitation(ROOM, door, (role,), NOW, 3600, 2000, b"i" * 16, ROOM_KEY)
    return chain_to_json((ticket, node_certificate(ROOM, key.public, (role,), NOW, door)))


PUBLISHER = SigningKey(b"p" * 32)
AUTHOR = Author(PUBLISHER, invited(PUBLISHER, Role.PUBLISHER))


def crowd(months: int, counters: int, nodes: int = NODES) -> Document:
    """A room in which every node has 50 models and moved some hundred gigabytes in each lane."""
    lanes = {f"some-lane-{number}": 123_456_789_012 for number in range(counters)}
    usage = {f"{2025 + month // 12}-{month % 12 + 1:02}": lanes for month in range(months)}
    members, reports = {NodeId(PUBLISHER.public): (AUTHOR.chain,)}, {}
    for number in range(nodes):
        key = SigningKey(digest(number))
        cached = tuple((IDS[(number * 7 + step) % MODELS], True) for step in range(CACHED))
        said = NodeReport(cached, usage, f"node-{number:04}.cluster")
        node = NodeId(key.public)
        members[node] = (invited(key, Role.MEMBER),)
        reports[node] = sign(said, ROOM, key, NOW + number, number + 2)
    entries = {
        key: Published(
            sign(ModelEntry(key, "a model", 10**9, 9, "decoder"), ROOM, PUBLISHER, NOW, 1)
        )
        for key in IDS
    }
    return Document(ROOM, nodes + 1, members, entries, reports=reports)


def taken(document: Document) -> Verified:
    """The document as its own view, unjudged: what is looked at here is its size only."""
    return Verified(document, Registry(), document.serial, document.serial)


@pytest.fixture(scope="module")
def crowded() -> Document:
    return crowd(months=13, counters=12, nodes=FEW)


@pytest.fixture
def max_bytes(crowded, monkeypatch) -> int:
    """A limit that four fifths of the crowd come up to."""
    max_bytes = len(crowded.unbounded()) * 4 // 5
    monkeypatch.setattr("dreamer.protocol.registry.pen.fit", partial(fit, max_bytes=max_bytes))
    return max_bytes


def test_tracker_takes_every_document_that_nodes_may_write():
    assert TRACKER_REGISTRY_MAX_BYTES >= REGISTRY_MAX_BYTES


def test_two_thousand_nodes_of_fifty_models_each_fit():
    document = crowd(months=3, counters=17)
    assert fit(document) is document
    data = document.encode()
    # With room for some hundred models that say all about themselves.
    assert len(data) < 0.85 * REGISTRY_MAX_BYTES
    assert count_items(data) < 0.85 * JSON_MAX_ITEMS
    assert parse(data, ROOM) == document


def test_oldest_reports_give_way_and_no_model_does(crowded, max_bytes):
    entry = ModelEntry(ManifestId(b"n" * 32), "new", 1, 1, "files")
    after = apply(taken(crowded), [Publish(entry)], AUTHOR, NOW + 9999)
    assert sorted(after.models) == sorted([*IDS, entry.manifest_id])
    kept = sorted(record.serial for record in after.reports.values())
    # The newest without a gap, and one more would not have fitted.
    assert kept == list(range(FEW + 2 - len(kept), FEW + 2))
    assert len(kept) > 0.7 * FEW
    assert max_bytes - 6000 < len(after.unbounded()) <= max_bytes
    assert after.serial == crowded.serial + 1


def test_node_that_reports_pushes_out_the_oldest_and_not_itself(crowded, max_bytes):
    key = SigningKey(digest(0))
    author = Author(key, invited(key, Role.MEMBER))
    after = apply(taken(crowded), [ReportNode(NodeReport(name="back"))], author, NOW + 9999)
    assert len(after.unbounded()) <= max_bytes
    assert after.reports[NodeId(key.public)].said.name == "back"
    assert NodeId(SigningKey(digest(1)).public) not in after.reports


def test_dropped_node_leaves_no_chain_unless_something_rests_on_it():
    document = crowd(1, 3, nodes=4)
    first, second = list(document.reports)[:2]
    record = sign(
        ModelEntry(ManifestId(b"n" * 32), "x", 1, 1, "files"), ROOM, SigningKey(digest(0)), NOW, 6
    )
    document = replace(
        document, models={**document.models, record.said.manifest_id: Published(record)}
    )
    after = fit(document, max_bytes=len(document.unbounded()) - 3000)
    assert first not in after.reports
    assert second not in after.reports
    assert first in after.members
    assert second not in after.members
    assert len(after.unbounded()) <= len(document.unbounded()) - 3000


def test_values_that_no_reader_would_take_are_dropped_too():
    document = crowd(12, 12, nodes=6)
    items = count_items(document.unbounded())
    after = fit(document, max_items=items - 200)
    assert 0 < len(after.reports) < 6
    assert count_items(after.unbounded()) <= items - 200


@pytest.mark.parametrize("limit", ["REGISTRY_MAX_BYTES", "JSON_MAX_ITEMS"])
def test_document_of_too_many_models_is_refused_with_a_way_out(monkeypatch, limit):
    document = crowd(0, 0, nodes=0)
    monkeypatch.setattr(f"dreamer.protocol.registry.document.{limit}", 1000)
    with pytest.raises(InputError, match="withdraw models"):
        fit(document, max_bytes=1000).encode()


def test_merged_document_keeps_its_size_the_same_from_either_side(room, monkeypatch):
    base = room.change(room.empty(), Publish(room.entry(1)))
    report = ReportNode(NodeReport(name="x" * 50))
    one = two = base
    for number in range(2, 8):
        one = room.change(one, report, author=room.author(number, "member"))
        two = room.change(two, report, author=room.author(number + 10, "member"))
    bound = partial(fit, max_bytes=len(one.document.unbounded()) + 700)
    monkeypatch.setattr("dreamer.protocol.registry.merge.fit", bound)

    def run(ours, theirs):
        return merge(ours, theirs, room.verify_member, room.now)

    both = run(one.document, two.document)
    assert both == run(two.document, one.document)
    assert run(both, one.document) is both
    assert 0 < len(both.reports) < 12
    serials = sorted(record.serial for record in both.reports.values())
    assert serials[-1] == 7
    assert list(both.models) == list(base.document.models)
