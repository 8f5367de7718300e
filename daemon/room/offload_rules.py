"""A room's rules of who may have whom run models, as people write them."""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.surfaces.offload_rules import OffloadRulesInfo
from dreamer.protocol.errors import InputError
from dreamer.protocol.offload_rules import OffloadRules
from dreamer.protocol.registry.changes import SetPolicy
from dreamer.protocol.rooms.certificate import ALL_ROLES


class RoomOffloadRules:
    """The rooms of this node; see ``surfaces.offload_rules.OffloadRules`` for each call."""

    def __init__(self, rooms: RoomKeeper) -> None:
        self._rooms = rooms

    async def rules(self, room: str | None) -> OffloadRulesInfo:
        """Return a room's rules."""
        session = self._rooms.get(room)
        return _info(session.card.name, (await session.read_registry()).policy.offload)

    async def set_rules(self, room: str | None, allow: list[str] | None) -> OffloadRulesInfo:
        """Set a room's rules; what else its policy says stays."""
        rules = None if allow is None else _parsed(allow)
        session = self._rooms.get(room)
        before = (await session.registry.refresh()).registry.policy
        changed = await session.registry.change(SetPolicy(replace(before, offload=rules)))
        return _info(session.card.name, changed.registry.policy.offload)


def _parsed(allow: list[str]) -> OffloadRules:
    """Read ``ASKER=SERVER,…`` rules; several for one asker add up.

    Raises:
        InputError: one is malformed, or names what is no role.
    """
    rules: dict[str, tuple[str, ...]] = {}
    for one in allow:
        asker, equals, servers = one.partition("=")
        roles = tuple(servers.split(","))
        if not equals or any(role not in ALL_ROLES for role in (asker, *roles)):
            known = ", ".join(ALL_ROLES)
            raise InputError(
                f"{one!r:.80} is no rule: write ASKER=SERVER[,SERVER] in roles, which are {known}"
            )
        rules[asker] = tuple(dict.fromkeys((*rules.get(asker, ()), *roles)))
    return rules


def _info(room: str, rules: OffloadRules | None) -> OffloadRulesInfo:
    if rules is None:
        said = "each node says itself whom it serves ([inference] serve_peers)"
        return OffloadRulesInfo(room, None, said)
    allow = tuple(f"{asker}={','.join(servers)}" for asker, servers in sorted(rules.items()))
    said = "; ".join(f"{asker} may ask {' or '.join(rules[asker])}" for asker in sorted(rules))
    return OffloadRulesInfo(room, allow, said or "nobody may have others run models")
