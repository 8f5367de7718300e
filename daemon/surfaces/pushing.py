"""What a push is asked to publish, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamer.protocol.errors import InputError
from dreamer.protocol.registry.names import check_alias, check_name, check_tag
from dreamer.protocol.registry.provenance import Provenance

OriginWait = Literal["try", "done", "no"]


@dataclass(frozen=True)
class PushRequest:
    """What to push and what to call it. ``allow_pickle`` takes files in that may hold code.

    ``public`` makes it a torrent for anybody, too, as does a room that the node's settings call
    public; without either a model that was public is no more. ``notes`` and ``provenance`` stay as
    they were where they are None; ``trained_from`` are references, in its room, to the models that
    it was trained from. A ``name`` that nobody gave it (not ``named``), the folder's own, does not
    rename a model that is in the room already. ``wait``: for the first attempt of the upload to
    the room's origin (``try``), until it is ``done``, or not at all (``no``); it goes on by itself.
    """

    path: Path
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    name: str
    allow_pickle: bool = False
    public: bool = False
    notes: str | None = None
    provenance: Provenance | None = None
    trained_from: tuple[str, ...] = ()
    wait: OriginWait = "try"
    ttl_s: float | None = None
    """After so many seconds the room has it no more; None: it is there to stay."""
    named: bool = True

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.ttl_s is not None and (self.aliases or self.public):
            raise InputError(
                "a temporary upload has no alias and is not public: pull it by the id that you "
                "are told, or push it for good"
            )
        for alias in self.aliases:
            check_alias(alias)
        for tag in self.tags:
            check_tag(tag)
