"""Who is told what and given what, in virtual time: a whole serving side without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dreamer.protocol.errors import LocalProtocolError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    FOLLOWS_MAX_PER_LINK,
    GAINED_RUNS_MAX,
    HAVE_FLUSH_MAX_S,
    HAVE_FLUSH_MIN_S,
    REQUEST_MAX_BLOCKS,
    REQUESTS_QUEUED_PER_PEER,
    UPLOAD_CALLED_S,
    UPLOAD_CALLED_SLACK_S,
    UPLOAD_SLICE_BLOCKS,
    UPLOAD_SLOTS,
)
from dreamer.protocol.link.messages import (
    CancelWant,
    Follow,
    Gained,
    Have,
    Message,
    Ping,
    Refuse,
    Unfollow,
    Want,
)
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.shaping.uploads import Uploads
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.giving import SLOT_FREE, Giving
from dreamer.protocol.swarm.giving_vocabulary import (
    Command,
    Failure,
    Say,
    SendBlocks,
    StopSending,
    Tell,
)
from dreamer.protocol.swarm.vocabulary import Lane

MODEL = ManifestId(b"m" * 32)
OTHER = ManifestId(b"o" * 32)
BLOCKS = 64
ALL = bitfield.full(BLOCKS)
NEVER = float("inf")


@dataclass
class Linked:
    """A link as this node sees it."""

    number: int
    peer: str
    bulk_spent: bool = False
    direct_up: bool = False
    lan: bool = False

    def lane_of(self, *, direct: bool) -> Lane:
        return Lane.DIRECT if direct else Lane.WEBRTC


class Giver:
    """A node's serving side, the time, and all it has said."""

    def __init__(self, held: int = ALL, rate: float | None = None, slots: int = UPLOAD_SLOTS):
        buckets = Buckets(lan_exempt=True)
        buckets.set_rates(rate, {}, 0.0)
        self.now = 0.0
        self.giving = Giving(Uploads(slots, buckets))
        self.giving.offer(MODEL, held, BLOCKS, 0.0)

    def hears(self, link: Linked, *messages: Message) -> list[Command]:
        return [c for one in messages for c in self.giving.message(link, one, self.now)]

    def tells(self) -> list[Say]:
        """Let time pass until something is due to be said; return what each member hears."""
        said: list[Say] = []
        for command in self.waits():
            match command:
                case Tell(links, message):
                    said += [Say(link, message) for link in links]
                case Say():
                    said.append(command)
        return said

    def waits(self) -> list[Command]:
        """Let time pass until something is due; return what that led to."""
        self.now = self.giving.next_wake(self.now)
        assert self.now < NEVER, "nothing is due"
        return self.giving.tick(self.now)

    def sends(self, *sent: SendBlocks) -> list[Command]:
        """Have slices leave; return what that led to."""
        return [c for one in sent for c in self.giving.sent(one.link, one.request, self.now)]


@pytest.fixture
def giver() -> Giver:
    return Giver()


A = Linked(1, "a")
B = Linked(2, "b")


def want(request: int, first: int = 0, count: int = 1, direct: bool = False) -> Want:
    return Want(request, MODEL, first, count, direct)


def have(blocks: int) -> Have:
    return Have(MODEL, bitfield.encode(blocks, BLOCKS))


def refused(commands: list[Command]) -> list[tuple[int, bool]]:
    """Return (request, busy) of each refusal."""
    said = [one.message for one in commands if isinstance(one, Say)]
    return [(one.request, one.busy) for one in said if isinstance(one, Refuse)]


# Saying what is held


def test_follower_hears_what_is_held_and_of_unknown_models_that_nothing_is(giver) -> None:
    assert giver.hears(A, Follow(MODEL)) == [Say(1, have(ALL))]
    assert giver.hears(A, Follow(OTHER)) == [Say(1, Have(OTHER, b""))]


def test_gains_are_told_together_after_a_moment_to_followers_only() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL))
    giver.hears(B, Follow(OTHER))
    for block in (0, 1, 2, 5):
        assert giver.giving.gained(MODEL, 1 << block, 0.0) == []
    assert giver.giving.tick(HAVE_FLUSH_MIN_S / 2) == []
    assert giver.tells() == [Say(1, Gained(MODEL, 0, 3)), Say(1, Gained(MODEL, 5, 1))]
    assert giver.now == HAVE_FLUSH_MIN_S
    assert giver.giving.next_wake(giver.now) == NEVER


