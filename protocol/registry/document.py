"""The room document, version 1: its shape in memory and its canonical bytes.

::

    {"format": "dreamer-room/1", "room": hex, "serial": n,
     "members": {node: [chain, …]},                       newest chain last
     "models":  {manifest id: {"entry": record, "tags": {tag: record}, "stored": record}},
     "aliases": {alias: [record, …]},                     newest move last
     "protections": {alias: [record, …]},                 newest last
     "withdrawn": {manifest id: record},
     "reports": {node: record},
     "policy":  record}

What came later than the first three tables is left out where it is empty. Unknown fields, at the
top, in a model and in a record, are kept and written back, so that nodes of different versions can
share a room. A record that can't be read at all is reported and left out; one that can be read but
not believed stays, for whoever has a better clock or newer memberships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from dreamer.protocol.canonical import Json, count_items, dumps, loads
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId, short
from dreamer.protocol.limits import JSON_MAX_ITEMS
from dreamer.protocol.registry.availability import NodeReport, Stored, read_report, read_stored
from dreamer.protocol.registry.policy import (
    AliasProtection,
    RoomPolicy,
    read_policy,
    read_protection,
)
from dreamer.protocol.registry.reading import Reader
from dreamer.protocol.registry.records import AnyRecord, Record, S, read_record
from dreamer.protocol.registry.reports import Report
from dreamer.protocol.registry.statements import (
    AliasMove,
    ModelEntry,
    TagChange,
    Withdrawal,
    read_alias,
    read_model,
    read_tag,
    read_withdrawal,
)
from dreamer.protocol.registry.tables import latest, one, read_identified, read_named, reported
from dreamer.protocol.registry_limits import (
    ALIAS_HISTORY_MAX,
    PROTECTIONS_MAX_PER_ALIAS,
    REGISTRY_MAX_BYTES,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
)

FORMAT = "dreamer-room/1"

Chain = list[Any]
"""A membership chain in its JSON form; only the rooms' own code looks inside."""

Moves = Mapping[str, tuple[Record[AliasMove], ...]]
Protections = Mapping[str, tuple[Record[AliasProtection], ...]]


@dataclass(frozen=True)
class Published:
    """A model's entry, the latest change of each of its tags, and whether it is in the bucket."""

    entry: Record[ModelEntry]
    tags: Mapping[str, Record[TagChange]] = field(default_factory=dict)
    stored: Record[Stored] | None = None
    extra: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the model as it stands in the document."""
        tags = {tag: record.to_json() for tag, record in self.tags.items()}
        stored = {} if self.stored is None else {"stored": self.stored.to_json()}
        return {**self.extra, "entry": self.entry.to_json(), "tags": tags, **stored}


@dataclass(frozen=True)
class Document:
    """One room's registry as somebody stored it: nothing in it is verified yet.

    ``serial`` counts the changes made so far. ``malformed`` reports what ``parse`` left out.
    """

    room: RoomId
    serial: int = 0
    members: Mapping[NodeId, tuple[Chain, ...]] = field(default_factory=dict)
    models: Mapping[ManifestId, Published] = field(default_factory=dict)
    aliases: Moves = field(default_factory=dict)
    protections: Protections = field(default_factory=dict)
    withdrawn: Mapping[ManifestId, Record[Withdrawal]] = field(default_factory=dict)
    reports: Mapping[NodeId, Record[NodeReport]] = field(default_factory=dict)
    policy: Record[RoomPolicy] | None = None
    extra: Json = field(default_factory=dict)
    malformed: tuple[Report, ...] = field(default=(), compare=False)

    def records(self) -> Iterator[AnyRecord]:
        """Yield every record, whatever it is about."""
        for published in self.models.values():
            yield published.entry
            yield from published.tags.values()
            if published.stored is not None:
                yield published.stored
        for moves in self.aliases.values():
            yield from moves
        for protections in self.protections.values():
            yield from protections
        yield from self.withdrawn.values()
        yield from self.reports.values()
        if self.policy is not None:
            yield self.policy

    def unbounded(self) -> bytes:
        """Return the canonical bytes, however many they are."""
        return dumps(
            {
                **self.extra,
                **self._later_tables(),
                "format": FORMAT,
                "room": self.room.hex(),
                "serial": self.serial,
                "members": {node.hex(): list(chains) for node, chains in self.members.items()},
                "models": {key.hex(): model.to_json() for key, model in self.models.items()},
                "aliases": _lists_json(self.aliases),
            }
        )

    def encode(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            InputError: the document has outgrown what a room's registry may hold.
        """
        data = self.unbounded()
        # Nobody would read one with more values either, and nobody could make it shorter then.
        if len(data) > REGISTRY_MAX_BYTES or count_items(data) > JSON_MAX_ITEMS:
            raise InputError(
                f"the room's registry is full ({len(data)} bytes): withdraw models, or start a new "
                "room for new ones"
            )
        return data

    def _later_tables(self) -> Json:
        tables: Json = {
            "protections": _lists_json(self.protections),
            "withdrawn": {key.hex(): record.to_json() for key, record in self.withdrawn.items()},
            "reports": {node.hex(): record.to_json() for node, record in self.reports.items()},
            "policy": self.policy and self.policy.to_json(),
        }
        return {name: table for name, table in tables.items() if table}


