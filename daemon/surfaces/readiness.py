"""Whether a node is ready for its work, and what it still waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

PreloadState = Literal["waiting", "fetching", "loading", "ready"]


@dataclass(frozen=True)
class PreloadInfo:
    """One model of ``[models] preload``.

    ``manifest_id`` and ``name`` are of the model that is here for it, empty while there is none.
    ``state`` is of what is being done for it: with ``follow``, of the next one. ``done`` of
    ``total`` bytes are here; ``note`` says what it waits for, and what would help.
    """

    ref: str
    state: PreloadState
    ready: bool
    manifest_id: str = ""
    name: str = ""
    loaded: bool = False
    done: int = 0
    total: int = 0
    note: str = ""


@dataclass(frozen=True)
class ReadyInfo:
    """Whether a node is ready, what it waits for in words, and how each model stands."""

    ready: bool
    waiting_for: tuple[str, ...] = ()
    preload: tuple[PreloadInfo, ...] = ()


class Readiness(Protocol):
    """The facet of a node that says whether it is ready."""

    def info(self) -> ReadyInfo:
        """Return how it stands now."""
        ...
