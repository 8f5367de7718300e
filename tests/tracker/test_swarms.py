from __future__ import annotations

import random

import pytest
from msgspec import Raw

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_MAX_SWARMS_PER_SOCKET,
    TRACKER_OFFER_AGE_S,
    TRACKER_PEER_AGE_S,
    TRACKER_PENDING_OFFERS_PER_PEER,
)
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.public.wire import (
    Announce,
    AnnounceError,
    Answer,
    Counts,
    Event,
    Offer,
    PeerId,
)

HASH = InfoHash(b"h" * 20)


def name(number: int) -> PeerId:
    return PeerId(number.to_bytes(20, "big"))


def offer(number: int) -> Offer:
    return Offer(f"offer-{number}", Raw(b'{"type":"offer","sdp":"v=0"}'))


@pytest.fixture
def swarms() -> Swarms:
    return Swarms(random.Random(1))


def join(swarms, number, left=None, event=Event.NONE, now=0.0, owner=None, info_hash=HASH):
    said = Announce(info_hash, name(number), event, left, ())
    return swarms.announce(number if owner is None else owner, said, now)


def test_counts_follow_events(swarms):
    join(swarms, 1, left=0, event=Event.STARTED)
    join(swarms, 2, left=10, event=Event.STARTED)
    assert swarms.counts(HASH) == Counts(1, 1, 0)
    join(swarms, 2, left=0, event=Event.COMPLETED)
    assert swarms.counts(HASH) == Counts(2, 0, 1)
    join(swarms, 2, left=0, event=Event.STOPPED)
    assert swarms.counts(HASH) == Counts(1, 0, 1)


def test_repeated_completed_counts_once(swarms):
    join(swarms, 1, left=5)
    join(swarms, 1, event=Event.COMPLETED)
    join(swarms, 1, event=Event.COMPLETED)
    assert swarms.counts(HASH) == Counts(1, 0, 1)


def test_unknown_left_keeps_what_was_known(swarms):
    join(swarms, 1, left=0)
    join(swarms, 1, left=None, event=Event.UPDATE)
    assert swarms.counts(HASH) == Counts(1, 0, 0)
    join(swarms, 1, left=7)
    assert swarms.counts(HASH) == Counts(0, 1, 0)


def test_paused_peer_counts_as_a_leecher(swarms):
    join(swarms, 1, left=10, event=Event.PAUSED)
    assert swarms.counts(HASH) == Counts(0, 1, 0)


def test_stopped_from_a_peer_never_seen_changes_nothing(swarms):
    assert join(swarms, 1, event=Event.STOPPED) is None
    assert len(swarms) == 0


def test_downloads_are_remembered_while_a_swarm_is_empty(swarms):
    join(swarms, 1, event=Event.COMPLETED)
    swarms.close(1)
    assert len(swarms) == 0
    assert swarms.counts(HASH) == Counts(0, 0, 1)
    join(swarms, 2)
    assert swarms.counts(HASH) == Counts(0, 1, 1)


def test_closed_socket_takes_all_its_peers_along(swarms):
    other = InfoHash(b"o" * 20)
    join(swarms, 1, owner=9)
    join(swarms, 2, owner=9, info_hash=other)
    join(swarms, 3)
    swarms.close(9)
    swarms.close(9)
    assert swarms.counts(HASH) == Counts(0, 1, 0)
    assert swarms.counts(other) == Counts(0, 0, 0)


def test_silent_peer_is_pruned_and_an_announcing_one_stays(swarms):
    join(swarms, 1, now=0.0)
    join(swarms, 2, now=0.0)
    join(swarms, 1, now=100.0)
    swarms.prune(TRACKER_PEER_AGE_S)
    assert swarms.counts(HASH).incomplete == 2
    swarms.prune(TRACKER_PEER_AGE_S + 1)
    assert swarms.counts(HASH).incomplete == 1
    swarms.close(2)
    swarms.prune(100 + TRACKER_PEER_AGE_S + 1)
    assert len(swarms) == 0


def test_peer_id_belongs_to_its_socket(swarms):
    join(swarms, 1, owner=1)
    for event in (Event.NONE, Event.STOPPED):
        with pytest.raises(AnnounceError, match="another connection"):
            join(swarms, 1, owner=2, event=event)
    assert swarms.counts(HASH).incomplete == 1
    swarms.close(1)
    assert join(swarms, 1, owner=2)


def test_each_offer_goes_to_another_peer(swarms):
    peers = [join(swarms, number) for number in range(1, 30)]
    routed = swarms.route(peers[0], tuple(map(offer, range(10))), 0.0)
    targets = [target.peer_id for target, _ in routed]
    assert len(set(targets)) == 10
    assert peers[0].peer_id not in targets


def test_fewer_peers_than_offers_get_one_each(swarms):
    first, second = join(swarms, 1), join(swarms, 2)
    assert [t for t, _ in swarms.route(first, (offer(1), offer(2)), 0.0)] == [second]
    assert swarms.route(join(swarms, 3, info_hash=InfoHash(b"z" * 20)), (offer(1),), 0.0) == []