def test_who_has_a_block_is_not_told_of_it() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL), have(0b1))
    giver.hears(B, Follow(MODEL), Gained(MODEL, 1, 1))
    giver.giving.gained(MODEL, 0b1, 0.0)
    assert giver.tells() == [Say(2, Gained(MODEL, 0, 1))]
    giver.giving.gained(MODEL, 0b10, giver.now)
    assert giver.tells() == [Say(1, Gained(MODEL, 1, 1))]


def test_who_was_not_told_of_some_hears_all_once_it_is_whole_here() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL), have(0b1))
    giver.hears(B, Follow(MODEL))
    giver.giving.gained(MODEL, 0b1, 0.0)
    giver.tells()
    giver.giving.gained(MODEL, ALL & ~1, giver.now)
    assert giver.tells() == [Say(1, have(ALL)), Say(2, Gained(MODEL, 1, BLOCKS - 1))]


def test_who_loses_what_it_had_hears_what_it_was_not_told_of() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL), have(0b11))
    giver.giving.gained(MODEL, 0b1, 0.0)
    assert giver.tells() == []
    assert giver.hears(A, have(0b10)) == [Say(1, have(0b1))]
    assert giver.hears(A, have(0b0)) == [], "nothing was kept from it since"


def test_what_nobody_can_have_gained_is_not_remembered(giver) -> None:
    giver.hears(A, Follow(MODEL))
    for first, count in ((-1, 2), (0, 0), (BLOCKS, 1), (0, 1 << 40)):
        assert giver.hears(A, Gained(MODEL, first, count)) == []


def test_after_many_gains_the_next_are_gathered_for_longer() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL))
    giver.giving.gained(MODEL, bitfield.span(0, BLOCKS - 1), 0.0)
    giver.waits()
    began = giver.now
    giver.giving.gained(MODEL, 1 << (BLOCKS - 1), began)
    giver.waits()
    assert HAVE_FLUSH_MIN_S < giver.now - began <= HAVE_FLUSH_MAX_S


@pytest.mark.parametrize(("runs", "kind"), [(GAINED_RUNS_MAX, Gained), (GAINED_RUNS_MAX + 1, Have)])
def test_gains_in_too_many_runs_are_told_as_one_bitfield(giver, runs, kind) -> None:
    giver.giving.offer(OTHER, 0, 2 * runs, 0.0)
    giver.hears(A, Follow(OTHER))
    giver.giving.gained(OTHER, sum(1 << 2 * n for n in range(runs)), 0.0)
    said = giver.waits()
    assert {type(one.message) for one in said} == {kind}
    assert len(said) == (runs if kind is Gained else 1)


def test_several_models_are_told_of_each_to_its_own_followers(giver) -> None:
    giver.giving.offer(MODEL, 0, BLOCKS, 0.0)
    giver.giving.offer(OTHER, 0, 8, 0.0)
    giver.hears(A, Follow(MODEL), Follow(OTHER))
    giver.hears(B, Follow(OTHER))
    giver.giving.gained(MODEL, 1, 0.0)
    giver.giving.gained(OTHER, 2, 0.0)
    assert giver.tells() == [
        Say(1, Gained(MODEL, 0, 1)),
        Say(1, Gained(OTHER, 1, 1)),
        Say(2, Gained(OTHER, 1, 1)),
    ]


def test_offering_more_is_a_gain_and_offering_the_same_says_nothing() -> None:
    giver = Giver(held=1)
    giver.hears(A, Follow(MODEL))
    assert giver.giving.offer(MODEL, 1, BLOCKS, 0.0) == []
    assert giver.giving.next_wake(0.0) == NEVER
    assert giver.giving.offer(MODEL, 3, BLOCKS, 0.0) == []
    assert giver.tells() == [Say(1, Gained(MODEL, 1, 1))]


