"""How links are kept, lost and made again."""

from __future__ import annotations

import pytest

from dreamer.daemon.transport.vocabulary import (
    LinkClosed,
    SendControl,
    Traffic,
)
from dreamer.protocol.limits import (
    LINK_DOUBT_S,
    LINK_OPEN_TIMEOUT_S,
    LINK_PING_INTERVAL_S,
    LINK_SILENCE_TIMEOUT_S,
    LINK_WAITING_SILENCE_S,
    LINK_WOKEN_SILENCE_S,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Bye, Capabilities, Ping, decode
from dreamer.protocol.link.negotiation import signal

MODEL = b"m" * 32


def linked(one, other) -> bool:
    return one.linked(other) and other.linked(one)


def apart(one, other) -> bool:
    return not one.linked(other) and not other.linked(one)


def said(member) -> list[messages.Message]:
    """The control messages that a member sent."""
    sent = [one.data for one in member.transport.commands if isinstance(one, SendControl)]
    return [decode(data) for data in sent]


def test_a_quiet_link_is_asked_and_answers(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    room.tick(3 * LINK_SILENCE_TIMEOUT_S)
    assert linked(one, other)
    pings = [message for message in said(one) if isinstance(message, Ping)]
    assert len(pings) >= 2 * LINK_SILENCE_TIMEOUT_S / LINK_PING_INTERVAL_S
    assert one.links.link(other.id).rtt_s == pytest.approx(0.0, abs=1e-3)


def test_a_peer_of_which_nothing_is_heard_is_dropped(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    other.transport.on_event = lambda event: None
    room.tick(LINK_SILENCE_TIMEOUT_S + 2)
    assert not one.linked(other)
    assert one.heard.down == ["nothing was heard from it"]


def test_bulk_alone_keeps_a_link_alive(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    other.transport.on_event = lambda event: None
    room.members.pop(other.id)
    for _ in range(10):
        room.tick(LINK_SILENCE_TIMEOUT_S / 2)
        one.links.transport_event(Traffic(one.links.link(other.id).number, 1, 0))
    assert one.linked(other)


def test_bye_is_heard_with_its_reason(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.drop(other.id, "it stopped sending")
    room.settle()
    assert apart(one, other)
    assert one.heard.down == ["it stopped sending"]
    assert other.heard.down == ["it stopped sending"]


def test_closing_says_bye_to_all_and_ends_what_comes_up(room, pair) -> None:
    one, other = pair
    third = room.member(8)
    one.links.connect(other.id)
    room.settle()
    one.links.connect(third.id)
    one.links.close()
    room.settle()
    assert one.links.links == []
    assert not other.linked(one)
    assert not third.linked(one)
    assert Bye("this node is stopping") in said(one)


@pytest.mark.parametrize("restarted", [0, 1])
@pytest.mark.parametrize("caller", [0, 1])
def test_a_restarted_node_is_linked_again(room, pair, restarted, caller) -> None:
    pair[0].links.connect(pair[1].id)
    room.settle()
    pair[restarted].restart()
    pair[caller].links.connect(pair[1 - caller].id)
    room.settle()
    room.tick(LINK_OPEN_TIMEOUT_S + 1)
    pair[caller].links.connect(pair[1 - caller].id)
    room.settle()
    assert linked(*pair)


def test_a_link_that_stands_is_replaced_when_its_peer_comes_anew_unnoticed(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    first = one.links.link(other.id)
    # The other end is gone without a close reaching us, and knocks or answers anew.
    other.transport.on_event = lambda event: None
    other.start()
    other.links.connect(one.id)
    room.tick(2 * LINK_OPEN_TIMEOUT_S)
    other.links.connect(one.id)
    room.tick(2 * LINK_OPEN_TIMEOUT_S)
    assert linked(one, other)
    assert one.links.link(other.id) is not first
    assert len(one.heard.down) == 1


def test_a_tracker_that_only_says_that_a_peer_links_anew_parts_nobody(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    first = one.links.link(other.id)
    for kind in ("knock", "offer"):
        for member, peer in (pair, pair[::-1]):
            body = {"kind": kind, "attempt": 5, "sdp": "v=0"}
            member.links.signal_received(peer.id, body)
            room.tick(5)
    assert one.links.link(other.id) is first
    assert one.heard.down == other.heard.down == []


def test_a_peer_that_no_tracker_reaches_is_given_up_at_once(room, pair) -> None:
    one, other = pair
    for caller, called in ((one, other), (other, one)):
        room.members.pop(called.id)
        caller.links.connect(called.id)
        room.settle()
        assert not caller.links.connecting(called.id)
        room.members[called.id] = called
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other), "and can be called again"


def test_signals_that_get_lost_are_given_up_after_a_while(room, pair) -> None:
    room.deaf = True
    for caller, called in (pair, pair[::-1]):
        caller.links.connect(called.id)
    room.tick(LINK_OPEN_TIMEOUT_S + 1)
    assert not any(a.links.connecting(b.id) for a, b in (pair, pair[::-1]))
    room.deaf = False
    pair[1].links.connect(pair[0].id)
    room.settle()
    assert linked(*pair)


def test_new_capabilities_reach_linked_peers_and_later_ones(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.update_capabilities(b'{"name":"new","serves":true}')
    room.settle()
    assert other.links.link(one.id).capabilities == {"name": "new", "serves": True}
    third = room.member(8)
    third.links.connect(one.id)
    room.settle()
    assert third.links.link(one.id).name == "new"


def test_capabilities_that_are_not_json_close_the_link(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    other.links.link(one.id).send(Capabilities(b"[1]"))
    room.settle()
    assert apart(one, other)


@pytest.mark.parametrize("name", ["a\x1b[31m", 7, None, ["x"]])
def test_a_name_that_can_not_be_shown_is_no_name(room, pair, name) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    link = one.links.link(other.id)
    link.capabilities = {"name": name}
    assert link.name == ""


def test_a_forged_knock_or_offer_does_not_part_two_that_talk(room, pair) -> None:
    offerer, answerer = pair
    offerer.links.connect(answerer.id)
    room.settle()
    room.tick(5)
    before = (offerer.links.link(answerer.id), answerer.links.link(offerer.id))
    for _ in range(20):
        offerer.links.signal_received(answerer.id, signal("knock", 0))
        answerer.links.signal_received(offerer.id, signal("offer", 7, "made up"))
        room.tick(1)
    assert (offerer.links.link(answerer.id), answerer.links.link(offerer.id)) == before


def test_a_peer_that_restarted_without_a_word_is_linked_anew_soon(room, pair) -> None:
    offerer, answerer = pair
    offerer.links.connect(answerer.id)
    room.settle()
    room.tick(5)
    # Its old connection dies without anybody being told, as when a machine loses power.
    answerer.transport.on_event = lambda event: None
    answerer.start()
    answerer.links.connect(offerer.id)
    room.settle()
    room.tick(LINK_DOUBT_S + 3)
    assert linked(offerer, answerer)


def test_a_silent_peer_that_is_waited_for_is_given_up_soon_and_called_again(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.heard.waiting = True
    hears, other.transport.on_event = other.transport.on_event, lambda event: None
    room.tick(LINK_WAITING_SILENCE_S)
    # The path is back in the moment in which the link is given up.
    other.transport.on_event = hears
    for end in list(other.transport._ends):
        other.transport._ends[end].open = False
    room.tick(2 + 2 * LINK_DOUBT_S)
    assert one.heard.down == ["nothing was heard from it"]
    assert linked(one, other)


@pytest.mark.parametrize("fault", [False, True])
def test_a_connection_that_breaks_while_it_is_waited_for_is_made_anew_at_once(
    room, pair, fault
) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.heard.waiting = True
    one.links.transport_event(LinkClosed(one.links.link(other.id).number, "gone", fault))
    assert not one.linked(other)
    # The other side believes in the old one until it is asked.
    room.tick(2 * LINK_DOUBT_S)
    assert linked(one, other) is not fault


def test_a_connection_that_breaks_and_is_not_waited_for_stays_away(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.transport_event(LinkClosed(one.links.link(other.id).number, "gone", False))
    room.tick(2 * LINK_DOUBT_S)
    assert not one.linked(other)


def test_after_a_sleep_a_link_that_stands_is_kept_and_a_dead_one_soon_lost(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.woke()
    room.tick(LINK_WOKEN_SILENCE_S + 2)
    assert linked(one, other)
    other.transport.on_event = lambda event: None
    one.links.woke()
    room.tick(LINK_WOKEN_SILENCE_S + 2)
    assert not one.linked(other)