def test_seeder_offers_to_leechers_only(swarms):
    seeder = join(swarms, 1, left=0)
    join(swarms, 2, left=0)
    leecher = join(swarms, 3, left=1)
    assert [t for t, _ in swarms.route(seeder, (offer(1), offer(2)), 0.0)] == [leecher]
    assert len(swarms.route(leecher, (offer(3), offer(4)), 0.0)) == 2


def test_every_peer_is_drawn_sooner_or_later(swarms):
    asker = join(swarms, 0)
    for number in range(1, 20):
        join(swarms, number, left=number % 2)
    drawn = {swarms.route(asker, (offer(n),), 0.0)[0][0].peer_id for n in range(500)}
    assert drawn == {name(number) for number in range(1, 20)}


def answer(of: int, to: int, number: int) -> Answer:
    return Answer(
        HASH, name(of), name(to), f"offer-{number}", Raw(b'{"type":"answer","sdp":"v=0"}')
    )


def test_answer_finds_the_peer_that_offered_and_only_once(swarms):
    first, _ = join(swarms, 1), join(swarms, 2)
    swarms.route(first, (offer(5),), 0.0)
    assert swarms.route_answer(2, answer(2, 1, 5), 1.0) is first
    with pytest.raises(AnnounceError, match="no such offer"):
        swarms.route_answer(2, answer(2, 1, 5), 1.0)


def test_answer_to_no_offer_is_refused(swarms):
    first, _ = join(swarms, 1), join(swarms, 2)
    swarms.route(first, (offer(5),), 0.0)
    for owner, made in ((2, answer(2, 1, 6)), (2, answer(2, 3, 5)), (1, answer(1, 2, 5))):
        with pytest.raises(AnnounceError, match="no such offer"):
            swarms.route_answer(owner, made, 0.0)
    for owner in (1, 3):
        with pytest.raises(AnnounceError, match="announce before"):
            swarms.route_answer(owner, answer(2, 1, 5), 0.0)


def test_answer_that_comes_too_late_is_refused(swarms):
    first, _ = join(swarms, 1), join(swarms, 2)
    swarms.route(first, (offer(5),), 0.0)
    with pytest.raises(AnnounceError, match="no such offer"):
        swarms.route_answer(2, answer(2, 1, 5), TRACKER_OFFER_AGE_S + 1)


def test_answer_to_a_peer_that_left_goes_nowhere(swarms):
    first, _ = join(swarms, 1), join(swarms, 2)
    swarms.route(first, (offer(5),), 0.0)
    swarms.close(1)
    assert swarms.route_answer(2, answer(2, 1, 5), 1.0) is None


def test_pending_offers_of_a_peer_are_bounded(swarms):
    first, second = join(swarms, 1), join(swarms, 2)
    for number in range(3 * TRACKER_PENDING_OFFERS_PER_PEER):
        swarms.route(first, (offer(number),), 0.0)
    with pytest.raises(AnnounceError, match="no such offer"):
        swarms.route_answer(2, answer(2, 1, 2 * TRACKER_PENDING_OFFERS_PER_PEER - 1), 0.0)
    for number in range(2 * TRACKER_PENDING_OFFERS_PER_PEER, 3 * TRACKER_PENDING_OFFERS_PER_PEER):
        assert swarms.route_answer(2, answer(2, 1, number), 0.0) is first
    assert not second.offered


def test_offers_that_are_too_old_are_forgotten_with_the_next_announce(swarms):
    first, second = join(swarms, 1), join(swarms, 2)
    swarms.route(first, (offer(5),), 0.0)
    join(swarms, 2, now=TRACKER_OFFER_AGE_S)
    assert second.offered
    join(swarms, 2, now=TRACKER_OFFER_AGE_S + 1)
    assert not second.offered


def test_swarms_of_one_socket_are_bounded(swarms):
    for number in range(TRACKER_MAX_SWARMS_PER_SOCKET):
        join(swarms, 1, info_hash=InfoHash(number.to_bytes(20, "big")))
    with pytest.raises(AnnounceError, match="too many swarms"):
        join(swarms, 1)


def test_random_life_keeps_the_books_straight(swarms):
    rng = random.Random(3)
    alive: dict[int, bool] = {}
    for step in range(3000):
        number, seeding = rng.randrange(40), rng.random() < 0.5
        event = Event.STOPPED if rng.random() < 0.3 else Event.NONE
        join(swarms, number, left=0 if seeding else 1, event=event, now=float(step))
        if event is Event.STOPPED:
            alive.pop(number, None)
        else:
            alive[number] = seeding
        seeds = sum(alive.values())
        counts = swarms.counts(HASH)
        assert (counts.complete, counts.incomplete) == (seeds, len(alive) - seeds)