def test_what_is_lost_is_taken_back_at_once_and_nothing_of_it_promised_after() -> None:
    giver = Giver(held=0b111)
    giver.hears(A, Follow(MODEL))
    giver.giving.gained(MODEL, 0b1000, 0.0)
    assert giver.giving.offer(MODEL, 0b1, BLOCKS, 0.0) == [Say(1, have(0b1))]
    assert giver.giving.next_wake(0.0) == NEVER
    giver.giving.gained(MODEL, 0b10, 0.0)
    assert giver.giving.offer(MODEL, None, BLOCKS, 0.0) == [Say(1, Have(MODEL, b""))]
    assert giver.giving.tick(1.0) == []
    assert giver.giving.offer(MODEL, 0, BLOCKS, 1.0) == [Say(1, have(0))]


def test_gains_of_a_model_that_is_not_offered_are_a_mistake_of_ours(giver) -> None:
    with pytest.raises(LocalProtocolError):
        giver.giving.gained(OTHER, 1, 0.0)


def test_who_unfollowed_or_is_gone_hears_no_more() -> None:
    giver = Giver(held=0)
    giver.hears(A, Follow(MODEL), Unfollow(MODEL), Unfollow(OTHER))
    giver.hears(B, Follow(MODEL))
    giver.giving.gained(MODEL, 1, 0.0)
    giver.giving.link_down(B.number)
    assert giver.waits() == []
    assert giver.giving.followed() == []


def test_following_more_models_than_there_can_be_breaks_the_protocol(giver) -> None:
    for number in range(FOLLOWS_MAX_PER_LINK):
        giver.hears(A, Follow(number.to_bytes(32, "big")))
    with pytest.raises(RemoteProtocolError):
        giver.hears(A, Follow(MODEL))
    giver.giving.link_down(A.number)
    assert giver.giving.followed() == []


def test_what_is_not_for_this_side_is_left_alone(giver) -> None:
    assert giver.hears(A, Ping(1), Have(MODEL, b""), Refuse(1, True, "")) == []


# Admitting


def test_wanted_blocks_are_sent_and_the_request_ends_with_them(giver) -> None:
    (sent,) = giver.hears(A, want(7, 3, 4))
    assert sent == SendBlocks(1, 7, MODEL, (3, 4, 5, 6), direct=False)
    assert giver.giving.open_requests(1) == 1
    assert giver.sends(sent) == []
    assert giver.giving.open_requests(1) == 0
    assert giver.giving.next_wake(giver.now) == NEVER


def test_blocks_and_models_not_held_are_refused_for_good() -> None:
    giver = Giver(held=0b1011)
    said = giver.hears(A, want(1, 1, 2), Want(2, OTHER, 0, 1, False), want(3, 0, 2))
    assert refused(said) == [(1, False), (2, False)]
    assert SendBlocks(1, 3, MODEL, (0, 1), direct=False) in said


@pytest.mark.parametrize(
    ("request_number", "first", "count"),
    [
        (1, 0, 0),
        (1, 0, -1),
        (1, -1, 1),
        (1, 0, REQUEST_MAX_BLOCKS + 1),
        (1, BLOCKS, 1),
        (1, BLOCKS - 1, 2),
        (1, 2**63, 1),
        (-1, 0, 1),
        (2**32, 0, 1),
    ],
)
def test_a_want_for_what_can_not_exist_breaks_the_protocol(
    giver, request_number, first, count
) -> None:
    with pytest.raises(RemoteProtocolError):
        giver.hears(A, want(request_number, first, count))


def test_the_number_of_an_open_request_may_not_be_used_again(giver) -> None:
    (sent,) = giver.hears(A, want(1))
    with pytest.raises(RemoteProtocolError):
        giver.hears(A, want(1, 5))
    giver.sends(sent)
    assert giver.hears(A, want(1, 5)) == [SendBlocks(1, 1, MODEL, (5,), direct=False)]


def test_numbers_of_two_links_have_nothing_to_do_with_each_other(giver) -> None:
    assert [one.link for one in giver.hears(A, want(1)) + giver.hears(B, want(1))] == [1, 2]


