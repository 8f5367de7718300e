"""What a node answers to linked members, honest and otherwise."""

from __future__ import annotations

import pytest

from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.transport.vocabulary import Serve
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.ids import RoomId
from dreamer.protocol.limits import (
    FOLLOWS_MAX_PER_LINK,
    OBJECT_REQUESTS_MAX_PER_LINK,
    REQUEST_MAX_BLOCKS,
    REQUESTS_QUEUED_PER_PEER,
)
from dreamer.protocol.link.messages import (
    CancelWant,
    Follow,
    Gained,
    GetObject,
    Have,
    ObjectPiece,
    Refuse,
    Unfollow,
    Want,
)
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.swarm import bitfield, followers

UNKNOWN = b"?" * 32
OTHER_ROOM = RoomId(b"o" * 32)


def heard(two, kind):
    return [message for message in two.taker.heard.messages if isinstance(message, kind)]


async def ask(two, kit, *messages, answers=1):
    """Send messages from the taker; return what the giver said since, once it has."""
    before = len(two.taker.heard.messages)
    for message in messages:
        two.taker_end.say(message)
    await kit.until(lambda: len(two.taker.heard.messages) >= before + answers)
    return two.taker.heard.messages[before:]


# Saying what we have


async def test_a_follower_hears_what_is_held(two, kit) -> None:
    (have,) = await ask(two, kit, Follow(two.manifest.id))
    everything = bitfield.full(two.manifest.block_count)
    assert have == Have(two.manifest.id, bitfield.encode(everything, two.manifest.block_count))


async def test_a_model_that_is_not_here_is_held_as_nothing(two, kit) -> None:
    assert await ask(two, kit, Follow(UNKNOWN)) == [Have(UNKNOWN, b"")]


async def test_a_model_of_another_room_is_not_spoken_of(two, kit) -> None:
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.library.offer(OTHER_ROOM, two.manifest.id, two.manifest, 0b111)
    assert await ask(two, kit, Follow(two.manifest.id)) == [Have(two.manifest.id, b"")]
    (refused,) = await ask(two, kit, Want(1, two.manifest.id, 0, 1, False))
    assert isinstance(refused, Refuse)
    assert not refused.busy
    for digest in (two.manifest.id, two.manifest.outboard):
        (refused,) = await ask(two, kit, GetObject(2, digest, 0))
        assert isinstance(refused, Refuse)
    assert two.giver.sent_blocks == 0


async def test_followers_hear_of_gained_blocks_together_and_others_do_not(two, kit) -> None:
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.offer(two.manifest, 0)
    await ask(two, kit, Follow(two.manifest.id))
    for block in (0, 1, 2, 5):
        two.giver.offer(two.manifest, 1 << block)
    await kit.until(lambda: len(heard(two, Gained)) == 2)
    assert heard(two, Gained) == [Gained(two.manifest.id, 0, 3), Gained(two.manifest.id, 5, 1)]
    two.taker_end.say(Unfollow(two.manifest.id))
    await ask(two, kit, Follow(UNKNOWN))
    two.giver.offer(two.manifest, 1 << 6)
    await ask(two, kit, Follow(UNKNOWN))
    assert two.giver.serving.giving.next_wake(0.0) == float("inf"), "there is nobody to tell"


async def test_scattered_gains_are_told_as_one_bitfield(two, kit, monkeypatch) -> None:
    monkeypatch.setattr(followers, "GAINED_RUNS_MAX", 3)
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.offer(two.manifest, 0)
    await ask(two, kit, Follow(two.manifest.id))
    two.giver.offer(two.manifest, 0b1010101)
    await kit.until(lambda: len(two.taker.heard.messages) > 1)
    assert heard(two, Gained) == []
    assert heard(two, Have)[1:] == [Have(two.manifest.id, bitfield.encode(0b1010101, 9))]


async def test_offering_nothing_new_says_nothing(two, kit) -> None:
    await ask(two, kit, Follow(two.manifest.id))
    two.giver.offer(two.manifest)
    two.giver.offer(two.manifest, 0)
    assert await ask(two, kit, Follow(UNKNOWN)) == [Have(UNKNOWN, b"")]


async def test_a_withdrawn_model_is_taken_back_and_nothing_of_it_is_promised_after(
    two, kit
) -> None:
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.offer(two.manifest, 1)
    await ask(two, kit, Follow(two.manifest.id))
    two.giver.offer(two.manifest, 2)
    (have,) = await ask(two, kit, *_withdrawn(two))
    assert have == Have(two.manifest.id, b"")
    assert two.giver.serving.giving.tick(float("inf")) == []
    await ask(two, kit, Follow(UNKNOWN))
    assert heard(two, Gained) == []


def _withdrawn(two):
    two.giver.library.withdraw_everywhere(two.manifest.id)
    return ()


async def test_what_a_lost_member_followed_is_forgotten(two, kit) -> None:
    await ask(two, kit, Follow(two.manifest.id), Follow(UNKNOWN), answers=2)
    two.taker_end.cut("gone")
    assert two.giver.serving.giving.followed() == []
    two.taker.library.withdraw_everywhere(two.manifest.id)


