"""A room's rules of who may ask whom: as they are written, set and shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.room.offload_rules import RoomOffloadRules
from dreamer.protocol.errors import InputError
from dreamer.protocol.registry.policy import Retention, RoomPolicy
from dreamer.protocol.registry.view import Registry


class Rooms:
    """One room, with a registry that takes what is set."""

    def __init__(self) -> None:
        self.card = SimpleNamespace(name="lab")
        self.policy = RoomPolicy(Retention(keep_last=3))
        self.registry = self

    def get(self, room):
        return self

    async def read_registry(self):
        return Registry(policy=self.policy)

    async def refresh(self):
        return SimpleNamespace(registry=Registry(policy=self.policy))

    async def change(self, change):
        self.policy = change.policy
        return await self.refresh()


async def test_a_room_without_rules_leaves_it_to_its_nodes() -> None:
    info = await RoomOffloadRules(Rooms()).rules(None)
    assert (info.allow, "each node" in info.said) == (None, True)


async def test_rules_are_set_and_what_else_the_policy_says_stays() -> None:
    rooms = Rooms()
    rules = RoomOffloadRules(rooms)
    info = await rules.set_rules(None, ["member=worker", "admin=worker,publisher", "member=admin"])
    assert info.allow == ("admin=worker,publisher", "member=worker,admin")
    assert info.said == "admin may ask worker or publisher; member may ask worker or admin"
    assert rooms.policy.retention == Retention(keep_last=3)
    assert (await rules.rules(None)).allow == info.allow


async def test_no_rules_at_all_let_nobody_ask() -> None:
    info = await RoomOffloadRules(Rooms()).set_rules(None, [])
    assert (info.allow, info.said) == ((), "nobody may have others run models")


async def test_rules_are_taken_away() -> None:
    rules = RoomOffloadRules(Rooms())
    await rules.set_rules(None, [])
    assert (await rules.set_rules(None, None)).allow is None


@pytest.mark.parametrize("rule", ["member", "=worker", "member=", "member=king", "queen=worker"])
async def test_what_is_no_rule_is_refused(rule) -> None:
    with pytest.raises(InputError, match="ASKER=SERVER"):
        await RoomOffloadRules(Rooms()).set_rules(None, [rule])
