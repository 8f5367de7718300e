"""What a member can say of a model and of what it is called, and the JSON fields of that.

What members say of where a model lies is in ``availability``, of the room's rules in ``policy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dreamer.protocol.canonical import Json
from dreamer.protocol.content import magnet
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId, from_hex, short
from dreamer.protocol.registry.names import (
    check_alias,
    check_line,
    check_lines,
    check_name,
    check_tag,
)
from dreamer.protocol.registry.provenance import Provenance, read_provenance
from dreamer.protocol.registry.reading import Reader, check_count
from dreamer.protocol.registry.storage import Storage, read_storage
from dreamer.protocol.registry_limits import LIFETIME_MAX_DAYS, NOTES_MAX_CHARS, REASON_MAX_CHARS


class Statement(Protocol):
    """What a record says; it is about one thing, and the newest of its kind about that counts."""

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        ...

    def fields(self) -> Json:
        """Return its JSON fields, ``kind`` among them.

        Those that came later are left out where they are empty: what was signed before there were
        any stays valid.
        """
        ...


@dataclass(frozen=True)
class PublicTorrent:
    """Where anybody can get a model: its magnet link, and the BLAKE3 of its torrent's metadata.

    ``magnet_v1`` is that of the companion for clients that can't read hybrid torrents.
    """

    magnet: str
    magnet_v1: str
    metadata: Digest

    def __post_init__(self) -> None:
        magnet.parse(self.magnet)
        magnet.parse(self.magnet_v1)

    def fields(self) -> Json:
        """Return the JSON fields."""
        links = {"magnet": self.magnet, "magnet_v1": self.magnet_v1}
        return {**links, "metadata": self.metadata.hex()}


@dataclass(frozen=True)
class ModelEntry:
    """This model is in the room. ``model_type`` is one word such as ``decoder`` or ``files``.

    One with a ``torrent`` is public: its nodes give it to anybody, the room's members or not. One
    that ``expires_at`` some time (whole epoch seconds) is a temporary upload, and then in the room
    no more; ``lifetime_days`` is the class of the place where the origin keeps it.
    """

    manifest_id: ManifestId
    name: str
    size_bytes: int
    files: int
    model_type: str
    torrent: PublicTorrent | None = None
    notes: str = ""
    provenance: Provenance | None = None
    storage: Storage | None = None
    expires_at: int | None = None
    lifetime_days: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_tag(self.model_type)
        check_lines(self.notes, "a model's notes", NOTES_MAX_CHARS)
        if self.provenance is not None and self.manifest_id in self.provenance.parents:
            raise InputError(f"model {short(self.manifest_id)} can't be its own parent")
        _check_lifetime(self.expires_at, self.lifetime_days)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"model {short(self.manifest_id)}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        later: Json = {
            "torrent": self.torrent and self.torrent.fields(),
            "notes": self.notes or None,
            "provenance": self.provenance and self.provenance.fields(),
            "storage": self.storage and self.storage.fields(),
            "expires_at": self.expires_at,
            "lifetime_days": self.lifetime_days,
        }
        return {
            **{key: value for key, value in later.items() if value is not None},
            "kind": "model",
            "manifest_id": self.manifest_id.hex(),
            "name": self.name,
            "size_bytes": self.size_bytes,
            "files": self.files,
            "type": self.model_type,
        }


@dataclass(frozen=True)
class AliasMove:
    """This alias now means that model, or nothing; ``before``, its author saw it mean that one."""

    alias: str
    manifest_id: ManifestId | None
    before: ManifestId | None = None

    def __post_init__(self) -> None:
        check_alias(self.alias)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"alias {self.alias}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        target = None if self.manifest_id is None else self.manifest_id.hex()
        before = {} if self.before is None else {"from": self.before.hex()}
        return {**before, "kind": "alias", "alias": self.alias, "manifest_id": target}


@dataclass(frozen=True)
class TagChange:
    """This model has that tag (``on``), or no longer has it."""

    manifest_id: ManifestId
    tag: str
    on: bool

    def __post_init__(self) -> None:
        check_tag(self.tag)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"tag {self.tag} of model {short(self.manifest_id)}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        model = self.manifest_id.hex()
        return {"kind": "tag", "manifest_id": model, "tag": self.tag, "on": self.on}


@dataclass(frozen=True)
class Withdrawal:
    """This model is in the room no more; an entry of a later change brings it back."""

    manifest_id: ManifestId
    reason: str = ""

    def __post_init__(self) -> None:
        check_line(self.reason, "the reason of a withdrawal", REASON_MAX_CHARS)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"withdrawal of model {short(self.manifest_id)}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        reason = {"reason": self.reason} if self.reason else {}
        return {**reason, "kind": "withdrawal", "manifest_id": self.manifest_id.hex()}


def _check_lifetime(expires_at: int | None, lifetime_days: int | None) -> None:
    if expires_at is not None:
        check_count(expires_at, "the end of a temporary upload")
    if lifetime_days is None:
        return
    check_count(lifetime_days, "the days of a temporary upload")
    if expires_at is None or not 1 <= lifetime_days <= LIFETIME_MAX_DAYS:
        raise InputError(
            f"a temporary upload has an end and is kept for 1 to {LIFETIME_MAX_DAYS} days"
        )


def _read_torrent(value: object) -> PublicTorrent:
    fields = Reader(value, "a public model's torrent")
    links = fields.text("magnet"), fields.text("magnet_v1")
    found = PublicTorrent(*links, Digest(fields.hex_bytes("metadata")))
    fields.nothing_else()
    return found


def read_model(fields: Reader) -> ModelEntry:
    """Read the fields of a model entry."""
    fields.kind("model")
    return ModelEntry(
        manifest_id=ManifestId(fields.hex_bytes("manifest_id")),
        name=fields.text("name"),
        size_bytes=fields.integer("size_bytes"),
        files=fields.integer("files"),
        model_type=fields.text("type"),
        torrent=_read_torrent(fields.any("torrent")) if fields.has("torrent") else None,
        notes=fields.text("notes") if fields.has("notes") else "",
        provenance=read_provenance(fields.any("provenance")) if fields.has("provenance") else None,
        storage=read_storage(fields.any("storage")) if fields.has("storage") else None,
        expires_at=fields.integer("expires_at") if fields.has("expires_at") else None,
        lifetime_days=fields.integer("lifetime_days") if fields.has("lifetime_days") else None,
    )


def read_alias(fields: Reader) -> AliasMove:
    """Read the fields of an alias move; a ``manifest_id`` of null removes the alias."""
    fields.kind("alias")
    target = fields.any("manifest_id")
    return AliasMove(
        fields.text("alias"),
        None if target is None else ManifestId(from_hex(target, "an alias's model")),
        ManifestId(fields.hex_bytes("from")) if fields.has("from") else None,
    )


def read_tag(fields: Reader) -> TagChange:
    """Read the fields of a tag change."""
    fields.kind("tag")
    model = ManifestId(fields.hex_bytes("manifest_id"))
    return TagChange(model, fields.text("tag"), fields.flag("on"))


def read_withdrawal(fields: Reader) -> Withdrawal:
    """Read the fields of a withdrawal."""
    fields.kind("withdrawal")
    reason = fields.text("reason") if fields.has("reason") else ""
    return Withdrawal(ManifestId(fields.hex_bytes("manifest_id")), reason)
