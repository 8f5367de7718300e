"""Who in a room may have whom run models: its admins' rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class OffloadRulesInfo:
    """A room's rules, each ``ASKER=SERVER,…`` in roles; None: it leaves that to each node.

    ``said`` is the same in words.
    """

    room: str
    allow: tuple[str, ...] | None
    said: str


class OffloadRules(Protocol):
    """The rules of a node's rooms. A room of None is the only one; raises DreamerError."""

    async def rules(self, room: str | None) -> OffloadRulesInfo:
        """Return a room's rules."""
        ...

    async def set_rules(self, room: str | None, allow: list[str] | None) -> OffloadRulesInfo:
        """Set a room's rules, all of them; none at all lets nobody ask anybody. For admins."""
        ...
