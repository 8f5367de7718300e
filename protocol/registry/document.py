"""The room document, version 1: its shape in memory and its canonical bytes.

::

    {"format": "dreamer-room/1", "room": hex, "serial": n,
     "members": {node: [chain, …]},                       newest chain last
     "models":  {manifest id: {"entry": record, "tags": {tag: record}}},
     "aliases": {alias: [record, …]}}                     newest move last

Unknown fields, at the top, in a model and in a record, are kept and written back, so that nodes of
different versions can share a room. A record that can't be read at all is reported and left out;
one that can be read but not believed stays, for whoever has a better clock or newer memberships.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamer.protocol.canonical import Json, dumps, loads
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId, from_hex, short
from dreamer.protocol.limits import (
    ALIAS_HISTORY_MAX,
    REGISTRY_MAX_BYTES,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
)
from dreamer.protocol.registry.reading import Reader
from dreamer.protocol.registry.records import Record, read_record
from dreamer.protocol.registry.reports import Fault, Report
from dreamer.protocol.registry.statements import (
    AliasMove,
    ModelEntry,
    TagChange,
    read_alias,
    read_model,
    read_tag,
)

FORMAT = "dreamer-room/1"

Chain = list[Any]
"""A membership chain in its JSON form; only the rooms' own code looks inside."""

AnyRecord = Record[ModelEntry] | Record[AliasMove] | Record[TagChange]


@dataclass(frozen=True)
class Published:
    """A model's entry and the latest change of each of its tags."""

    entry: Record[ModelEntry]
    tags: Mapping[str, Record[TagChange]] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """One room's registry as somebody stored it: nothing in it is verified yet.

    ``serial`` counts the changes made so far. ``malformed`` reports what ``parse`` left out.
    """

    room: RoomId
    serial: int = 0
    members: Mapping[NodeId, tuple[Chain, ...]] = field(default_factory=dict)
    models: Mapping[ManifestId, Published] = field(default_factory=dict)
    aliases: Mapping[str, tuple[Record[AliasMove], ...]] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)
    malformed: tuple[Report, ...] = field(default=(), compare=False)

    def records(self) -> Iterator[AnyRecord]:
        """Yield every record, whatever it is about."""
        for published in self.models.values():
            yield published.entry
            yield from published.tags.values()
        for moves in self.aliases.values():
            yield from moves

    def encode(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            InputError: the document has outgrown what a room's registry may hold.
        """
        data = dumps(
            {
                **self.extra,
                "format": FORMAT,
                "room": self.room.hex(),
                "serial": self.serial,
                "members": {node.hex(): list(chains) for node, chains in self.members.items()},
                "models": {key.hex(): _model_json(model) for key, model in self.models.items()},
                "aliases": {
                    alias: [move.to_json() for move in moves]
                    for alias, moves in self.aliases.items()
                },
            }
        )
        if len(data) > REGISTRY_MAX_BYTES:
            raise InputError(
                f"the room's registry is full ({len(data)} bytes): start a new room for new models"
            )
        return data


def _model_json(model: Published) -> Json:
    tags = {tag: record.to_json() for tag, record in model.tags.items()}
    return {**model.extra, "entry": model.entry.to_json(), "tags": tags}


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
    return Document(
        room=room,
        serial=fields.integer("serial"),
        members=_read_members(fields.mapping("members"), faults),
        models=_read_models(fields.mapping("models"), faults),
        aliases=_read_aliases(fields.mapping("aliases"), faults),
        extra=fields.rest(),
        malformed=tuple(faults),
    )


def _read_members(table: Json, faults: list[Report]) -> dict[NodeId, tuple[Chain, ...]]:
    members: dict[NodeId, tuple[Chain, ...]] = {}
    for key, chains in table.items():
        where = f"member {key[:8]}"
        try:
            node = NodeId(from_hex(key, where))
            if not isinstance(chains, list) or not all(isinstance(one, list) for one in chains):
                raise InputError("chains must be lists")
            members[node] = tuple(chains[-REGISTRY_MAX_CHAINS_PER_MEMBER:])
        except InputError as error:
            faults.append(Report(where, Fault.MALFORMED, str(error)))
    return members


def _read_models(table: Json, faults: list[Report]) -> dict[ManifestId, Published]:
    models: dict[ManifestId, Published] = {}
    for key, value in table.items():
        where = f"model {key[:8]}"
        try:
            manifest_id = ManifestId(from_hex(key, where))
            fields = Reader(value, where)
            entry = read_record(fields.any("entry"), where, read_model)
            tags = _read_tags(fields.mapping("tags"), where, faults)
            models[manifest_id] = Published(entry, tags, fields.rest())
        except InputError as error:
            faults.append(Report(where, Fault.MALFORMED, str(error)))
    return models


def _read_tags(table: Json, model: str, faults: list[Report]) -> dict[str, Record[TagChange]]:
    tags: dict[str, Record[TagChange]] = {}
    for tag, value in table.items():
        where = f"tag {tag[:64]} of {model}"
        try:
            tags[tag] = read_record(value, where, read_tag)
        except InputError as error:
            faults.append(Report(where, Fault.MALFORMED, str(error)))
    return tags


def _read_aliases(table: Json, faults: list[Report]) -> dict[str, tuple[Record[AliasMove], ...]]:
    aliases: dict[str, tuple[Record[AliasMove], ...]] = {}
    for alias, values in table.items():
        where = f"alias {alias[:64]}"
        try:
            if not isinstance(values, list):
                raise InputError("its history must be a list")
            recent = values[-ALIAS_HISTORY_MAX:]
            aliases[alias] = tuple(read_record(value, where, read_alias) for value in recent)
        except InputError as error:
            faults.append(Report(where, Fault.MALFORMED, str(error)))
    return aliases
