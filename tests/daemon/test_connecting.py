"""From a pasted text to the room and the node it is about."""

from __future__ import annotations

import time
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from dreamer.daemon.ports import MeetingText
from dreamer.daemon.room.connecting import make_offer, take_text
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import CONNECT_OFFER_TTL_S
from dreamer.protocol.link.description import Candidate, CandidateKind, Description
from dreamer.protocol.link.meeting import Answer, Offer, encode, hint_of

US, THEM = NodeId(b"u" * 32), NodeId(b"t" * 32)
LAB, DEPOT, ELSEWHERE = (RoomId(letter * 32) for letter in (b"l", b"d", b"e"))
ADDRESS = Candidate(CandidateKind.HOST, ip_address("192.0.2.1"), 4000)
DESCRIPTION = Description("abcd", "x" * 22, b"f" * 32, (ADDRESS,))


class Session:
    """A room whose meetings say what they are asked."""

    def __init__(self, room_id: RoomId, name: str) -> None:
        self.room_id = room_id
        self.card = SimpleNamespace(name=name)
        self.links = SimpleNamespace(meetings=self)

    async def offer(self) -> str:
        return f"offer in {self.card.name}"

    async def answer(self, offer: Offer) -> str:
        return f"answer in {self.card.name}"

    async def complete(self, answer: Answer):
        return SimpleNamespace(peer=answer.node)


@pytest.fixture
def keeper():
    sessions = {"lab": Session(LAB, "lab"), "depot": Session(DEPOT, "depot")}
    return SimpleNamespace(sessions=list(sessions.values()), get=lambda room: sessions[room])


def an_offer(room: RoomId, expires_s: float = 600.0) -> str:
    return encode(Offer(hint_of(room), THEM, int(time.time() + expires_s), DESCRIPTION))


def an_answer(room: RoomId, to: NodeId) -> str:
    return encode(Answer(hint_of(room), THEM, b"mark", to[:2], DESCRIPTION))


async def test_an_offer_is_made_in_the_room_that_was_named(keeper) -> None:
    made = await make_offer(keeper, "depot")
    assert made == MeetingText("offer", "offer in depot", "depot", None, CONNECT_OFFER_TTL_S)


async def test_an_offer_is_answered_in_its_room_and_for_as_long_as_it_waits(keeper) -> None:
    made = await take_text(keeper, US, an_offer(DEPOT, 300.0))
    assert isinstance(made, MeetingText)
    assert (made.text, made.node) == ("answer in depot", THEM.hex())
    assert 0 < made.expires_s <= 300.0
    ahead = await take_text(keeper, US, an_offer(LAB, 10**6))
    assert isinstance(ahead, MeetingText)
    assert ahead.expires_s == CONNECT_OFFER_TTL_S


async def test_an_answer_says_who_is_linked(keeper) -> None:
    session, peer = await take_text(keeper, US, an_answer(LAB, US))
    assert (session.card.name, peer) == ("lab", THEM)


async def test_a_room_that_this_node_is_not_in_is_to_be_joined_first(keeper) -> None:
    for text in (an_offer(ELSEWHERE), an_answer(ELSEWHERE, US)):
        with pytest.raises(NoMatchError, match=r"room 65656565.*join it first"):
            await take_text(keeper, US, text)


async def test_an_answer_for_another_node_is_to_be_pasted_there(keeper) -> None:
    with pytest.raises(InputError, match=r"for node 7474, and this one is 75757575"):
        await take_text(keeper, US, an_answer(LAB, THEM))


@pytest.mark.parametrize("text", ["", "hello", "A" * 2**20, "DREAMER-OFFER.AE"])
async def test_no_text_at_all_is_refused(keeper, text) -> None:
    with pytest.raises(InputError):
        await take_text(keeper, US, text)
