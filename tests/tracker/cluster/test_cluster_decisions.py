"""What a process knows of the others, and what it makes of that: no I/O."""

from __future__ import annotations

import random

import msgspec
import pytest
from msgspec import Raw

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    CLUSTER_BATCH_LETTERS,
    CLUSTER_BATCH_SWARMS,
    CLUSTER_CACHE_S,
    CLUSTER_ENVELOPE_MAX_BYTES,
    CLUSTER_LETTER_MAX_BYTES,
    CLUSTER_MAX_PROCESSES,
    CLUSTER_MAX_WAITING,
    CLUSTER_OUTGOING_MAX_BYTES,
    CLUSTER_PLENTY_HERE,
    CLUSTER_SILENCE_S,
    TRACKER_MAX_OFFERS,
)
from dreamer.tracker.cluster.bus import Seen
from dreamer.tracker.cluster.letters import (
    LetterError,
    answer_letter,
    envelope,
    offers_letter,
    open_envelope,
    read_letter,
)
from dreamer.tracker.cluster.outgoing import Outgoing
from dreamer.tracker.cluster.questions import Questions
from dreamer.tracker.cluster.shares import candidates, share_out
from dreamer.tracker.cluster.view import View
from dreamer.tracker.public.elsewhere import Bundle, ProcessId
from dreamer.tracker.public.wire import Answer, Counts, Offer, PeerId

ME, ONE, TWO = (ProcessId(each * 16) for each in "012")
HASH, OTHER = InfoHash(b"h" * 20), InfoHash(b"o" * 20)
SENDER, TARGET = PeerId(b"s" * 20), PeerId(b"t" * 20)
NONE = Counts(0, 0, 0)
SDP = Raw(b'{"type":"offer","sdp":"v=0 \xe2\x9c\x93"}')


def seen(*processes: ProcessId, silent_s: float = 0.0, listening: bool = True) -> list[Seen]:
    return [Seen(each, silent_s, listening) for each in processes]


@pytest.fixture
def view() -> View:
    view = View(ME)
    assert view.saw(seen(ME, ONE, TWO))
    return view


def test_total_is_what_is_here_and_what_living_processes_told(view):
    view.learn(HASH, {ME: Counts(9, 9, 9), ONE: Counts(1, 2, 3), TWO: Counts(10, 20, 30)}, 0.0)
    assert view.total(HASH, Counts(100, 200, 300)) == Counts(111, 222, 333)
    assert view.total(OTHER, Counts(1, 1, 1)) == Counts(1, 1, 1)
    assert view.others(HASH) == {ONE: Counts(1, 2, 3), TWO: Counts(10, 20, 30)}


@pytest.mark.parametrize(
    "gone",
    [
        seen(TWO, silent_s=CLUSTER_SILENCE_S + 1),
        seen(TWO, listening=False),
        [],
    ],
)
def test_dead_process_counts_no_more_but_its_downloads_do(view, gone):
    view.learn(HASH, {ONE: Counts(1, 2, 3), TWO: Counts(10, 20, 30)}, 0.0)
    view.saw([*seen(ME, ONE), *gone])
    assert view.total(HASH, NONE) == Counts(1, 2, 33)
    assert view.others(HASH) == {ONE: Counts(1, 2, 3)}
    assert view.alive == (ONE,)


def test_process_that_others_cannot_reach_is_told_so(view):
    assert not view.saw([*seen(ONE), *seen(ME, listening=False)])
    assert not view.saw(seen(ONE))


def test_what_was_learnt_is_fresh_for_a_while_and_then_dropped(view):
    view.learn(HASH, {ONE: Counts(1, 0, 0)}, 10.0)
    assert view.knows(HASH, 10.0 + CLUSTER_CACHE_S)
    assert not view.knows(HASH, 10.1 + CLUSTER_CACHE_S)
    view.learn(OTHER, {}, 10.1 + CLUSTER_CACHE_S)
    assert view.total(HASH, NONE) == NONE


