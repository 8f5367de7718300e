"""Whom a node serves, and what it tells whom: by its owner's settings and the room's rules."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.offload.in_rooms import OffloadInRooms
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.registry.policy import RoomPolicy
from dreamer.protocol.registry.view import Registry

US, PEER = NodeId(b"u" * 32), NodeId(b"p" * 32)
LINK = SimpleNamespace(peer=PEER)


class Session:
    """A room whose registry may have yet to be read; we are a worker, the peer a member."""

    room_id = RoomId(b"r" * 32)

    def __init__(self, rules=None, known=True) -> None:
        self._registry = Registry(policy=RoomPolicy(offload=rules))
        self._known = self._registry if known else None

    def registry_known(self):
        return self._known

    async def read_registry(self):
        self._known = self._registry
        return self._known

    def roles_of(self, node):
        return ("worker",) if node == US else ("member",)


def serving(serves=True, serve_roles=()) -> OffloadInRooms:
    library = SimpleNamespace(in_room=lambda room: [])
    parts = (None, None, library, iter(()), TaskSet(), None)
    return OffloadInRooms(US, *parts, lambda: serves, serve_roles)


@pytest.mark.parametrize(
    ("node", "rules", "allowed"),
    [
        (serving(), None, True),
        (serving(), {"member": ("worker",)}, True),
        (serving(), {"member": ("admin",)}, False),
        (serving(), {}, False),
        (serving(serves=False), None, False),
        (serving(serve_roles=("admin",)), None, False),
        (serving(serve_roles=("admin", "member")), None, True),
    ],
)
def test_a_peer_is_served_only_where_the_node_and_the_room_allow_it(node, rules, allowed) -> None:
    session = Session(rules)
    assert node._allowed(session, LINK) is allowed
    if not allowed:
        with pytest.raises(ForbiddenError):
            node._check(session, LINK)


async def test_nobody_is_served_by_rules_that_were_not_read_yet() -> None:
    node, session = serving(), Session({"member": ("worker",)}, known=False)
    with pytest.raises(ForbiddenError, match="yet to read the room's rules"):
        node._check(session, LINK)
    await node._reading[session.room_id]
    node._check(session, LINK)


def test_a_node_that_serves_nobody_offers_nothing() -> None:
    assert serving(serves=False)._offering(Session()) is None
    assert serving()._offering(Session()).models == ()
