"""Two members who are told of each other by nobody but a person with a text; time is the room's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dreamer.daemon.links.link import Link
from dreamer.daemon.transport.vocabulary import Answer, CloseLink, LinkClosed, Offer
from dreamer.protocol.errors import (
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    RemoteError,
)
from dreamer.protocol.limits import (
    CLOCK_SKEW_S,
    CONNECT_MAX_WAITING,
    CONNECT_OFFER_TTL_S,
    CONNECT_OPEN_TIMEOUT_S,
    LINKS_MAX_PER_NODE,
)
from dreamer.protocol.link import description
from dreamer.protocol.link.meeting import decode
from dreamer.protocol.link.messages import Ping
from dreamer.protocol.rooms.certificate import node_certificate
from dreamer.protocol.rooms.keys import SigningKey

REDUCE = description.reduce


@pytest.fixture(autouse=True)
def by_text(room):
    """Nobody passes signals on, and wall clocks show the room's time."""
    room.deaf = True
    return room


class People:
    """Carries texts between two members."""

    def __init__(self, room) -> None:
        self.room = room

    def knows_time(self, member):
        member.links.meetings._wall = lambda: self.room.now
        return member

    async def until_ended(self, work):
        """Run a call of a member to its end, whatever the wire has to do meanwhile."""
        task = asyncio.ensure_future(work)
        for _ in range(100):
            await asyncio.sleep(0)
            self.room.settle()
            if task.done():
                break
        return await task

    async def offer(self, member) -> str:
        return await self.until_ended(self.knows_time(member).links.meetings.offer())

    async def answer(self, member, text: str) -> str:
        offer = decode(text)
        return await self.until_ended(self.knows_time(member).links.meetings.answer(offer))

    async def complete(self, member, text: str) -> Link:
        return await self.until_ended(member.links.meetings.complete(decode(text)))

    async def completing(self, member, text: str) -> asyncio.Future:
        """Paste an answer, and do not wait for what comes of it."""
        task = asyncio.ensure_future(member.links.meetings.complete(decode(text)))
        for _ in range(10):
            await asyncio.sleep(0)
            self.room.settle()
        return task


@pytest.fixture
def people(room):
    return People(room)


@pytest.mark.parametrize("first", [0, 1])
async def test_either_may_offer_and_messages_pass(room, pair, people, first) -> None:
    a, b = pair[first], pair[1 - first]
    link = await people.complete(a, await people.answer(b, await people.offer(a)))
    assert link.peer == b.id
    assert a.linked(b)
    assert b.linked(a)
    b.links.link(a.id).send(Ping(7))
    room.settle()
    assert room.signals == []


