"""Links as two members make, keep and lose them; the tracker between them may be hostile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.daemon.transport.vocabulary import (
    BlockDone,
    CloseLink,
    ControlReceived,
    LinkOpened,
    LocalDescription,
    SendControl,
    ServeDone,
    Traffic,
)
from dreamer.protocol.errors import LocalError, RemoteProtocolError
from dreamer.protocol.limits import (
    CONTROL_MESSAGE_MAX_BYTES,
    LINK_HANDSHAKE_TIMEOUT_S,
    LINK_OPEN_TIMEOUT_S,
    LINK_PING_INTERVAL_S,
    LINK_SILENCE_TIMEOUT_S,
    LINKS_MAX_PER_NODE,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Bye, Capabilities, Follow, Hello, Ping, decode
from dreamer.protocol.rooms.certificate import node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.swarm.vocabulary import Lane

MODEL = b"m" * 32


def linked(one, other) -> bool:
    return one.linked(other) and other.linked(one)


def apart(one, other) -> bool:
    return not one.linked(other) and not other.linked(one)


def said(member) -> list[messages.Message]:
    """The control messages that a member sent."""
    sent = [one.data for one in member.transport.commands if isinstance(one, SendControl)]
    return [decode(data) for data in sent]


# Coming up


def test_the_smaller_node_offers_when_it_calls(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    assert one.links.connecting(other.id)
    room.settle()
    assert linked(one, other)
    assert not one.links.connecting(other.id)
    assert room.signals == ["offer", "answer"]


def test_the_larger_node_knocks_when_it_calls(room, pair) -> None:
    one, other = pair
    other.links.connect(one.id)
    room.settle()
    assert linked(one, other)
    assert room.signals == ["knock", "offer", "answer"]


def test_both_calling_at_once_end_with_one_link(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    other.links.connect(one.id)
    room.settle()
    assert linked(one, other)
    assert len(one.heard.up) - len(one.heard.down) == 1
    assert [len(member.links.links) for member in pair] == [1, 1]


def test_calling_a_linked_peer_again_changes_nothing(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.connect(other.id)
    other.links.connect(one.id)
    room.settle()
    assert len(room.signals) == 2
    assert one.heard.down == []


def test_a_node_does_not_call_itself(room, pair) -> None:
    one, _ = pair
    one.links.connect(one.id)
    room.settle()
    assert room.signals == []


def test_a_link_carries_messages_names_and_lane(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    link = one.links.link(other.id)
    assert (link.name, link.lane, link.peer) == (other.name, Lane.WEBRTC, other.id)
    link.send(Follow(MODEL))
    room.settle()
    assert other.heard.messages == [Follow(MODEL)]


def test_a_link_through_a_turn_server_is_a_relay(room, pair) -> None:
    one, other = pair
    room.wire.relayed = True
    one.links.connect(other.id)
    room.settle()
    assert one.links.link(other.id).lane is Lane.RELAY


def test_bulk_reports_reach_the_listener_and_the_counters(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    seen = []
    one.heard.block_done = lambda link, *what: seen.append(what)
    one.heard.bytes_arrived = lambda link, size: seen.append(size)
    one.heard.serve_ended = lambda link, *what: seen.append(what)
    link = one.links.link(other.id)
    for event in (
        Traffic(link.number, 5, 7),
        BlockDone(link.number, 1, 2, "verified"),
        ServeDone(link.number, 3),
    ):
        one.links.transport_event(event)
    assert seen == [5, (1, 2, "verified"), (3, None)]
    assert (link.bytes_down, link.bytes_up) == (5, 7)


# Who is at the other end


def middleman(room):
    """A tracker that puts itself between two members and passes on all they say."""
    mallory = room.member(66)
    ends = {}

    def swap(body):
        if body["kind"] in ("offer", "answer"):
            ends[body["kind"]] = room.wire.ends[body["sdp"]]
            fake = mallory.transport._describe(mallory.transport.new_link())
            body["sdp"] = fake.description
            ends["to", body["kind"]] = fake
        return body

    room.tamper = swap
    mallory.transport.on_event = lambda event: None
    return ends, mallory


def test_a_tracker_that_swaps_descriptions_gets_no_link(room, pair, caplog) -> None:
    one, other = pair
    ends, mallory = middleman(room)

    def relay(event):
        match event:
            case ControlReceived(link, data):
                mallory.transport.send(SendControl(3 - link, data))

    one.links.connect(other.id)
    room.settle()
    # Both are now connected to the middleman instead, who passes on what they say.
    mallory.transport.on_event = relay
    room.wire.join(ends["offer"], ends["to", "answer"])
    room.wire.join(ends["answer"], ends["to", "offer"])
    room.settle()
    assert any(isinstance(message, Hello) for message in said(one))
    assert any(isinstance(message, Hello) for message in said(other))
    assert apart(one, other)
    assert one.heard.up == []
    assert other.heard.up == []
    assert caplog.text.count("wrong signature on a link") == 2


def test_a_node_that_signs_fingerprints_it_did_not_see_is_refused(room, pair) -> None:
    one, other = pair
    real = other.transport.tell

    def lie(event):
        if isinstance(event, LinkOpened):
            event = replace(event, theirs=b"\0" * 32)
        real(event)

    other.transport.tell = lie
    one.links.connect(other.id)
    room.settle()
    assert apart(one, other)


def test_a_stranger_is_refused_by_both(room) -> None:
    member = room.member(2)
    stranger_key = SigningKey(bytes([3]) * 32)
    forged = node_certificate(room.id, stranger_key.public, ["member"], room.now, stranger_key)
    stranger = room.member(3, (forged,))
    for caller, called in ((member, stranger), (stranger, member)):
        caller.links.connect(called.id)
        room.settle()
    assert not member.linked(stranger)
    assert not stranger.linked(member)


def test_a_membership_of_another_node_is_refused(room) -> None:
    member = room.member(2)
    thief = room.member(3, member.chain)
    thief.links.connect(member.id)
    room.settle()
    assert not member.linked(thief)


def test_an_expired_member_is_refused(room) -> None:
    member = room.member(2)
    (certificate,) = room.admit(SigningKey(bytes([3]) * 32))
    ended = replace(certificate, not_after=int(room.now) + 60).signed_by(room.key)
    guest = room.member(3, (ended,))
    guest.links.connect(member.id)
    room.settle()
    assert linked(guest, member)
    guest.links.drop(member.id, "for now")
    room.settle()
    room.now += 61
    guest.links.connect(member.id)
    room.settle()
    assert apart(guest, member)


def test_a_guest_whose_invitation_has_ended_since_stays_a_member(room) -> None:
    member = room.member(2)
    guest = room.member(3, room.invite(SigningKey(bytes([3]) * 32)))
    room.now += 3600
    guest.links.connect(member.id)
    room.settle()
    assert linked(guest, member)


def test_a_banned_node_is_neither_called_nor_answered(room, pair) -> None:
    one, other = pair
    one.banned.append(other.id)
    one.links.connect(other.id)
    other.links.connect(one.id)
    room.settle()
    assert apart(one, other)
    assert room.signals == ["knock"]


def test_a_node_banned_while_its_link_comes_up_is_refused(room, pair) -> None:
    one, other = pair
    take = one.links.transport_event

    def ban_then_take(event):
        if isinstance(event, LinkOpened):
            one.banned.append(other.id)
        take(event)

    one.transport.on_event = ban_then_take
    one.links.connect(other.id)
    room.settle()
    assert apart(one, other)
    assert one.heard.up == []


def test_another_node_than_the_one_called_is_refused(room, caplog) -> None:
    one, called, third = sorted((room.member(n) for n in (2, 3, 9)), key=lambda member: member.id)

    def redirect(sender, peer, body):
        # The tracker hands the call to a third member, which answers in its own name.
        to, said_from = (third, one) if sender is one else (one, called)
        room.wire.later(lambda: to.links.signal_received(said_from.id, body))

    room.signal = redirect
    one.links.connect(called.id)
    room.settle()
    assert one.links.links == []
    assert not one.links.connecting(called.id)
    assert "another node answered" in caplog.text


# Talking out of turn


def opened_but_silent(room, pair):
    """Two connected ends of which the second has not said hello."""
    one, other = pair
    other.transport.on_event = lambda event: (
        other.links.transport_event(event) if isinstance(event, LocalDescription) else None
    )
    one.links.connect(other.id)
    room.settle()
    return one, other


def test_a_message_before_hello_closes_the_connection(room, pair) -> None:
    one, other = opened_but_silent(room, pair)
    other.inject(one, Follow(MODEL))
    room.settle()
    assert one.heard.messages == []
    assert not one.links.connecting(other.id)
    assert any(isinstance(command, CloseLink) for command in one.transport.commands)


def test_a_peer_that_never_says_hello_is_closed_in_seconds(room, pair) -> None:
    one, other = opened_but_silent(room, pair)
    room.tick(LINK_HANDSHAKE_TIMEOUT_S - 1)
    assert one.links.connecting(other.id)
    room.tick(1)
    assert not one.links.connecting(other.id)
    assert any(isinstance(command, CloseLink) for command in one.transport.commands)


def test_a_second_hello_closes_the_link(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    again = next(message for message in said(other) if isinstance(message, Hello))
    other.inject(one, again)
    room.settle()
    assert apart(one, other)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x81\x01\x02",
        b"\x91\xcd\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000 + b"\x01",
        b"\0" * (CONTROL_MESSAGE_MAX_BYTES + 1),
    ],
    ids=["empty", "reserved", "cut short", "a map", "unknown", "huge array", "deep", "huge"],
)
def test_nonsense_closes_the_link_and_nothing_else(room, pair, nonsense: bytes) -> None:
    one, other = pair
    third = room.member(8)
    one.links.connect(other.id)
    one.links.connect(third.id)
    room.settle()
    other.transport.send(SendControl(1, nonsense))
    room.settle()
    assert apart(one, other)
    assert linked(one, third)


@pytest.mark.parametrize("error", [RemoteProtocolError("nonsense"), LocalError("disk full")])
def test_whatever_a_message_leads_to_costs_only_its_link(room, pair, error) -> None:
    one, other = pair

    def fail(link, message):
        raise error

    one.heard.message = fail
    one.links.connect(other.id)
    room.settle()
    other.links.link(one.id).send(Follow(MODEL))
    room.settle()
    assert apart(one, other)
    one.heard.message = lambda link, message: None
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other), "and it can come back"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "dance", "attempt": 1, "sdp": ""},
        {"kind": "offer", "attempt": "1", "sdp": ""},
        {"kind": "offer", "attempt": True, "sdp": ""},
        {"kind": "offer", "attempt": 1, "sdp": None},
        {"kind": "offer", "attempt": 1, "sdp": "x" * 70_000},
        {"kind": ["offer"], "attempt": 1, "sdp": ""},
    ],
)
def test_a_malformed_signal_is_ignored(room, pair, body) -> None:
    one, other = pair
    other.links.signal_received(one.id, body)
    one.links.signal_received(other.id, body)
    room.settle()
    assert room.signals == []
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other)


def test_an_answer_to_an_older_attempt_is_ignored(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    one.links.signal_received(other.id, {"kind": "answer", "attempt": 0, "sdp": "late"})
    room.settle()
    assert linked(one, other)


# Keeping and losing


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
    room.settle()
    assert linked(one, other)
    assert one.links.link(other.id) is not first
    assert one.heard.down == ["the peer links anew"]


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


# Bounds


def test_links_are_bounded_and_former_peers_have_no_privilege(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.drop(other.id, "for now")
    room.settle()
    crowd = [room.member(number) for number in range(10, 10 + LINKS_MAX_PER_NODE)]
    for member in crowd:
        member.links.connect(one.id)
    room.settle()
    assert len(one.links.links) == LINKS_MAX_PER_NODE
    one.links.connect(other.id)
    other.links.connect(one.id)
    room.settle()
    assert apart(one, other)


def test_names_that_a_tracker_makes_up_are_not_remembered(room, pair) -> None:
    one, _ = pair
    for number in range(1000):
        one.links.signal_received(number.to_bytes(32, "big"), {"kind": "nonsense"})
    room.tick(1)
    assert one.links._negotiations == {}