async def test_a_member_that_follows_more_than_there_can_be_is_dropped(two, kit) -> None:
    for number in range(FOLLOWS_MAX_PER_LINK + 1):
        two.taker_end.say(Follow(number.to_bytes(32, "big")))
    await kit.until(lambda: two.taker_end.far is None)
    assert two.giver.serving.giving.followed() == []


# Giving it


async def test_wanted_blocks_are_sent(two, kit) -> None:
    two.taker_end.say(Want(7, two.manifest.id, 1, 3, False))
    await kit.until(lambda: two.giver.sent_blocks == 3)
    await kit.until(lambda: not two.giver.serving.giving.open_requests(two.giver_end.number))


async def test_blocks_not_held_are_refused(two, kit) -> None:
    two.giver.library.withdraw_everywhere(two.manifest.id)
    two.giver.offer(two.manifest, 0b11)
    assert await ask(two, kit, Want(1, two.manifest.id, 1, 2, False)) == [
        Refuse(1, False, "this node does not have these blocks")
    ]
    assert await ask(two, kit, Want(2, UNKNOWN, 0, 1, False)) == [
        Refuse(2, False, "this node does not have the model")
    ]


@pytest.mark.parametrize(
    ("request_number", "first", "count"),
    [
        (1, 0, 0),
        (1, 0, -1),
        (1, -1, 1),
        (1, 0, REQUEST_MAX_BLOCKS + 1),
        (1, 9, 1),
        (1, 2**63, 1),
        (-1, 0, 1),
        (2**32, 0, 1),
    ],
)
async def test_a_want_for_what_can_not_exist_closes_the_link(
    two, kit, request_number, first, count
) -> None:
    assert isinstance(two.manifest, Manifest)
    assert two.manifest.block_count == 9
    two.taker_end.say(Want(request_number, two.manifest.id, first, count, False))
    await kit.until(lambda: two.taker_end.far is None)
    assert two.giver.sent_blocks == 0


async def test_too_many_open_requests_are_refused_as_busy(two, kit) -> None:
    two.giver.stuck = True
    wants = [Want(n, two.manifest.id, 0, 1, False) for n in range(REQUESTS_QUEUED_PER_PEER + 1)]
    (refused,) = await ask(two, kit, *wants)
    assert refused == Refuse(REQUESTS_QUEUED_PER_PEER, True, "too many requests are open")


async def test_cancelled_blocks_are_not_sent(two, kit) -> None:
    two.taker_end.say(Want(1, two.manifest.id, 0, 9, False))
    two.taker_end.say(CancelWant(1, 4))
    two.taker_end.say(Want(2, two.manifest.id, 0, 9, False))
    two.taker_end.say(CancelWant(2, -1))
    two.taker_end.say(CancelWant(99, -1))
    await kit.until(lambda: two.giver.sent_blocks == 8)
    await ask(two, kit, Follow(UNKNOWN))
    assert two.giver.sent_blocks == 8


async def test_a_file_damaged_on_disk_is_refused_and_reported(two, kit) -> None:
    weights = two.manifest.files[-1]
    place = two.giver.store.locate(two.manifest, two.manifest.block_count - 1).path
    place.chmod(0o600)
    two.giver.stuck = True
    two.taker_end.say(Want(1, two.manifest.id, 8, 1, False))
    await kit.until(lambda: two.giver_end.queue)
    place.write_bytes(b"short")
    two.giver.stuck = False
    two.giver_end.send_next()
    await kit.until(lambda: heard(two, Refuse))
    (refused,) = heard(two, Refuse)
    assert not refused.busy
    assert two.giver.damaged == [two.manifest.id]
    assert weights.size_bytes > 5


async def test_a_file_moved_into_the_store_meanwhile_is_asked_for_again(two, kit) -> None:
    two.giver.stuck = True
    two.taker_end.say(Want(1, two.manifest.id, 8, 1, False))
    await kit.until(lambda: two.giver_end.queue)
    request, (block, _, offset, length) = two.giver_end.queue[0]
    two.giver_end.queue[0] = (request, (block, str(two.giver.store.root / "gone"), offset, length))
    two.giver.stuck = False
    two.giver_end.send_next()
    await kit.until(lambda: heard(two, Refuse))
    assert heard(two, Refuse)[0] == Refuse(1, True, "ask again")
    assert two.giver.damaged == []


async def test_what_was_withdrawn_after_it_was_asked_for_is_not_sent(two, kit) -> None:
    two.giver.serving.uploads.pace = Pace(Limits(Rates(up=20e6)))
    two.taker_end.say(Want(1, two.manifest.id, 0, 9, False))
    await kit.until(lambda: two.giver.sent_blocks > 0)
    two.giver.library.withdraw_everywhere(two.manifest.id)
    # The same model again, of which the disk has lost all but a block.
    two.giver.offer(two.manifest, 1)
    await kit.until(lambda: heard(two, Refuse))
    assert not heard(two, Refuse)[0].busy
    assert two.giver.sent_blocks < 9
    assert two.giver.damaged == []


