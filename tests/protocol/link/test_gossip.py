"""Members find one another without a tracker: transcripts of what goes from one to the next."""

from __future__ import annotations

import pytest

from dreamer.protocol import canonical
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import (
    GOSSIP_HELD_PER_LINK,
    GOSSIP_MAX_HOPS,
    GOSSIP_NEWS_BURST,
    GOSSIP_NEWS_MAX_BYTES,
    GOSSIP_NEWS_TO_ALL_PER_TICK,
    GOSSIP_SEEK_HOPS,
    GOSSIP_SEEKS_BURST,
    GOSSIP_SEEKS_PASSED_ON_BURST,
    GOSSIP_SEEKS_REMEMBERED,
    GOSSIP_SIGNAL_MAX_BYTES,
    GOSSIP_SIGNALS_BURST,
    GOSSIP_SIGNALS_TO_BURST,
)
from dreamer.protocol.link.gossip import Tell
from dreamer.protocol.link.messages import Around, Held, Pass, Seek

MODEL = ManifestId(b"m" * 32)
REQUEST = b"r" * 16
KNOCK = {"kind": "knock", "attempt": 0, "sdp": ""}
KNOCK_BYTES = canonical.dumps(KNOCK)


def went(village, kind: type) -> list[str]:
    """The way of every message of a kind, as ``a>b``."""
    return [f"{one}>{other}" for one, other, said in village.transcript if isinstance(said, kind)]


# Signals


def test_signal_goes_through_a_shared_neighbour(village):
    village.link("a", "b", "c")
    village.tick(2)
    village.do("a", village["a"].gossip.signal(village["c"].id, KNOCK))
    assert village["c"].delivered == [(village["a"].id, KNOCK)]
    assert went(village, Pass) == ["a>b", "b>c"]
    village.do("c", village["c"].gossip.signal(village["a"].id, {"kind": "answer"}))
    assert village["a"].delivered == [(village["c"].id, {"kind": "answer"})]


def test_signal_takes_several_links_where_there_is_no_shorter_way(village):
    village.link("a", "b", "c", "d", "e")
    village.link("b", "x", "y", "e")
    village.tick(4)
    village.do("a", village["a"].gossip.signal(village["e"].id, KNOCK))
    assert village["e"].delivered == [(village["a"].id, KNOCK)]
    assert len(went(village, Pass)) == 4


def test_nobody_is_signalled_to_whom_no_neighbour_reaches(village):
    village.link("a", "b")
    village.tick(3)
    assert village["a"].gossip.signal(village["c"].id, KNOCK) == []
    assert village["c"].gossip.signal(village["a"].id, KNOCK) == []


def test_neighbour_that_swallows_signals_is_passed_by_at_the_next_try(village):
    village.link("a", "b", "z")
    village.link("a", "c", "z")
    village.tick(2)
    ways = [village["a"].gossip.signal(village["z"].id, KNOCK)[0].peer for _ in range(4)]
    assert sorted(ways[:2]) == sorted(ways[2:]) == [village["b"].id, village["c"].id]


def test_signal_for_a_neighbour_goes_straight_to_it_whatever_others_say(village):
    village.link("a", "b", "z")
    village.link("a", "z")
    village.tick(2)
    a, z = village["a"].gossip, village["z"].id
    assert len(a.routes.ways(z)) == 2
    assert [a.signal(z, KNOCK)[0].peer for _ in range(4)] == [z] * 4


def test_signal_to_a_node_that_just_left_ends_after_a_bounded_number_of_links(village):
    village.link("a", "b", "c", "a")
    village.link("c", "d")
    village.tick(3)
    village.leave("d")
    village.do("a", village["a"].gossip.signal(village["d"].id, KNOCK))
    assert len(went(village, Pass)) <= GOSSIP_MAX_HOPS
    assert village["d"].delivered == []


def test_signal_is_passed_on_over_one_link_less_and_not_beyond_the_last(village):
    village.link("a", "b", "c")
    village.tick(2)
    b, a, c = village["b"].gossip, village["a"].id, village["c"].id
    (told,) = b.hear(a, Pass(a, c, 3, KNOCK_BYTES), 0.0)
    assert told == Tell(c, Pass(a, c, 2, KNOCK_BYTES))
    assert b.hear(a, Pass(a, c, 1, KNOCK_BYTES), 0.0) == []


def test_signal_is_not_sent_back_to_where_it_came_from(village):
    village.link("z", "a", "b")
    village.tick(2)
    a, z = village["a"].id, village["z"].id
    assert village["b"].gossip.routes.ways(z) == [a]
    assert village["b"].gossip.hear(a, Pass(b"o" * 32, z, 3, KNOCK_BYTES), 0.0) == []


def test_forged_rubbish_is_not_delivered_and_costs_the_carrier_nothing(village):
    village.link("a", "b")
    b = village["b"].gossip
    for body in (b"[", b"[]", b"\xff"):
        assert b.hear(village["a"].id, Pass(b"o" * 32, village["b"].id, 1, body), 0.0) == []
    ours = Pass(village["b"].id, village["b"].id, 1, KNOCK_BYTES)
    assert b.hear(village["a"].id, ours, 0.0) == []