def test_too_many_open_requests_are_refused_as_busy(giver) -> None:
    said = giver.hears(A, *(want(n) for n in range(REQUESTS_QUEUED_PER_PEER + 1)))
    assert refused(said) == [(REQUESTS_QUEUED_PER_PEER, True)]


def test_a_direct_request_without_a_direct_connection_is_refused_as_busy(giver) -> None:
    assert refused(giver.hears(A, want(1, direct=True))) == [(1, True)]
    near = Linked(3, "c", direct_up=True)
    (sent,) = giver.hears(near, want(1, direct=True))
    assert isinstance(sent, SendBlocks)
    assert sent.direct


def test_over_a_spent_relay_nothing_goes_but_over_a_direct_connection_it_does(giver) -> None:
    spent = Linked(3, "c", bulk_spent=True, direct_up=True)
    said = giver.hears(spent, want(1), want(2, direct=True))
    assert refused(said) == [(1, True)]
    assert [one.request for one in said if isinstance(one, SendBlocks)] == [2]


def test_a_member_beyond_the_slots_is_told_to_come_back_and_served_once_one_is_free() -> None:
    giver = Giver(slots=1)
    giver.hears(A, want(1))
    assert refused(giver.hears(B, want(1))) == [(1, True)]
    giver.giving.link_down(A.number)
    assert refused(giver.hears(B, want(2))) == []


def test_those_turned_away_are_told_in_turn_when_a_slot_is_free() -> None:
    giver = Giver(slots=1)
    (sent,) = giver.hears(A, want(1))
    third = Linked(3, "c")
    assert refused(giver.hears(B, want(5))) == [(5, True)]
    giver.now += 1.0
    assert refused(giver.hears(third, want(6))) == [(6, True)]
    assert giver.sends(sent) == [Say(2, Refuse(5, False, SLOT_FREE))]
    assert refused(giver.hears(third, want(7))) == [(7, True)], "it is kept for who came first"
    (sent,) = giver.hears(B, want(8))
    assert giver.sends(sent) == [Say(3, Refuse(7, False, SLOT_FREE))]


def test_a_slot_that_is_kept_in_vain_is_the_next_ones() -> None:
    giver = Giver(slots=1)
    (sent,) = giver.hears(A, want(1))
    giver.hears(B, want(5))
    third = Linked(3, "c")
    giver.hears(third, want(6))
    giver.sends(sent)
    giver.now += UPLOAD_CALLED_S
    (sent,) = giver.hears(third, want(7))
    assert sent.link == 3


def test_the_next_one_is_called_as_soon_as_a_slot_was_kept_in_vain() -> None:
    giver = Giver(slots=1)
    (sent,) = giver.hears(A, want(1))
    giver.hears(B, want(5))
    giver.now += 1.0
    giver.hears(Linked(3, "c"), want(6))
    assert giver.sends(sent) == [Say(2, Refuse(5, False, SLOT_FREE))]
    called_at = giver.now
    assert giver.waits() == [Say(3, Refuse(6, False, SLOT_FREE))]
    assert giver.now == pytest.approx(called_at + UPLOAD_CALLED_S + UPLOAD_CALLED_SLACK_S)


def test_each_of_two_slots_that_are_kept_in_vain_is_given_on_at_its_own_time() -> None:
    giver = Giver(slots=2)
    links = [Linked(number, str(number)) for number in range(3, 7)]
    sent = [*giver.hears(A, want(1)), *giver.hears(B, want(2))]
    for link in links:
        giver.hears(link, want(7))
    for one in sent:
        giver.sends(one)
        giver.now += 0.25
    for number in (5, 6):
        assert giver.waits() == [Say(number, Refuse(7, False, SLOT_FREE))]


def test_nobody_is_waited_for_once_the_one_that_was_called_has_come() -> None:
    giver = Giver(slots=1)
    (sent,) = giver.hears(A, want(1))
    giver.hears(B, want(5))
    giver.hears(Linked(3, "c"), want(6))
    giver.sends(sent)
    giver.hears(B, want(8))
    assert giver.giving.next_wake(giver.now) == NEVER


# Slices


