from dataclasses import replace

import pytest

from dreamer.protocol.canonical import dumps, loads
from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import CLOCK_SKEW_S
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.document import Published, parse
from dreamer.protocol.registry.reading import INTEGER_MAX
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.verify import accept_newer, verify
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES, REGISTRY_MAX_SERIAL_GAP

A = ManifestId(b"\x01" * 32)
B = ManifestId(b"\x02" * 32)


@pytest.fixture
def stored(room):
    """A document with two models, an alias that moved from A to B, and a tag."""
    state = room.change(room.empty(), Publish(room.entry(1)), Publish(room.entry(2)))
    state = room.change(state, MoveAlias("prod", A), ChangeTags(A, add=("good",)))
    return room.change(state, MoveAlias("prod", B))


@pytest.fixture
def forged(room, stored):
    """Returns what is believed after somebody edited the stored JSON."""

    def edit(change):
        value = loads(stored.document.encode())
        change(value)
        return room.verify(parse(dumps(value), room.id))

    return edit


def faults(verified):
    return [report.fault for report in verified.reports]


def test_tampered_entry_is_ignored_and_reported(forged):
    after = forged(lambda value: value["models"][A.hex()]["entry"].update(size_bytes=5))
    assert list(after.registry.models) == [B]
    assert faults(after) == [Fault.WRONG_SIGNATURE]
    assert str(after.reports[0]).startswith("model 01010101 by ")


def test_entry_under_another_id_is_misplaced(forged):
    def swap(value):
        value["models"][A.hex()]["entry"] = value["models"][B.hex()]["entry"]

    after = forged(swap)
    assert list(after.registry.models) == [B]
    assert Fault.MISPLACED in faults(after)


def test_field_added_after_signing_breaks_the_signature(forged):
    after = forged(lambda value: value["models"][A.hex()]["entry"].update(note="mine"))
    assert faults(after) == [Fault.WRONG_SIGNATURE]


def test_alias_falls_back_to_the_last_believable_move(forged):
    after = forged(lambda value: value["aliases"]["prod"][1].update(at=1))
    assert after.registry.aliases == {"prod": A}


def test_reordered_alias_history_changes_nothing(forged):
    after = forged(lambda value: value["aliases"]["prod"].reverse())
    assert after.registry.aliases == {"prod": B}


def test_author_without_membership_is_ignored(forged):
    after = forged(lambda value: value["members"].clear())
    assert after.registry.models == {}
    assert set(faults(after)) == {Fault.NOT_A_MEMBER, Fault.SERIAL}


def test_chain_of_somebody_else_vouches_for_nobody(room, forged):
    other = room.author(9)

    def swap(value):
        for node in value["members"]:
            value["members"][node] = [other.chain]

    assert forged(swap).registry.models == {}


def test_plain_member_may_not_publish(room):
    after = room.force(room.empty(), Publish(room.entry(1)), author=room.author(3, "member"))
    assert after.registry.models == {}
    assert faults(after)[0] is Fault.NO_RIGHT
    assert "member" in str(after.reports[0])


def test_author_who_may_not_is_told_before_anything_is_written(room):
    with pytest.raises(ForbiddenError, match="only a member with the role publisher or admin"):
        room.change(room.empty(), Publish(room.entry(1)), author=room.author(3, "member"))
    with pytest.raises(ForbiddenError, match="expired"):
        room.change(room.empty(), Publish(room.entry(1)), author=room.author(3, not_after=1.0))


def test_models_outlive_the_certificate_of_their_publisher(room):
    brief = room.author(1, not_after=room.now + 10)
    after = room.change(room.empty(), Publish(room.entry(1)), author=brief)
    later = room.verify(after.document, now=room.now + 1000)
    assert list(later.registry.models) == [A]


def test_record_after_the_certificate_expired_is_ignored(room):
    expired = room.author(1, not_after=room.now - 10)
    after = room.force(room.empty(), Publish(room.entry(1)), author=expired)
    assert faults(after)[0] is Fault.NOT_A_MEMBER
    assert "expired" in str(after.reports[0])


def test_record_from_the_future_is_ignored(room):
    ahead = room.change(room.empty(), Publish(room.entry(1)), now=room.now + CLOCK_SKEW_S + 1)
    after = room.verify(ahead.document, now=room.now)
    assert faults(after)[0] is Fault.FROM_THE_FUTURE


def test_record_of_another_room_is_misplaced(room, stored):
    moved = replace(stored.document, room=RoomId(b"Q" * 32))
    after = room.verify(moved)
    assert after.registry.models == {}
    assert Fault.MISPLACED in faults(after)


def test_alias_of_a_dropped_model_is_reported(forged):
    after = forged(lambda value: value["models"].pop(B.hex()))
    assert after.registry.aliases == {}
    assert faults(after) == [Fault.DANGLING]


def test_malformed_record_is_left_out_and_the_rest_stays(forged):
    after = forged(lambda value: value["models"][A.hex()]["entry"].pop("name"))
    assert list(after.registry.models) == [B]
    assert faults(after) == [Fault.MALFORMED]
    assert "lacks 'name'" in str(after.reports[0])