def test_one_neighbour_has_few_signals_passed_on_and_others_still_some(village):
    village.link("a", "b", "c")
    village.link("x", "b")
    village.tick(2)
    b, said = village["b"].gossip, Pass(village["a"].id, village["c"].id, 2, KNOCK_BYTES)
    taken = [b.hear(village["a"].id, said, village.now) for _ in range(400)]
    assert sum(map(len, taken)) == GOSSIP_SIGNALS_BURST
    others = Pass(village["x"].id, village["c"].id, 2, KNOCK_BYTES)
    assert b.hear(village["x"].id, others, village.now) != []
    assert b.hear(village["a"].id, said, village.now + 10.0) != []


def test_nobody_is_flooded_with_signals_from_many_sides(village):
    names = [f"n{number}" for number in range(20)]
    for name in names:
        village.link(name, "b")
    village.link("b", "victim")
    village.tick(2)
    b, victim = village["b"].gossip, village["victim"].id
    passed_on = sum(
        len(b.hear(village[name].id, Pass(village[name].id, victim, 3, KNOCK_BYTES), village.now))
        for name in names
        for _ in range(20)
    )
    assert passed_on == GOSSIP_SIGNALS_TO_BURST
    # What comes for the victim itself is bounded too, whoever they say that it is from.
    said = Pass(b"o" * 32, victim, 1, KNOCK_BYTES)
    taken = [village["victim"].gossip.hear(village["b"].id, said, 0.0) for _ in range(400)]
    assert sum(map(len, taken)) == GOSSIP_SIGNALS_TO_BURST


def test_liar_that_says_it_is_next_to_everybody_does_not_get_every_signal(village):
    # All of a's neighbours have the liar for a neighbour, and a longer way that is true.
    for near, far in (("b", "x"), ("c", "y")):
        village.link("a", near, far, f"{far}2", "z")
        village.link(near, "liar")
    village.tick(4)
    liar, z = village["liar"], village["z"]
    lie = Around(canonical.dumps({"nodes": [[z.id.hex(), 1, {}]]}))
    for near in "bc":
        village.do(near, village[near].gossip.hear(liar.id, lie, village.now))
        assert village[near].gossip.routes.ways(z.id)[0] == liar.id
    liar.gossip.routes.unlinked(z.id)
    for _ in range(6):
        village.do("a", village["a"].gossip.signal(z.id, KNOCK))
    assert z.delivered


# Questions


def test_holder_is_found_two_links_away_and_answers_come_back_the_same_way(village):
    village.link("a", "b", "c")
    village["c"].held.append(MODEL)
    village.do("a", village["a"].gossip.seek(REQUEST, MODEL))
    assert village["a"].found == [village["c"].id]
    assert went(village, Seek) == ["a>b", "b>c"]
    assert went(village, Held) == ["c>b", "b>a"]


def test_question_that_goes_round_is_answered_once(village):
    village.link("a", "b", "c", "d", "a")
    village.link("a", "c")
    for name in "bcd":
        village[name].held.append(MODEL)
    village.do("a", village["a"].gossip.seek(REQUEST, MODEL))
    assert sorted(village["a"].found) == sorted(village[name].id for name in "bcd")
    # At most once over each link in each direction.
    assert len(went(village, Seek)) == len(set(went(village, Seek)))


def test_question_goes_no_farther_than_its_links(village):
    names = [f"n{number}" for number in range(GOSSIP_SEEK_HOPS + 3)]
    village.link(*names)
    village[names[GOSSIP_SEEK_HOPS]].held.append(MODEL)
    village[names[GOSSIP_SEEK_HOPS + 1]].held.append(MODEL)
    village.do(names[0], village[names[0]].gossip.seek(REQUEST, MODEL))
    assert village[names[0]].found == [village[names[GOSSIP_SEEK_HOPS]].id]


def test_neighbour_that_makes_up_holders_makes_up_few_and_leaves_room_for_others(village):
    village.link("a", "b")
    village.link("a", "c")
    village["a"].gossip.seek(REQUEST, MODEL)
    for number in range(200):
        made_up = Held(REQUEST, bytes([number]) * 32)
        village.do("a", village["a"].gossip.hear(village["b"].id, made_up, 0.0))
    assert len(village["a"].found) == GOSSIP_HELD_PER_LINK
    true = Held(REQUEST, village["c"].id)
    village.do("a", village["a"].gossip.hear(village["c"].id, true, 0.0))
    assert village["a"].found[-1] == village["c"].id