def test_two_members_are_served_in_turn_a_slice_at_a_time(giver) -> None:
    (alone,) = giver.hears(A, want(1, 0, BLOCKS))
    assert len(alone.blocks) == BLOCKS, "nobody else was there yet"
    giver.hears(A, want(2, 0, BLOCKS))
    (first,) = giver.hears(B, want(1, 0, BLOCKS))
    assert len(first.blocks) == UPLOAD_SLICE_BLOCKS
    (second,) = giver.sends(first)
    assert (second.link, second.blocks[0]) == (2, UPLOAD_SLICE_BLOCKS)


def test_a_limit_holds_and_what_waits_for_it_goes_when_it_may() -> None:
    rate = 4.0 * BLOCK_BYTES
    giver = Giver(rate=rate)
    under_way = giver.hears(A, want(1, 0, 40))
    got = 0
    while giver.giving.open_requests(1):
        got += sum(len(one.blocks) for one in under_way)
        under_way = giver.sends(*under_way) or (giver.waits() if got < 40 else [])
    assert got == 40
    assert giver.now == pytest.approx(40 / 4, rel=0.1)


def test_cancelled_blocks_are_not_sent_and_those_under_way_are_stopped() -> None:
    giver = Giver(rate=BLOCK_BYTES)
    (first,) = giver.hears(A, want(1, 0, 3))
    assert first.blocks == (0,)
    assert giver.hears(A, CancelWant(1, 1)) == [StopSending(1, 1, 1)]
    assert giver.hears(A, CancelWant(1, 0)) == [StopSending(1, 1, 0)]
    assert giver.sends(first) == []
    (last,) = giver.waits()
    assert last.blocks == (2,)
    assert giver.hears(A, CancelWant(1, -1)) == [StopSending(1, 1, None)]
    giver.sends(last)
    assert giver.giving.open_requests(1) == 0


def test_a_relay_that_is_spent_ends_what_was_to_go_over_it(giver) -> None:
    link = Linked(3, "c")
    giver.hears(link, want(1), want(2))
    assert giver.giving.lane_changed(link, 0.0) == []
    link.bulk_spent = True
    said = giver.giving.lane_changed(link, 0.0)
    assert refused(said) == [(1, True), (2, True)]
    assert [one for one in said if isinstance(one, StopSending)] == [
        StopSending(3, 1, None),
        StopSending(3, 2, None),
    ]
    assert giver.giving.open_requests(3) == 0


def test_the_end_of_a_direct_connection_has_what_waits_for_it_asked_again() -> None:
    giver = Giver(rate=BLOCK_BYTES)
    link = Linked(3, "c", direct_up=True)
    giver.hears(link, want(1, 0, 3, direct=True))
    link.direct_up = False
    giver.giving.sent(3, 1, 0.0)
    assert refused(giver.waits()) == [(1, True)]
    assert giver.giving.open_requests(3) == 0


def test_what_was_withdrawn_after_it_was_asked_for_is_not_sent() -> None:
    giver = Giver(rate=BLOCK_BYTES)
    (first,) = giver.hears(A, want(1, 0, 3))
    giver.giving.offer(MODEL, 0b1, BLOCKS, 0.0)
    giver.sends(first)
    assert refused(giver.waits()) == [(1, False)]


@pytest.mark.parametrize(
    ("failure", "busy"), [(Failure.MOVED, True), (Failure.DAMAGED, False), (Failure.LOST, False)]
)
def test_who_asked_hears_that_a_slice_could_not_be_read(giver, failure, busy) -> None:
    giver.hears(A, want(1))
    said, *more = giver.giving.sent(1, 1, 0.0, failure)
    assert said == Say(1, Refuse(1, busy, failure.value))
    assert more == ([Say(1, Refuse(1, False, SLOT_FREE))] if busy else [])
    assert giver.giving.sent(1, 1, 0.0, failure) == [], "it has been told"


def test_a_link_that_goes_lets_the_same_members_other_link_have_its_turn(giver) -> None:
    other = Linked(3, "a")
    giver.hears(A, want(1), want(2))
    assert giver.hears(other, want(1)) == [], "two slices of a peer are under way at most"
    giver.giving.link_down(A.number)
    (sent,) = giver.waits()
    assert (sent.link, sent.request) == (3, 1)