async def test_the_other_end_may_take_nine_minutes_for_each_text(room, pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    room.tick(CONNECT_OFFER_TTL_S / 2)
    answer = await people.answer(b, offer)
    room.tick(CONNECT_OFFER_TTL_S / 2 - 1)
    await people.complete(a, answer)
    assert a.linked(b)
    assert b.linked(a)


async def test_both_ends_are_told_to_be_patient(pair, people) -> None:
    a, b = pair
    await people.answer(b, await people.offer(a))
    assert [c.patient for c in a.transport.commands if isinstance(c, Offer)] == [True]
    assert [c.patient for c in b.transport.commands if isinstance(c, Answer)] == [True]


async def test_a_link_by_text_is_kept_lost_and_made_anew_like_any_other(room, pair, people) -> None:
    a, b = pair
    await people.complete(a, await people.answer(b, await people.offer(a)))
    room.tick(120)
    assert a.linked(b)
    a.links.drop(b.id, "for the test")
    room.settle()
    assert b.heard.down == ["for the test"]
    room.deaf = False
    b.links.connect(a.id)
    room.settle()
    assert a.linked(b)


async def test_an_offer_that_nobody_answers_is_given_up(room, pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    room.tick(CONNECT_OFFER_TTL_S - 5)
    answer = await people.answer(b, offer)
    room.tick(10)
    assert any(isinstance(command, CloseLink) for command in a.transport.commands)
    with pytest.raises(InputError, match="no longer waits here"):
        await people.complete(a, answer)


async def test_an_expired_offer_is_refused_with_some_patience_for_clocks(
    room, pair, people
) -> None:
    a, b = pair
    offer = await people.offer(a)
    room.now += CONNECT_OFFER_TTL_S + CLOCK_SKEW_S - 5
    await people.answer(b, offer)
    c = room.member(4)
    room.now += 10
    with pytest.raises(InputError, match="has expired"):
        await people.answer(c, offer)


async def test_an_answer_waits_no_longer_than_the_offer(room, pair, people) -> None:
    a, b = pair
    await people.answer(b, await people.offer(a))
    room.tick(CONNECT_OFFER_TTL_S + CONNECT_OPEN_TIMEOUT_S + 5)
    assert any(isinstance(command, CloseLink) for command in b.transport.commands)
    assert not b.links.meetings.owns(1)


async def test_an_offer_from_a_clock_far_ahead_is_not_waited_for_longer(room, pair, people) -> None:
    a, b = pair
    offer = decode(await people.offer(a))
    people.knows_time(b)
    ahead = replace(offer, expires=offer.expires + 10**6)
    await people.until_ended(b.links.meetings.answer(ahead))
    room.tick(CONNECT_OFFER_TTL_S + CONNECT_OPEN_TIMEOUT_S + 5)
    assert any(isinstance(command, CloseLink) for command in b.transport.commands)


async def test_the_same_offer_gives_the_same_answer_again(pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    answer = await people.answer(b, offer)
    assert await people.answer(b, offer) == answer
    assert len([c for c in b.transport.commands if isinstance(c, Answer)]) == 1
    await people.complete(a, answer)
    assert b.linked(a)


async def test_a_new_offer_of_the_same_node_replaces_the_answer(pair, people) -> None:
    a, b = pair
    old = await people.answer(b, await people.offer(a))
    new = await people.answer(b, await people.offer(a))
    assert CloseLink(1) in b.transport.commands
    await people.complete(a, new)
    assert b.linked(a)
    with pytest.raises(InputError, match=r"linked to .* already"):
        await people.complete(a, old)


async def test_its_own_texts_are_refused(pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    with pytest.raises(InputError, match="this node's own offer"):
        await people.answer(a, offer)
    answer = await people.answer(b, offer)
    with pytest.raises(InputError, match="made on this machine"):
        await people.complete(b, answer)


async def test_an_answer_to_another_offer_is_refused(room, pair, people) -> None:
    a, b = pair
    elsewhere = room.member(4)
    answer = await people.answer(b, await people.offer(elsewhere))
    await people.offer(a)
    with pytest.raises(InputError, match="no longer waits here"):
        await people.complete(a, answer)


async def test_the_first_answer_counts(room, pair, people) -> None:
    a, b = pair
    c = room.member(4)
    offer = await people.offer(a)
    first, second = await people.answer(b, offer), await people.answer(c, offer)
    room.wire.ends.clear()
    task = await people.completing(a, first)
    with pytest.raises(InputError, match="has an answer already"):
        await people.complete(a, second)
    a.links.close()
    with pytest.raises(RemoteError):
        await task


async def test_an_answer_of_another_room_is_refused(pair, people) -> None:
    a, b = pair
    answer = decode(await people.answer(b, await people.offer(a)))
    with pytest.raises(InputError, match="no longer waits here"):
        await a.links.meetings.complete(replace(answer, room_hint=b"else"))


async def test_nodes_that_are_linked_are_told_so(pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    await people.complete(a, await people.answer(b, await people.offer(a)))
    with pytest.raises(InputError, match=r"linked to .* already"):
        await people.answer(b, offer)


async def test_a_banned_node_is_neither_answered_nor_linked_to(pair, people) -> None:
    a, b = pair
    offer = await people.offer(a)
    answer = await people.answer(b, offer)
    a.banned.append(b.id)
    with pytest.raises(ForbiddenError, match="banned"):
        await people.complete(a, answer)
    b.banned.append(a.id)
    with pytest.raises(ForbiddenError, match="banned"):
        await people.answer(b, await people.offer(a))


async def test_a_node_banned_while_the_link_comes_up_gets_none(room, pair, people) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    task = asyncio.ensure_future(a.links.meetings.complete(decode(answer)))
    await asyncio.sleep(0)
    a.banned.append(b.id)
    with pytest.raises(RemoteError, match="banned"):
        await people.until_ended(task)
    assert not a.linked(b)


async def test_who_stole_the_offer_and_is_no_member_gets_no_link(room, pair, people) -> None:
    a, _ = pair
    thief_key = SigningKey(b"\x2a" * 32)
    own_room = SigningKey(b"\x2b" * 32)
    chain = (node_certificate(own_room.public, thief_key.public, ["member"], room.now, own_room),)
    thief = room.member(42, chain)
    answer = await people.answer(thief, await people.offer(a))
    with pytest.raises(RemoteError, match=r"a certificate is for room[^;]*$"):
        await people.complete(a, answer)
    room.settle()
    assert a.heard.up == a.links.links == thief.links.links == []


async def test_an_answer_in_another_members_name_gets_no_link(room, pair, people) -> None:
    a, b = pair
    c = room.member(4)
    answer = decode(await people.answer(b, await people.offer(a)))
    task = asyncio.ensure_future(a.links.meetings.complete(replace(answer, node=c.id)))
    with pytest.raises(RemoteError, match="another node answered"):
        await people.until_ended(task)
    assert a.links.links == []


async def test_ends_that_do_not_reach_each_other_are_given_up_with_advice(
    room, pair, people
) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    room.wire.ends.clear()
    task = await people.completing(a, answer)
    room.tick(CONNECT_OPEN_TIMEOUT_S + 1)
    with pytest.raises(RemoteError, match=r"could not reach each other.*STUN or TURN"):
        await people.until_ended(task)
    assert CloseLink(1) in a.transport.commands


async def test_a_transport_that_ends_takes_its_offers_with_it(room, pair, people) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    a.links.transport_event(LinkClosed(1, "our transport process ended", False))
    with pytest.raises(InputError, match="no longer waits here"):
        await people.complete(a, answer)


async def test_a_transport_that_makes_no_description_is_an_error(pair, people) -> None:
    a, _ = pair
    offering = asyncio.ensure_future(a.links.meetings.offer())
    await asyncio.sleep(0)
    a.links.transport_event(LinkClosed(1, "our transport process is starting again", False))
    with pytest.raises(LocalError, match="starting again"):
        await offering


async def test_a_machine_without_an_address_says_so(pair, people, monkeypatch) -> None:
    a, _ = pair
    monkeypatch.setattr(description, "reduce", lambda sdp: replace(REDUCE(sdp), candidates=()))
    with pytest.raises(LocalError, match="no network address"):
        await people.offer(a)
    assert CloseLink(1) in a.transport.commands


async def test_too_many_offers_push_out_the_oldest(pair, people) -> None:
    a, b = pair
    offers = [await people.offer(a) for _ in range(CONNECT_MAX_WAITING + 1)]
    oldest = await people.answer(b, offers[0])
    with pytest.raises(InputError, match="no longer waits here"):
        await people.complete(a, oldest)
    await people.complete(a, await people.answer(b, offers[-1]))
    assert a.linked(b)


async def test_a_full_node_offers_no_more(pair, people, monkeypatch) -> None:
    a, _ = pair
    monkeypatch.setattr("dreamer.daemon.links.room_links.LINKS_MAX_PER_NODE", 0)
    with pytest.raises(LocalError, match=f"{LINKS_MAX_PER_NODE} links"):
        await people.offer(a)


async def test_a_link_by_signals_that_is_coming_up_gives_way(room, pair, people) -> None:
    a, b = pair
    a.links.connect(b.id)
    room.settle()
    assert a.links.connecting(b.id)
    await people.complete(a, await people.answer(b, await people.offer(a)))
    assert a.linked(b)
    assert not a.links.connecting(b.id)
    room.tick(60)
    assert a.linked(b)
    assert b.linked(a)


async def test_a_link_by_signals_that_came_up_first_stays(room, pair, people) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    task = asyncio.ensure_future(a.links.meetings.complete(decode(answer)))
    room.deaf = False
    a.links.connect(b.id)
    await asyncio.sleep(0)
    for _ in range(5):
        room.settle()
        await asyncio.sleep(0)
    found = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(found[0], Link | DreamerError)
    room.tick(30)
    assert a.linked(b) == b.linked(a)


async def test_leaving_ends_what_waits(pair, people) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    a.links.close()
    assert CloseLink(1) in a.transport.commands
    with pytest.raises(InputError):
        await a.links.meetings.complete(decode(answer))


async def test_leaving_while_the_two_prove_themselves_ends_the_wait(room, pair, people) -> None:
    a, b = pair
    answer = await people.answer(b, await people.offer(a))
    task = asyncio.ensure_future(a.links.meetings.complete(decode(answer)))
    await asyncio.sleep(0)
    b.transport.on_event = lambda event: None
    room.settle()
    assert not a.links.meetings.owns(1)
    a.links.close()
    with pytest.raises(RemoteError, match="leaving the room"):
        await people.until_ended(task)
