"""How two members come to be linked, and who is refused; the tracker may be hostile."""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.transport.vocabulary import (
    BlockDone,
    ControlReceived,
    LinkOpened,
    SendControl,
    ServeDone,
    Traffic,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Follow, Hello, decode
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


def test_link_that_moves_to_a_relay_before_anything_is_proved_is_known_as_relayed(
    room, pair
) -> None:
    one, other = pair
    room.wire.moved = True
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other)
    assert [link.lane for link in (*one.links.links, *other.links.links)] == [Lane.RELAY] * 2


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
