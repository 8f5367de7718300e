"""The three things a member can say in a registry, and their JSON fields."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry.names import check_alias, check_name, check_tag
from dreamer.protocol.registry.reading import Reader


@dataclass(frozen=True)
class ModelEntry:
    """This model is in the room. ``model_type`` is one word such as ``decoder`` or ``files``."""

    manifest_id: ManifestId
    name: str
    size_bytes: int
    files: int
    model_type: str

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
            return {
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


def read_model(fields: Reader) -> ModelEntry:
    """Read the fields of a model entry."""
    _expect_kind(fields, "model")
    return ModelEntry(
        manifest_id=ManifestId(fields.hex_bytes("manifest_id")),
        name=fields.text("name"),
        size_bytes=fields.integer("size_bytes"),
        files=fields.integer("files"),
        model_type=fields.text("type"),
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
