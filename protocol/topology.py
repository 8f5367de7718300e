"""A room as one of its nodes knows it, written down for the simulator: ``dreamer export topology``.

The document is made to be handed around, so it names nobody: nodes go by the first digits of their
ids, and no name, address, tracker or bucket is in it; models go by id and name. Where a figure was
not measured it is null, never a guess.

A later Dreamer may write a later ``version``; what reads it refuses those it does not know, since a
scenario made from half a document would answer another question than was asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import TOPOLOGY_MAX_MEMBERS, TOPOLOGY_MAX_MODELS
from dreamer.protocol.rooms import fields as json_fields
from dreamer.protocol.swarm.vocabulary import Lane

VERSION = 1
KIND = "dreamer.topology"

NATS = ("unknown", "public", "full_cone", "restricted", "port_restricted", "symmetric", "no_udp")
"""What a machine may be behind. Nodes of version 1 don't find out, and write ``unknown``."""

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

V = TypeVar("V", bound="DataclassInstance")


@dataclass(frozen=True)
class Measured:
    """The most bytes a second that passed for some seconds, each way; 0: nothing has passed yet.

    Less than the line can carry unless somebody wanted that much.
    """

    down_bytes_s: float = 0.0
    up_bytes_s: float = 0.0


@dataclass(frozen=True)
class RelayUse:
    """Bytes over relays: of this month, and how many more may pass."""

    month_bytes: int
    left_bytes: int


@dataclass(frozen=True)
class LinkSeen:
    """The link to a member. ``lane`` is how blocks would go now, ``measured_over`` how those went
    that ``measured`` counts; ``rtt_s`` None: no answer to a ping has come yet."""

    lane: str
    rtt_s: float | None
    measured: Measured
    measured_over: str | None
    relay: RelayUse | None
    lan: bool = False


@dataclass(frozen=True)
class MemberSeen:
    """A member that is present, linked, or named as somebody who shares a model."""

    id: str
    nat: str
    link: LinkSeen | None


@dataclass(frozen=True)
class ModelSeen:
    """A model of the room. ``sharers`` are other members that hold or fetch it, ``whole`` those of
    them of whom a tracker says that they hold all; none, where no tracker was asked.
    ``here_bytes`` are verified here; ``pulling``: this node fetches the rest."""

    id: str
    name: str
    size_bytes: int
    files: int
    here_bytes: int
    pulling: bool
    sharers: tuple[str, ...]
    whole: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """What relays may carry: with one peer in a month, with all in a day and in a month."""

    per_peer_bytes: int
    per_day_bytes: int
    per_month_bytes: int
    day_bytes: int
    month_bytes: int


@dataclass(frozen=True)
class StoreSeen:
    """The store: models whole, models half here, and what is free on its disk."""

    content_bytes: int
    partial_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class NodeSeen:
    """The node that tells. Limits as set for this time of day; None: none."""

    id: str
    up_limit_bytes_s: float | None
    down_limit_bytes_s: float | None
    measured: Measured
    relay_budget: Budget
    store: StoreSeen


@dataclass(frozen=True)
class Topology:
    """The whole. ``taken_at``: epoch seconds. ``room``: the first digits of its id."""

    taken_at: int
    room: str
    node: NodeSeen
    origin: bool
    trackers: int
    members: tuple[MemberSeen, ...]
    models: tuple[ModelSeen, ...]


def to_json(topology: Topology) -> Json:
    """Return the document."""
    return {"kind": KIND, "version": VERSION, **asdict(topology)}


def from_json(value: Json) -> Topology:
    """Return what a document says.

    Raises:
        InputError: it is none, of a version that is not known here, or not as it should be.
    """
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise InputError("this is no topology: make one with 'dreamer export topology'")
    if (version := value.get("version")) != VERSION:
        raise InputError(
            f"the topology is of version {version!r:.20}, and this Dreamer reads version "
            f"{VERSION}: export it anew, with a dreamerd as new as this"
        )
    body = {name: each for name, each in value.items() if name not in ("kind", "version")}
    found = _object(Topology, body, "the topology", {
        "taken_at": json_fields.whole,
        "room": json_fields.text,
        "node": _node,
        "origin": _flag,
        "trackers": json_fields.whole,
        "members": _list(_member, TOPOLOGY_MAX_MEMBERS),
        "models": _list(_model, TOPOLOGY_MAX_MODELS),
    })  # fmt: skip
    _check_ids(found)
    return found


