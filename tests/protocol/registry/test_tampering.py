"""What a liar does to each kind of record, and that it gains nothing by it.

The kinds that came first have such tests in ``test_verify``, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from dreamer.protocol.canonical import dumps, loads
from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import CLOCK_SKEW_S
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.changes import MoveAlias, Publish
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.policy import AliasProtection, Retention, RoomPolicy
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import Statement, Withdrawal
from dreamer.protocol.registry.verify import accept_newer
from dreamer.protocol.registry.view import Registry
from dreamer.protocol.registry_limits import REGISTRY_MAX_SERIAL_GAP

A = ManifestId(b"\x01" * 32)
B = ManifestId(b"\x02" * 32)


@dataclass(frozen=True)
class Kind:
    """One kind of record: an honest one, a later one about the same, a field to change in it."""

    name: str
    said: Statement
    later: Statement
    path: tuple[str, ...]
    edit: dict[str, object]
    roles: tuple[str, ...]
    too_low: str

    def believed(self, registry: Registry) -> object:
        """What the view says of the thing that the record is about."""
        match self.name:
            case "stored":
                model = registry.models.get(A)
                return model and model.stored
            case "report":
                return dict(registry.reports)
            case "protection":
                return dict(registry.protections)
            case "withdrawal":
                return sorted(registry.withdrawn)
            case _:
                return registry.policy


KINDS = [
    Kind(
        "stored",
        Stored(A, "s3://bucket/x", 10, 9),
        Stored(A, None),
        ("models", A.hex(), "stored"),
        {"origin": "s3://evil/x"},
        ("worker",),
        "member",
    ),
    Kind(
        "report",
        NodeReport(((A, True),), {"2026-11": {"origin-down": 5}}, "gpu"),
        NodeReport(name="later"),
        ("reports", "BY"),
        {"name": "other"},
        ("member",),
        "",
    ),
    Kind(
        "protection",
        AliasProtection("prod", ("admin",), A),
        AliasProtection("prod", (), A),
        ("protections", "prod", "0"),
        {"roles": []},
        ("admin",),
        "publisher",
    ),
    Kind(
        "withdrawal",
        Withdrawal(A, "old"),
        Withdrawal(A, "later"),
        ("withdrawn", A.hex()),
        {"reason": "better"},
        ("publisher",),
        "worker",
    ),
    Kind(
        "policy",
        RoomPolicy(Retention(keep_last=3)),
        RoomPolicy(Retention(keep_last=9)),
        ("policy",),
        {"offload": {"member": ["admin"]}},
        ("admin",),
        "publisher",
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


@pytest.fixture
def base(room):
    """Two models and an alias, without a record of the kind."""
    return room.change(
        room.empty(), Publish(room.entry(1)), Publish(room.entry(2)), MoveAlias("prod", A)
    )


@pytest.fixture
def author(room, kind):
    return room.author(5, *kind.roles)


@pytest.fixture
def stored(room, base, kind, author):
    """``base`` with an honest record of the kind."""
    found = room.put(base, kind.said, author)
    assert found.reports == ()
    return found


@pytest.fixture
def edited(room, stored, kind, author):
    """Returns what is believed after somebody changed the record's JSON in the store."""

    def edit(change):
        value = loads(stored.document.encode())
        place = value
        for step in kind.path[:-1]:
            place = place[step]
        last = kind.path[-1].replace("BY", author.key.public.hex())
        change(place, int(last) if isinstance(place, list) else last)
        return room.verify(parse(dumps(value), room.id))

    return edit


def faults(verified):
    return [report.fault for report in verified.reports]


def test_honest_record_is_believed_and_survives_the_document(room, base, stored, kind):
    again = room.verify(parse(stored.document.encode(), room.id))
    assert again == stored
    assert kind.believed(stored.registry) != kind.believed(base.registry)


def test_changed_field_breaks_the_signature(base, edited, kind):
    after = edited(lambda place, key: place[key].update(kind.edit))
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.WRONG_SIGNATURE in faults(after)


def test_added_field_breaks_the_signature(base, edited, kind):
    after = edited(lambda place, key: place[key].update({"added": True}))
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.WRONG_SIGNATURE in faults(after)


def test_record_in_the_name_of_another_is_not_believed(room, base, edited, kind):
    admin = room.author(6, "admin").key.public.hex()
    after = edited(lambda place, key: place[key].update({"by": admin}))
    assert kind.believed(after.registry) == kind.believed(base.registry)
    # A report stands under its author's key, so it is out of place before anything else.
    assert {Fault.WRONG_SIGNATURE, Fault.MISPLACED} & set(faults(after))


