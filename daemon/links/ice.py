"""The STUN and TURN servers for links that come up now: those of the settings, then trackers'."""

from __future__ import annotations

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
        """The owner's servers come first: aiortc uses one STUN and one TURN server, the first."""
        lent = tuple(self._lent()) if self._settings.relays else ()
        return (*self._settings.servers, *lent)

    @property
    def relay_only(self) -> bool:
        """As the owner has set it."""
        return self._settings.relay_only