def _lists_json(table: Mapping[str, tuple[Record[S], ...]]) -> Json:
    return {key: [record.to_json() for record in records] for key, records in table.items()}


def parse(data: bytes, room: RoomId) -> Document:
    """Return the document of ``room`` that ``data`` holds, unverified.

    Raises:
        InputError: not a document of this format or of this room. A single broken record is no
            error: it is left out and reported in ``malformed``.
    """
    if len(data) > REGISTRY_MAX_BYTES:
        raise InputError(f"the registry of room {short(room)} is too large to read")
    # Only canonical bytes: a key written twice could mean two things to two readers.
    fields = Reader(loads(data), "the room document")
    found = fields.text("format")
    if found != FORMAT:
        raise InputError(f"the room document has format {found!r:.40}: update Dreamer to read it")
    if fields.hex_bytes("room") != room:
        raise InputError(f"the document is not that of room {short(room)}")
    return _read_tables(fields, room)


def _read_tables(fields: Reader, room: RoomId) -> Document:
    faults: list[Report] = []

    def later(name: str) -> Json:
        return fields.mapping(name) if fields.has(name) else {}

    moves = latest(ALIAS_HISTORY_MAX, read_alias)
    protections = latest(PROTECTIONS_MAX_PER_ALIAS, read_protection)
    members = read_identified(fields.mapping("members"), "member", faults, _read_chains)
    models = read_identified(
        fields.mapping("models"),
        "model",
        faults,
        lambda value, where: _read_published(value, where, faults),
    )
    withdrawn = read_identified(
        later("withdrawn"), "withdrawal of model", faults, one(read_withdrawal)
    )
    reports = read_identified(later("reports"), "report of node", faults, one(read_report))
    return Document(
        room=room,
        serial=fields.integer("serial"),
        members=cast(dict[NodeId, tuple[Chain, ...]], members),
        models=cast(dict[ManifestId, Published], models),
        aliases=read_named(fields.mapping("aliases"), "alias", faults, moves),
        protections=read_named(later("protections"), "protection of alias", faults, protections),
        withdrawn=cast(dict[ManifestId, Record[Withdrawal]], withdrawn),
        reports=cast(dict[NodeId, Record[NodeReport]], reports),
        policy=_read_policy(fields, faults),
        extra=fields.rest(),
        malformed=tuple(faults),
    )


def _read_chains(value: object, where: str) -> tuple[Chain, ...]:
    if not isinstance(value, list) or not all(isinstance(chain, list) for chain in value):
        raise InputError("chains must be lists")
    return tuple(value[-REGISTRY_MAX_CHAINS_PER_MEMBER:])


def _read_published(value: object, where: str, faults: list[Report]) -> Published:
    fields = Reader(value, where)
    entry = read_record(fields.any("entry"), where, read_model)
    tags: dict[str, Record[TagChange]] = {}
    for tag, record in fields.mapping("tags").items():
        place = f"tag {tag[:64]} of {where}"
        with reported(place, faults):
            tags[tag] = read_record(record, place, read_tag)
    stored: Record[Stored] | None = None
    if fields.has("stored"):
        with reported(f"storage of {where}", faults):
            stored = read_record(fields.any("stored"), where, read_stored)
    return Published(entry, tags, stored, fields.rest())


def _read_policy(fields: Reader, faults: list[Report]) -> Record[RoomPolicy] | None:
    if fields.has("policy"):
        with reported("policy of the room", faults):
            return read_record(fields.any("policy"), "policy", read_policy)
    return None