def test_record_of_who_is_no_member_is_not_believed(room, base, kind):
    stranger = room.author(9, *kind.roles, not_after=room.now - 1)
    after = room.put(base, kind.said, stranger)
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.NOT_A_MEMBER in faults(after)


@pytest.mark.parametrize(
    "kind", [one for one in KINDS if one.too_low], ids=lambda kind: kind.name, indirect=True
)
def test_record_of_a_role_that_does_not_allow_it_is_not_believed(room, base, kind):
    after = room.put(base, kind.said, room.author(9, kind.too_low))
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.NO_RIGHT in faults(after)


@pytest.mark.parametrize(
    "kind",
    [one for one in KINDS if one.name != "policy"],
    ids=lambda kind: kind.name,
    indirect=True,
)
def test_record_moved_to_another_key_is_not_believed(room, stored, kind, author):
    document, record = stored.document, None
    match kind.name:
        case "stored":
            record = document.models[A].stored
            model = replace(document.models[B], stored=record)
            document = replace(document, models={**document.models, B: model})
        case "report":
            record = document.reports[author.key.public]
            document = replace(document, reports={NodeId(b"o" * 32): record})
        case "protection":
            record = document.protections["prod"]
            document = replace(document, protections={"other": record})
        case "withdrawal":
            record = document.withdrawn[A]
            document = replace(document, withdrawn={B: record})
    after = room.verify(parse(document.encode(), room.id))
    assert Fault.MISPLACED in faults(after)
    assert after.registry.models[B].stored is None
    assert "other" not in after.registry.protections
    assert NodeId(b"o" * 32) not in after.registry.reports
    assert B in after.registry.models


def test_record_of_another_room_is_not_believed(room, base, kind, author):
    elsewhere = type(room)()
    elsewhere.id = RoomId(b"Q" * 32)
    after = elsewhere.put(base, kind.said, author)
    # Signed for room Q; put into the document of room R.
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.MISPLACED in faults(after)


def test_record_from_the_future_waits_until_then(room, base, kind, author):
    at = room.now + CLOCK_SKEW_S + 60
    early = room.put(base, kind.said, author, at=at)
    assert kind.believed(early.registry) == kind.believed(base.registry)
    assert Fault.FROM_THE_FUTURE in faults(early)
    then = room.verify(early.document, at)
    assert (kind.believed(then.registry) != kind.believed(base.registry), then.reports) == (
        True,
        (),
    )


def test_record_with_a_number_far_ahead_is_not_believed(room, base, kind, author):
    after = room.put(base, kind.said, author, serial=base.serial + REGISTRY_MAX_SERIAL_GAP + 1)
    assert kind.believed(after.registry) == kind.believed(base.registry)
    assert Fault.SERIAL_JUMP in faults(after)


def test_old_record_does_not_displace_a_later_one_by_merging(room, stored, kind, author):
    later = room.put(stored, kind.later, author)
    for ours, theirs in ((later, stored), (stored, later)):
        merged = merge(ours.document, theirs.document, room.verify_member, room.now)
        found = room.verify(merged)
        assert kind.believed(found.registry) == kind.believed(later.registry)
        assert found.serial == later.serial


def test_document_with_the_old_record_is_refused_as_older(room, stored, kind, author):
    later = room.put(stored, kind.later, author)
    with pytest.raises(ForbiddenError, match="old registry"):
        accept_newer(later, stored)
    relabelled = replace(stored.document, serial=later.serial)
    with pytest.raises(ForbiddenError, match="old registry"):
        accept_newer(later, room.verify(relabelled))


def test_forged_record_is_not_taken_over_by_merging(room, base, kind):
    stranger = room.author(9, *kind.roles, not_after=room.now - 1)
    forged = room.put(base, kind.said, stranger).document
    assert merge(base.document, forged, room.verify_member, room.now) is base.document


def test_what_is_believed_displaces_a_forged_record_by_merging(room, base, stored, kind):
    stranger = room.author(9, *kind.roles, not_after=room.now - 1)
    spoilt = room.put(base, kind.later, stranger)
    merged = merge(spoilt.document, stored.document, room.verify_member, room.now)
    assert kind.believed(room.verify(merged).registry) == kind.believed(stored.registry)


def test_empty_document_takes_every_kind_over(room, stored, kind):
    merged = merge(Document(room.id), stored.document, room.verify_member, room.now)
    assert kind.believed(room.verify(merged).registry) == kind.believed(stored.registry)
