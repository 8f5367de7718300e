"""Who watches a run: told of everything that happens, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Command, Event, Lane

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World


class Observer:
    """Does nothing; whoever watches overrides what it cares for. ``now`` is virtual seconds."""

    def began(self, world: World) -> None:
        """Everything is built, nothing has happened yet."""

    def planned(
        self, pull: Pull, event: Event | None, commands: Sequence[Command], now: float
    ) -> None:
        """A pull's planner took an event (None: it was started) and said what to do."""

    def handed_out(
        self, end: End, model: Model, request: int, blocks: Sequence[int], now: float
    ) -> None:
        """A slice of a request is put on the line: limits of the rate have let it go."""

    def served(self, end: End, request: int, block: int, now: float) -> None:
        """A node has sent a whole block to the peer at the other end of a link."""

    def asked_origin(self, pull: Pull, request: int, blocks: int, now: float) -> None:
        """A node has begun a GET for a set of blocks."""

    def arrived(
        self, pull: Pull, lane: Lane, block: int, size_bytes: int, *, right: bool, now: float
    ) -> None:
        """A block has come in for a pull; ``right``: its hash will match."""

    def wasted(self, node: Node, size_bytes: int, now: float) -> None:
        """Bytes came in that nobody waits for any more, or that were wrong."""

    def relayed(self, end: End, size_bytes: int, now: float) -> None:
        """Bytes that were sent from this end have passed a TURN relay."""

    def joined(self, node: Node, now: float) -> None:
        """A machine has come (back)."""

    def left(self, node: Node, now: float) -> None:
        """A machine has gone; whether it comes back is not known."""

    def pull_began(self, pull: Pull, now: float) -> None:
        """A machine begins to pull a model."""

    def pull_ended(self, pull: Pull, now: float) -> None:
        """A pull has all of its model, or has given up for good (``pull.gave_up``)."""

    def happened(self, world: World) -> None:
        """An event of the heap has been carried out."""

    def ended(self, world: World) -> None:
        """Nothing more will happen."""


class Observers(Observer):
    """Tells several, in their order; only those that override something are told of it."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        for name in [name for name in vars(Observer) if not name.startswith("_")]:
            told = [getattr(each, name) for each in observers if _overrides(each, name)]
            setattr(self, name, _tell(told))
        self.watch_plans = any(_overrides(each, "planned") for each in observers)
        """Whether anybody is to be told what planners hear and say."""
        self.watch_events = any(_overrides(each, "happened") for each in observers)


def _overrides(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name) is not getattr(Observer, name)


def _tell_nobody(*args: object, **named: object) -> None:
    pass


def _tell(told: Sequence[Callable[..., None]]) -> Callable[..., None]:
    if not told:
        return _tell_nobody
    if len(told) == 1:
        return told[0]

    def tell(*args: object, **named: object) -> None:
        for each in told:
            each(*args, **named)

    return tell
