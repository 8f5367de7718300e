"""The three things a member can say in a registry, and their JSON fields."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.canonical import Json
from dreamer.protocol.content import magnet
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId, short
from dreamer.protocol.registry.names import check_alias, check_name, check_tag
from dreamer.protocol.registry.reading import Reader


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


@dataclass(frozen=True)
class ModelEntry:
    """This model is in the room. ``model_type`` is one word such as ``decoder`` or ``files``.

    One with a ``torrent`` is public: its nodes give it to anybody, the room's members or not.
    """

    manifest_id: ManifestId
    name: str
    size_bytes: int
    files: int
    model_type: str
    torrent: PublicTorrent | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_tag(self.model_type)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"model {short(self.manifest_id)}"


@dataclass(frozen=True)
class AliasMove:
    """This alias now means that model, or nothing."""

    alias: str
    manifest_id: ManifestId | None

    def __post_init__(self) -> None:
        check_alias(self.alias)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"alias {self.alias}"


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


Statement = ModelEntry | AliasMove | TagChange


def statement_fields(said: Statement) -> Json:
    """Return the JSON fields of a statement, ``kind`` among them."""
    match said:
        case ModelEntry():
            # Left out where there is none: entries signed before there were torrents stay valid.
            public: Json = {}
            if said.torrent is not None:
                public = {"torrent": _torrent_json(said.torrent)}
            return {
                **public,
                "kind": "model",
                "manifest_id": said.manifest_id.hex(),
                "name": said.name,
                "size_bytes": said.size_bytes,
                "files": said.files,
                "type": said.model_type,
            }
        case AliasMove():
            target = None if said.manifest_id is None else said.manifest_id.hex()
            return {"kind": "alias", "alias": said.alias, "manifest_id": target}
        case TagChange():
            model = said.manifest_id.hex()
            return {"kind": "tag", "manifest_id": model, "tag": said.tag, "on": said.on}


def _torrent_json(torrent: PublicTorrent) -> Json:
    return {
        "magnet": torrent.magnet,
        "magnet_v1": torrent.magnet_v1,
        "metadata": torrent.metadata.hex(),
    }


def _read_torrent(value: object) -> PublicTorrent | None:
    if value is None:
        return None
    fields = Reader(value, "a public model's torrent")
    links = fields.text("magnet"), fields.text("magnet_v1")
    found = PublicTorrent(*links, Digest(fields.hex_bytes("metadata")))
    # It is signed with the rest: what isn't written back as it was would break the signature.
    if fields.rest():
        raise InputError("a public model's torrent has fields not known here: update Dreamer")
    return found


def read_model(fields: Reader) -> ModelEntry:
    """Read the fields of a model entry."""
    _expect_kind(fields, "model")
    return ModelEntry(
        manifest_id=ManifestId(fields.hex_bytes("manifest_id")),
        name=fields.text("name"),
        size_bytes=fields.integer("size_bytes"),
        files=fields.integer("files"),
        model_type=fields.text("type"),
        torrent=_read_torrent(fields.optional("torrent")),
    )


def read_alias(fields: Reader) -> AliasMove:
    """Read the fields of an alias move; a ``manifest_id`` of null removes the alias."""
    _expect_kind(fields, "alias")
    target = fields.any("manifest_id")
    if target is not None:
        target = Reader({"manifest_id": target}, "alias").hex_bytes("manifest_id")
    return AliasMove(fields.text("alias"), None if target is None else ManifestId(target))


def read_tag(fields: Reader) -> TagChange:
    """Read the fields of a tag change."""
    _expect_kind(fields, "tag")
    model = ManifestId(fields.hex_bytes("manifest_id"))
    return TagChange(model, fields.text("tag"), fields.flag("on"))


def _expect_kind(fields: Reader, kind: str) -> None:
    found = fields.text("kind")
    if found != kind:
        raise InputError(f"a {kind} record is of kind {found!r:.40}")
