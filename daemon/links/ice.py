"""The STUN and TURN servers for links that come up now: those of the settings, then trackers'."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


class Ice(Protocol):
    """What a new link is told of how to find a way."""

    @property
    def servers(self) -> tuple[dict[str, str], ...]:
        """STUN and TURN servers: ``urls``, ``username``, ``credential``."""
        ...

    @property
    def relay_only(self) -> bool:
        """Whether no way but through a TURN server may be taken."""
        ...

    @property
    def relays(self) -> bool:
        """Whether a way through a TURN server may be taken, ours or the peer's."""
        ...


@dataclass(frozen=True)
class IceSettings:
    """Servers that the node's owner set; ``relays`` says whether TURN may be used at all."""

    servers: tuple[dict[str, str], ...] = ()
    relay_only: bool = False
    relays: bool = True


class RoomIce:
    """The settings and what a room's trackers lend at the moment; links that stand keep theirs."""

    def __init__(self, settings: IceSettings, lent: Callable[[], Iterable[dict[str, str]]]) -> None:
        self._settings = settings
        self._lent = lent

    @property
    def servers(self) -> tuple[dict[str, str], ...]:
        """The owner's come first: the first STUN server is used, and the first TURN to answer."""
        lent = tuple(self._lent()) if self._settings.relays else ()
        known = (*self._settings.servers, *lent)
        if self.relay_only or any(one["urls"].startswith("stun") for one in known):
            return known
        return (*known, *_asked_for_addresses(known))

    @property
    def relay_only(self) -> bool:
        """As the owner has set it."""
        return self._settings.relay_only

    @property
    def relays(self) -> bool:
        """As the owner has set it."""
        return self._settings.relays


def _asked_for_addresses(servers: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return TURN servers as the STUN servers that they also are (RFC 8656, 3).

    Without one a node behind a NAT learns no address of its own to be called at, and links go
    over the relay that could go straight.
    """
    asked = (re.match(r"turn:([^?]+)(\?transport=udp)?$", one["urls"]) for one in servers)
    return [{"urls": f"stun:{found[1]}"} for found in asked if found]