def _check_ids(topology: Topology) -> None:
    members = [member.id for member in topology.members]
    if len(set(members)) < len(members) or topology.node.id in members:
        raise InputError("the topology names a node twice")
    models = [model.id for model in topology.models]
    if len(set(models)) < len(models):
        raise InputError("the topology names a model twice")
    known = frozenset(members)
    for model in topology.models:
        if set(model.whole) - set(model.sharers):
            raise InputError(f"model {model.id:.16} is held by a member that does not share it")
        if strangers := [one for one in model.sharers if one not in known]:
            raise InputError(
                f"model {model.id:.16} is shared by {strangers[0]:.16}, who is no member"
            )


# Each takes a JSON value and what it is called in an error, and returns it checked.
_Read = Callable[[object, str], Any]


def _object(kind: type[V], value: object, what: str, readers: dict[str, _Read]) -> V:
    names = [one.name for one in fields(kind)]
    found = json_fields.exact(value, names, what)
    return kind(**{name: readers[name](found[name], f"{name} of {what}") for name in names})


def _node(value: object, what: str) -> NodeSeen:
    return _object(NodeSeen, value, what, {
        "id": json_fields.text,
        "up_limit_bytes_s": _maybe(_rate),
        "down_limit_bytes_s": _maybe(_rate),
        "measured": _measured,
        "relay_budget": _counts(Budget),
        "store": _counts(StoreSeen),
    })  # fmt: skip


def _member(value: object, what: str) -> MemberSeen:
    readers = {"id": json_fields.text, "nat": _one_of(NATS), "link": _maybe(_link)}
    return _object(MemberSeen, value, what, readers)


def _link(value: object, what: str) -> LinkSeen:
    lane = _one_of([lane.value for lane in Lane])
    return _object(LinkSeen, value, what, {
        "lane": lane,
        "rtt_s": _maybe(_rate),
        "measured": _measured,
        "measured_over": _maybe(lane),
        "relay": _maybe(_counts(RelayUse)),
        "lan": _flag,
    })  # fmt: skip


def _model(value: object, what: str) -> ModelSeen:
    return _object(ModelSeen, value, what, {
        "id": json_fields.text,
        "name": json_fields.text,
        "size_bytes": json_fields.whole,
        "files": json_fields.whole,
        "here_bytes": json_fields.whole,
        "pulling": _flag,
        "sharers": _list(json_fields.text, TOPOLOGY_MAX_MEMBERS),
        "whole": _list(json_fields.text, TOPOLOGY_MAX_MEMBERS),
    })  # fmt: skip


def _measured(value: object, what: str) -> Measured:
    return _object(Measured, value, what, {"down_bytes_s": _rate, "up_bytes_s": _rate})


def _counts(kind: type[V]) -> Callable[[object, str], V]:
    """Read an object all of whose fields are whole numbers."""
    readers: dict[str, _Read] = {one.name: json_fields.whole for one in fields(kind)}
    return lambda value, what: _object(kind, value, what, readers)


def _maybe(read: _Read) -> _Read:
    return lambda value, what: None if value is None else read(value, what)


def _list(read: _Read, most: int) -> _Read:
    def items(value: object, what: str) -> tuple[Any, ...]:
        return tuple(read(each, what) for each in json_fields.items(value, what, most))

    return items


def _one_of(words: Collection[str]) -> Callable[[object, str], str]:
    def word(value: object, what: str) -> str:
        if value in words:
            return str(value)
        raise InputError(f"{what} must be one of {', '.join(words)}, not {value!r:.40}")

    return word


def _flag(value: object, what: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InputError(f"{what} must be true or false, not {value!r:.40}")


def _rate(value: object, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and number >= 0:
            return number
    raise InputError(f"{what} must be a number that is not negative, not {value!r:.40}")