def test_cache_is_bounded_and_the_oldest_goes_first(view, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.cluster.view.CLUSTER_CACHE_MAX_SWARMS", 3)
    names = [InfoHash(bytes([number]) * 20) for number in range(5)]
    for name in names:
        view.learn(name, {}, 0.0)
    assert [view.knows(name, 0.0) for name in names] == [False, False, True, True, True]


def test_processes_are_bounded(view):
    view.saw(seen(ME, *(ProcessId(f"{number:016x}") for number in range(1000))))
    assert len(view.alive) == CLUSTER_MAX_PROCESSES


def test_process_alone_knows_of_nobody(view):
    view.learn(HASH, {ONE: Counts(1, 2, 3)}, 0.0)
    view.clear()
    assert view.total(HASH, NONE) == NONE
    assert not view.knows(HASH, 0.0)
    assert view.alive == ()


def test_seeder_is_given_leechers_only():
    assert candidates(Counts(5, 2, 0), seeding=True) == 2
    assert candidates(Counts(5, 2, 0), seeding=False) == 7


def test_offers_are_shared_out_in_proportion_to_peers():
    rng = random.Random(1)
    stayed, left = 0, {ONE: 0, TWO: 0}
    for _ in range(2000):
        staying, leaving = share_out(5, 10, {ONE: 30, TWO: 60}, rng)
        assert staying + sum(leaving.values()) == 5
        stayed += staying
        for process, count in leaving.items():
            left[process] += count
    assert 900 < stayed < 1100
    assert 2800 < left[ONE] < 3200
    assert 5700 < left[TWO] < 6300


def test_where_peers_are_plenty_most_offers_stay_and_some_still_leave():
    rng = random.Random(1)
    stayed, left = 0, {ONE: 0, TWO: 0}
    for _ in range(2000):
        staying, leaving = share_out(5, CLUSTER_PLENTY_HERE, {ONE: 1000, TWO: 3000}, rng)
        assert staying + sum(leaving.values()) == 5
        stayed += staying
        for process, count in leaving.items():
            left[process] += count
    assert 7800 < stayed < 8200
    assert 2.5 < left[TWO] / left[ONE] < 3.6
    # Never more than their share: few peers elsewhere aren't sought out by everybody.
    few = sum(1 - share_out(1, 990, {ONE: 10}, rng)[0] for _ in range(10_000))
    assert 50 < few < 150


def test_nobody_is_asked_for_more_peers_than_there_are():
    rng = random.Random(1)
    assert share_out(10, 1, {ONE: 2, TWO: 0}, rng) == (1, {ONE: 2})
    assert share_out(10, 0, {}, rng) == (0, {})
    assert share_out(0, 5, {ONE: 2}, rng) == (0, {})


def bundle(count: int = 2) -> Bundle:
    return Bundle(HASH, SENDER, True, tuple(Offer(f"o{n}", SDP) for n in range(count)))


def test_letters_say_what_was_written():
    assert read_letter(offers_letter(ME, bundle())) == (ME, bundle())
    answer = Answer(HASH, TARGET, SENDER, "o1", SDP)
    assert read_letter(answer_letter(answer)) == answer


def test_envelope_holds_many_letters_and_what_is_none_is_refused():
    assert open_envelope(envelope([b"one", b"two"])) == [b"one", b"two"]
    large = b"x" * (CLUSTER_ENVELOPE_MAX_BYTES + 1)
    for junk in (b"", b"\xc1", large, packed(*[b""] * (CLUSTER_BATCH_LETTERS + 1)), packed("a")):
        with pytest.raises(LetterError):
            open_envelope(junk)


def packed(*said: object) -> bytes:
    return msgspec.msgpack.encode(said)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"x" * (CLUSTER_LETTER_MAX_BYTES + 1),
        packed("offers"),
        packed("spam", ME, HASH, SENDER, True, []),
        packed("offers", ME, HASH, SENDER, True, []),
        packed("offers", ME, HASH, SENDER, 1, [("o", b"{}")]),
        packed("offers", "x", HASH, SENDER, True, [("o", b"{}")]),
        packed("offers", ME, HASH[:19], SENDER, True, [("o", b"{}")]),
        packed("offers", ME, HASH, SENDER, True, [("o", b"{}")] * (TRACKER_MAX_OFFERS + 1)),
        packed("offers", ME, HASH, SENDER, True, [("", b"{}")]),
        packed("offers", ME, HASH, SENDER, True, [("o" * 65, b"{}")]),
        packed("offers", ME, HASH, SENDER, True, [("o", b"{} , {}")]),
        packed("offers", ME, HASH, SENDER, True, [("o", b'"sdp"')]),
        packed("offers", ME, HASH, SENDER, True, [("o", b'{"sdp":"\xff"}')]),
        packed("offers", ME, HASH, SENDER, True, [("o", b'{"a":' * 5000 + b"1" + b"}" * 5000)]),
        packed("answer", HASH, TARGET, SENDER, "o", b'{"sdp":'),
        packed("answer", HASH, TARGET, SENDER, "o", b"{}", "more"),
    ],
)
def test_what_is_no_letter_is_refused(junk):
    with pytest.raises(LetterError):
        read_letter(junk)


def test_random_bytes_and_damaged_letters_are_read_or_refused_but_never_break():
    rng = random.Random(5)
    letter = offers_letter(ME, bundle())
    for _ in range(5000):
        damaged = bytearray(letter)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_letter(bytes(damaged[: rng.randrange(len(damaged) + 1)]))
        except LetterError:
            continue


def test_many_who_ask_for_one_swarm_ask_once_and_in_order():
    questions, called = Questions(), []
    for number in range(10):
        questions.put((HASH,), lambda number=number: called.append(number))
    taken = questions.take()
    assert list(taken.asked) == [HASH]
    for then in taken.then:
        then()
    assert called == list(range(10))
    assert not questions


def test_rounds_are_bounded_and_so_are_those_who_wait():
    questions = Questions()
    for number in range(CLUSTER_MAX_WAITING):
        assert not questions.full
        questions.put((InfoHash(number.to_bytes(20, "big")),), lambda: None)
    assert questions.full
    assert len(questions.take().asked) == CLUSTER_BATCH_SWARMS


async def test_letters_that_nobody_takes_are_lost_from_the_oldest_on():
    outgoing = Outgoing()
    size = CLUSTER_OUTGOING_MAX_BYTES // 4
    for number in range(10):
        outgoing.put(ONE, bytes([number]) * size)
    # And a batch ends once it is large.
    for number in (6, 7, 8, 9):
        assert [letter[0] for letter in outgoing.take()[ONE]] == [number]
    assert len(outgoing) == 0