def test_raised_serial_without_a_signed_change_is_reported_not_believed(forged):
    after = forged(lambda value: value.update(serial=99))
    assert (after.serial, faults(after)) == (3, [Fault.SERIAL])


def test_older_document_is_refused(room, stored):
    older = room.change(room.empty(), Publish(room.entry(1)))
    with pytest.raises(ForbiddenError, match=r"change 1, but change 3"):
        accept_newer(stored, older)
    assert accept_newer(older, stored) is stored
    assert accept_newer(None, older) is older


def test_older_document_with_a_raised_serial_is_refused(room, stored):
    older = room.change(room.empty(), Publish(room.entry(1)))
    relabelled = room.verify(replace(older.document, serial=99))
    with pytest.raises(ForbiddenError, match="old registry"):
        accept_newer(stored, relabelled)


def test_fields_of_a_later_version_survive_a_change(room, stored):
    value = loads(stored.document.encode())
    value["policies"] = {"keep": 3}
    value["models"][A.hex()]["availability"] = {"origin": True}
    later = room.verify(parse(dumps(value), room.id))
    after = loads(room.change(later, MoveAlias("prod", A)).document.encode())
    assert after["policies"] == {"keep": 3}
    assert after["models"][A.hex()]["availability"] == {"origin": True}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "object"),
        (b'{"format": "dreamer-room/1"}', "canonical"),
        (b'{"format":"dreamer-room/2"}', "update Dreamer"),
        (b'{"format":"dreamer-room/1","room":"' + b"ab" * 32 + b'"}', "not that of room"),
        (b'{"format":"dreamer-room/1","members":[]}', "lacks 'room'"),
    ],
)
def test_what_is_no_document_of_the_room_is_refused(room, data, message):
    with pytest.raises(InputError, match=message):
        parse(data, room.id)


@pytest.mark.parametrize("value", ["serial", -1, True, 2**60, None])
def test_serial_of_a_wrong_type_is_refused(forged, value):
    with pytest.raises(InputError, match="serial must be a whole number"):
        forged(lambda document: document.update(serial=value))


def test_chain_that_ran_out_between_two_changes_counts_for_the_first_only(room):
    brief = room.author(1, not_after=room.now + 10)
    one = room.change(room.empty(), Publish(room.entry(1)), author=brief)
    two = room.force(one, Publish(room.entry(2)), author=brief, now=room.now + 60)
    assert list(two.registry.models) == [A]
    assert Fault.NOT_A_MEMBER in faults(two)


def test_chain_is_not_checked_for_every_record(room, stored):
    checks = []

    def counting(room_id, chain, now):
        checks.append(now)
        return room.verify_member(room_id, chain, now)

    assert verify(stored.document, counting, room.now).reports == ()
    assert len(checks) == 2


def signed_with_serial(room, document, number, serial):
    """The document with one more model, which a publisher signed as that change."""
    author = room.author(7)
    record = sign(room.entry(number), room.id, author.key, room.now, serial)
    return replace(
        document,
        serial=serial,
        members={**document.members, NodeId(author.key.public): (author.chain,)},
        models={**document.models, record.said.manifest_id: Published(record)},
    )


def test_publisher_that_signs_the_largest_serial_does_not_end_the_changes(room, stored):
    poisoned = room.verify(signed_with_serial(room, stored.document, 9, INTEGER_MAX))
    assert Fault.SERIAL_JUMP in faults(poisoned)
    assert list(poisoned.registry.models) == [A, B]
    after = room.change(poisoned, Publish(room.entry(9)))
    assert (after.serial, after.reports) == (4, ())
    assert parse(after.document.encode(), room.id) == after.document


def test_serials_climb_in_steps_only_and_what_follows_a_step_is_believed(room, stored):
    climbing = stored.document
    for step in range(1, 4):
        climbing = signed_with_serial(room, climbing, 10 + step, step * REGISTRY_MAX_SERIAL_GAP)
    after = room.change(room.verify(climbing), MoveAlias("prod", A))
    assert (after.serial, after.reports) == (3 * REGISTRY_MAX_SERIAL_GAP + 1, ())
    # Whoever climbed may be thrown out later: the changes of others still stand.
    thrown_out = replace(
        after.document,
        members={
            node: chains
            for node, chains in after.document.members.items()
            if node != room.author(7).key.public
        },
    )
    assert room.verify(thrown_out).registry.aliases == {"prod": A}


def test_no_document_is_large_enough_to_climb_to_the_last_serial():
    smallest_record_bytes = 400
    steps = REGISTRY_MAX_BYTES // smallest_record_bytes
    assert steps * REGISTRY_MAX_SERIAL_GAP < INTEGER_MAX / 100


def test_change_follows_on_a_record_that_is_not_believed_yet(room, stored):
    ahead = room.change(stored, MoveAlias("prod", A), now=room.now + CLOCK_SKEW_S + 60)
    seen_now = room.verify(ahead.document)
    assert (seen_now.serial, seen_now.last_serial) == (3, 4)
    assert room.change(seen_now, MoveAlias("best", A)).serial == 5