def test_who_floods_with_questions_has_fewer_passed_on_than_the_next_node_takes(village):
    village.link("a", "b", "c")
    b, c = village["b"].gossip, village["c"].gossip
    passed_on = [
        each.message
        for number in range(300)
        for each in b.hear(village["a"].id, Seek(number.to_bytes(16, "big"), MODEL, 3), 0.0)
    ]
    assert len(passed_on) == GOSSIP_SEEKS_PASSED_ON_BURST
    for each in passed_on:
        c.hear(village["b"].id, each, 0.0)
    village["c"].held.append(MODEL)
    assert c.hear(village["b"].id, Seek(REQUEST, MODEL, 1), 0.0) != []


def test_hub_tells_all_its_neighbours_in_turn_and_never_all_at_once(village):
    names = [f"n{number}" for number in range(40)]
    for name in names:
        village.link("hub", name)
    hub = village["hub"].gossip
    told = [[each.peer for each in hub.tick()] for _ in range(2)]
    assert [len(each) for each in told] == [GOSSIP_NEWS_TO_ALL_PER_TICK, 40 - len(told[0])]
    assert len(dict.fromkeys(told[0] + told[1])) == 40
    # Nor do those who come first have all of it when there is news for everybody all the time.
    village["hub"].gossip.tick()
    heard: dict[NodeId, None] = {}
    for turn in range(2):
        hub.linked(village["n0"].id, {"gossip": 1, "turn": turn})
        heard.update(dict.fromkeys(each.peer for each in hub.tick()))
    assert len(heard) == 39


def test_answers_to_what_was_never_asked_are_dropped(village):
    village.link("a", "b")
    assert village["a"].gossip.hear(village["b"].id, Held(REQUEST, b"n" * 32), 0.0) == []


def test_one_neighbour_asks_only_so_much_and_is_remembered_only_so_long(village):
    village.link("a", "b")
    village["b"].held.append(MODEL)
    b, a = village["b"].gossip, village["a"].id

    def asked(number: int, now: float) -> int:
        question = Seek(number.to_bytes(16, "big"), MODEL, 1)
        return len(b.hear(a, question, now))

    assert sum(asked(number, 0.0) for number in range(300)) == GOSSIP_SEEKS_BURST
    for number in range(300, 300 + 2 * GOSSIP_SEEKS_REMEMBERED):
        assert asked(number, float(number))
    assert len(b._questions) == GOSSIP_SEEKS_REMEMBERED


# Rules that a neighbour must know


@pytest.mark.parametrize(
    "message",
    [
        Pass(b"o" * 32, b"t" * 32, GOSSIP_MAX_HOPS + 1, KNOCK_BYTES),
        Pass(b"o" * 32, b"t" * 32, 0, KNOCK_BYTES),
        Pass(b"o" * 32, b"t" * 32, 1, b"x" * (GOSSIP_SIGNAL_MAX_BYTES + 1)),
        Seek(REQUEST, MODEL, GOSSIP_SEEK_HOPS + 1),
        Seek(REQUEST, MODEL, 0),
        Seek(b"short", MODEL, 1),
        Around(b"[]"),
        Around(b'{"nodes":1}'),
        Around(b'{"nodes":[["xx",1,{}]]}'),
        Around(b'{"nodes":[["' + b"aa" * 32 + b'",99,{}]]}'),
        Around(b'{"nodes":[["' + b"aa" * 32 + b'",1,[]]]}'),
        Around(b" " * (GOSSIP_NEWS_MAX_BYTES + 1)),
    ],
)
def test_what_breaks_a_rule_is_the_neighbours_fault(village, message):
    village.link("a", "b")
    with pytest.raises(RemoteProtocolError):
        village["a"].gossip.hear(village["b"].id, message, 0.0)


def test_gossip_without_end_costs_the_link(village):
    village.link("a", "b")
    empty = Around(b'{"nodes":[]}')
    for _ in range(int(GOSSIP_NEWS_BURST)):
        village["a"].gossip.hear(village["b"].id, empty, 0.0)
    with pytest.raises(RemoteProtocolError, match="without end"):
        village["a"].gossip.hear(village["b"].id, empty, 0.0)


def test_older_versions_hear_nothing_that_they_would_part_over(village):
    village.link("a", "b", "c")
    village.link("b", "old", capabilities={})
    village["old"].held.append(MODEL)
    village.tick(3)
    village.do("a", village["a"].gossip.seek(REQUEST, MODEL))
    assert not any("old" in (one, other) for one, other, _ in village.transcript)
    assert village.knows("a") == ["b", "c"]


def test_strangers_are_not_listened_to(village):
    village.link("a", "b")
    stranger = NodeId(b"s" * 32)
    for message in (
        Around(b"rubbish"),
        Seek(REQUEST, MODEL, 1),
        Pass(b"o" * 32, b"t" * 32, 1, b""),
    ):
        assert village["a"].gossip.hear(stranger, message, 0.0) == []


def test_signal_that_is_too_large_is_not_sent(village):
    village.link("a", "b")
    huge = {"sdp": "x" * GOSSIP_SIGNAL_MAX_BYTES}
    assert village["a"].gossip.signal(village["b"].id, huge) == []
    assert isinstance(village["a"].gossip.signal(village["b"].id, KNOCK)[0], Tell)