# Objects


async def test_objects_are_sent_in_pieces(two, kit) -> None:
    data = two.giver.store.get_object(two.manifest.id)
    (piece,) = await ask(two, kit, GetObject(1, two.manifest.id, 0))
    assert piece == ObjectPiece(1, len(data), 0, data)
    (piece,) = await ask(two, kit, GetObject(2, two.manifest.id, 10))
    assert piece == ObjectPiece(2, len(data), 10, data[10:])


@pytest.mark.parametrize("offset", [-1, 2**40])
async def test_a_piece_outside_an_object_is_refused(two, kit, offset) -> None:
    (refused,) = await ask(two, kit, GetObject(1, two.manifest.id, offset))
    assert isinstance(refused, Refuse)


async def test_other_objects_of_the_store_are_not_given_away(two, kit, world) -> None:
    secret = two.giver.ingest(world.files({"secret": b"of another room"}, "other"))
    (refused,) = await ask(two, kit, GetObject(1, secret.id, 0))
    assert isinstance(refused, Refuse)


async def test_objects_asked_for_all_at_once_are_refused_beyond_a_few(two, kit) -> None:
    asked = [GetObject(n, two.manifest.id, 0) for n in range(3 * OBJECT_REQUESTS_MAX_PER_LINK)]
    answers = await ask(two, kit, *asked, answers=len(asked))
    busy = [one for one in answers if isinstance(one, Refuse) and one.busy]
    served = [one for one in answers if isinstance(one, ObjectPiece)]
    assert len(served) == OBJECT_REQUESTS_MAX_PER_LINK
    assert len(busy) == len(asked) - len(served)
    (again,) = await ask(two, kit, GetObject(99, two.manifest.id, 0))
    assert isinstance(again, ObjectPiece)


@pytest.mark.parametrize("ended", [0, 1])
async def test_a_link_that_goes_in_the_midst_of_several_requests_holds_nobody_up(
    two, world, kit, ended
) -> None:
    two.giver.stuck = True
    wants = [Want(request, two.manifest.id, request, 1, False) for request in range(4)]
    two.taker_end.expected.clear()
    for want in wants:
        two.taker_end.say(want)
    await kit.until(lambda: len(two.giver_end.queue) > ended)
    two.giver_end.cut("gone")
    two.giver.stuck = False
    # The same member comes back, and is served as if nothing had been.
    world.join(two.giver, two.taker)
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    await pulling.run()
    assert pulling.whole


# Slots and limits


async def test_a_member_beyond_the_upload_slots_is_told_to_come_back(two, world, kit) -> None:
    two.giver.stuck = True
    two.giver.serving.uploads.pace = Pace(slots=1)
    two.taker_end.say(Want(1, two.manifest.id, 0, 2, False))
    await kit.until(lambda: two.giver_end.queue)
    third = world.node()
    third_end, _ = world.join(third, two.giver)
    third_end.say(Want(1, two.manifest.id, 0, 2, False))
    await kit.until(lambda: third.heard.messages)
    (refused,) = [one for one in third.heard.messages if isinstance(one, Refuse)]
    assert refused == Refuse(1, True, "all upload slots are taken")
    two.taker_end.cut("gone")
    third_end.say(Want(2, two.manifest.id, 0, 2, False))
    await kit.until(lambda: two.giver.serving.giving.open_requests(_far(third_end).number))


def _far(end):
    return end.far


async def test_a_limited_request_goes_out_block_by_block_and_to_its_end(two, kit) -> None:
    two.giver.serving.uploads.pace = Pace(Limits(Rates(up=30e6)))
    served = []
    take = two.giver_end.take

    def watched(command):
        if isinstance(command, Serve):
            served.append(len(command.spans))
        take(command)

    two.giver_end.link.pass_on = watched
    object.__setattr__(two.giver_end.link.bulk, "pass_on", watched)
    two.taker_end.say(Want(1, two.manifest.id, 0, 9, False))
    await kit.until(lambda: two.giver.sent_blocks == 9)
    assert sum(served) == 9
    assert len(served) > 2, "a slice at a time"
    await kit.until(lambda: not two.giver.serving.giving.open_requests(two.giver_end.number))


async def test_what_is_cancelled_while_it_waits_for_its_turn_is_not_sent(two, kit) -> None:
    two.giver.serving.uploads.pace = Pace(Limits(Rates(up=20e6)))
    two.taker_end.say(Want(1, two.manifest.id, 0, 9, False))
    for block in range(5, 9):
        two.taker_end.say(CancelWant(1, block))
    await kit.until(lambda: two.giver.sent_blocks == 5)
    await kit.until(lambda: not two.giver.serving.giving.open_requests(two.giver_end.number))
    assert two.giver.sent_blocks == 5
