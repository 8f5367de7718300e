"""A node that was given an invitation joins by itself, and says why it can't."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.ports import RoomInfo
from dreamer.daemon.room.book import RoomBook
from dreamer.daemon.worker.joining import Joining
from dreamer.daemon.worker.secrets_given import Invitation
from dreamer.protocol.errors import DreamerError, ForbiddenError, RemoteError


@dataclass
class FakeRooms:
    """A node's rooms; ``errors`` are what the next joins end with."""

    errors: list[DreamerError] = field(default_factory=list)
    member_of: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)

    def infos(self):
        return [RoomInfo("lab", one, ("member",), (), None, None, True) for one in self.member_of]

    async def join(self, token):
        self.joined.append(token)
        if self.errors:
            raise self.errors.pop(0)
        return RoomInfo("lab", "cd" * 32, ("member",), (), None, None, True)


@pytest.fixture
def room(tmp_path):
    """The id of a room, and a token for it."""
    book = RoomBook(tmp_path, NodeIdentity.load_or_create(tmp_path))
    made = book.create("lab", ["http://127.0.0.1:1"], None, None, 1e9)
    return made.card.room_id.hex(), book.invite("lab", ["member"], 3600.0, 100, 1e9)


async def no_sleep(seconds):
    assert 0 <= seconds <= 60


def joining(rooms, token):
    given = Invitation("", {"DREAMER_JOIN_TOKEN": token})
    return Joining(rooms, given, random.Random(1), sleep=no_sleep)


async def test_node_joins_the_room_of_its_invitation(room):
    rooms = FakeRooms()
    one = joining(rooms, room[1])
    await one.run()
    assert one.done
    assert rooms.joined == [room[1]]


async def test_node_without_invitation_has_nothing_to_do():
    rooms = FakeRooms()
    one = joining(rooms, "")
    await one.run()
    assert (one.done, rooms.joined) == (True, [])


async def test_member_does_not_use_the_invitation_again(room):
    rooms = FakeRooms(member_of=[room[0]])
    one = joining(rooms, room[1])
    await one.run()
    assert (one.done, rooms.joined) == (True, [])


async def test_refusal_is_said_and_tried_again(room):
    rooms = FakeRooms([RemoteError("the tracker is away"), ForbiddenError("it has expired")])
    said = []
    one = joining(rooms, room[1])
    one._changed = lambda: said.append(str(one.error))
    await one.run()
    assert said == ["the tracker is away", "it has expired"]
    assert (one.done, one.error, len(rooms.joined)) == (True, None, 3)
