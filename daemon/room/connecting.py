"""``dreamer connect``: from a text that somebody pasted to the room and node it is about."""

from __future__ import annotations

import time

from dreamer.daemon.ports import MeetingText
from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.room.session import RoomSession
from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.limits import CONNECT_OFFER_TTL_S
from dreamer.protocol.link import meeting
from dreamer.protocol.link.meeting import Answer, Offer


async def make_offer(keeper: RoomKeeper, room: str | None) -> MeetingText:
    """Return an offer to link in a room, for another machine; see ``Meetings.offer``."""
    session = keeper.get(room)
    text = await session.links.meetings.offer()
    return MeetingText("offer", text, session.card.name, None, CONNECT_OFFER_TTL_S)


async def take_text(
    keeper: RoomKeeper, node_id: NodeId, pasted: str
) -> MeetingText | tuple[RoomSession, NodeId]:
    """Answer an offer, or link to whoever answered ours; return the answer, or who is linked.

    Raises:
        InputError: it is no such text, not a whole one, or not for this node now.
        NoMatchError: this node is not in the room.
        ForbiddenError: the other node is banned.
        RemoteError: the two can't reach each other, or the other one is no member.
    """
    said = meeting.decode(pasted)
    session = _session(keeper, said.room_hint)
    match said:
        case Offer():
            text = await session.links.meetings.answer(said)
            left_s = min(CONNECT_OFFER_TTL_S, max(0.0, said.expires - time.time()))
            return MeetingText("answer", text, session.card.name, said.node.hex(), left_s)
        case Answer():
            if not node_id.startswith(said.to):
                raise InputError(
                    f"this answer is for node {said.to.hex()}, and this one is {short(node_id)}: "
                    "paste it where the offer was made"
                )
            link = await session.links.meetings.complete(said)
            return session, link.peer


def _session(keeper: RoomKeeper, hint: bytes) -> RoomSession:
    for session in keeper.sessions:
        if meeting.hint_of(session.room_id) == hint:
            return session
    raise NoMatchError(
        f"this text is for room {hint.hex()}, and this node is not in it: join it first, with "
        "a token from 'dreamer room invite'"
    )
