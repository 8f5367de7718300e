"""Changes of a registry: small values, applied to the freshest document and again on a conflict.

Because a change says what is wanted ("alias prod means this model") and not what the document
should look like, applying it to whatever somebody else wrote meanwhile *is* the merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dreamer.protocol.errors import InputError, NoMatchError
from dreamer.protocol.ids import ManifestId, NodeId, short
from dreamer.protocol.limits import (
    ALIAS_HISTORY_MAX,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
    TAGS_MAX_PER_MODEL,
)
from dreamer.protocol.registry.document import Chain, Document, Published
from dreamer.protocol.registry.names import check_alias, check_tag
from dreamer.protocol.registry.records import Record, S, sign
from dreamer.protocol.registry.statements import AliasMove, ModelEntry, TagChange
from dreamer.protocol.registry.view import Registry, Verified
from dreamer.protocol.rooms.keys import SigningKey


@dataclass(frozen=True)
class Author:
    """Who makes a change: the node's key and the chain that proves its membership."""

    key: SigningKey
    chain: Chain


@dataclass(frozen=True)
class Publish:
    """Put a model into the room, or renew its entry; its tags stay."""

    entry: ModelEntry


@dataclass(frozen=True)
class MoveAlias:
    """Make an alias mean a model."""

    alias: str
    manifest_id: ManifestId

    def __post_init__(self) -> None:
        check_alias(self.alias)


@dataclass(frozen=True)
class RemoveAlias:
    """Make an alias mean nothing; its history stays."""

    alias: str


@dataclass(frozen=True)
class ChangeTags:
    """Add and remove tags of a model."""

    manifest_id: ManifestId
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for tag in (*self.add, *self.remove):
            check_tag(tag)


Change = Publish | MoveAlias | RemoveAlias | ChangeTags


def apply(verified: Verified, changes: Sequence[Change], author: Author, now: float) -> Document:
    """Return the document with all ``changes`` made, as one new serial.

    When nothing changes (the alias already means that model) the same document comes back.

    Raises:
        NoMatchError: a change is about a model or an alias that the room does not have.
        InputError: the model would carry too many tags.
    """
    pen = _Pen(verified, author, now)
    for change in changes:
        match change:
            case Publish():
                pen.publish(change.entry)
            case MoveAlias():
                pen.move_alias(change)
            case RemoveAlias():
                pen.remove_alias(change.alias)
            case ChangeTags():
                pen.change_tags(change)
    return pen.finish()


class _Pen:
    """Writes the records of one change into copies of the document's tables."""

    def __init__(self, verified: Verified, author: Author, now: float) -> None:
        document = verified.document
        self._before = document
        self._registry: Registry = verified.registry
        self._author = author
        self._now = now
        # Not the document's own serial: nobody signed that, and a store could use the numbers up.
        self._serial = verified.last_serial + 1
        self._models = dict(document.models)
        self._aliases = dict(document.aliases)
        self._wrote = False

    def publish(self, entry: ModelEntry) -> None:
        known = self._models.get(entry.manifest_id)
        record = self._sign(entry)
        self._models[entry.manifest_id] = (
            Published(record) if known is None else replace(known, entry=record)
        )

    def move_alias(self, change: MoveAlias) -> None:
        self._model(change.manifest_id)
        # Judged by the verified view: a forged last move must not pass for the wish fulfilled.
        if self._registry.aliases.get(change.alias) != change.manifest_id:
            self._append(AliasMove(change.alias, change.manifest_id))

    def remove_alias(self, alias: str) -> None:
        moves = self._registry.history.get(alias, ())
        if not moves or moves[-1].said.manifest_id is None:
            raise NoMatchError(f"there is no alias {alias!r:.80}; 'dreamer models' lists them")
        self._append(AliasMove(alias, None))

    def change_tags(self, change: ChangeTags) -> None:
        published = self._model(change.manifest_id)
        viewed = self._registry.models.get(change.manifest_id)
        present = dict.fromkeys(viewed.tags if viewed else ())
        tags = dict(published.tags)
        for tag in change.remove:
            if tag in present:
                tags[tag] = self._sign(TagChange(change.manifest_id, tag, on=False))
        for tag in change.add:
            if tag not in present:
                tags[tag] = self._sign(TagChange(change.manifest_id, tag, on=True))
        self._models[change.manifest_id] = replace(published, tags=_bounded(tags))

    def finish(self) -> Document:
        if not self._wrote:
            return self._before
        return replace(
            self._before,
            serial=self._serial,
            members=self._members(),
            models=self._models,
            aliases=self._aliases,
            malformed=(),  # what could not be read is not written back
        )

    def _append(self, move: AliasMove) -> None:
        moves = (*self._aliases.get(move.alias, ()), self._sign(move))
        self._aliases[move.alias] = moves[-ALIAS_HISTORY_MAX:]

    def _model(self, manifest_id: ManifestId) -> Published:
        try:
            return self._models[manifest_id]
        except KeyError:
            raise NoMatchError(
                f"model {short(manifest_id)} is not in this room; push it here first"
            ) from None

    def _sign(self, said: S) -> Record[S]:
        self._wrote = True
        return sign(said, self._before.room, self._author.key, self._now, self._serial)

    def _members(self) -> dict[NodeId, tuple[Chain, ...]]:
        """Return the members with the author's present chain last among its chains."""
        node = NodeId(self._author.key.public)
        older = [one for one in self._before.members.get(node, ()) if one != self._author.chain]
        chains = (*older, self._author.chain)[-REGISTRY_MAX_CHAINS_PER_MEMBER:]
        return {**self._before.members, node: chains}


def _bounded(tags: dict[str, Record[TagChange]]) -> dict[str, Record[TagChange]]:
    """Forget the oldest removals first when a model has too many tag records."""
    present = sum(record.said.on for record in tags.values())
    if present > TAGS_MAX_PER_MODEL:
        raise InputError(
            f"a model can have {TAGS_MAX_PER_MODEL} tags: remove some with 'dreamer tag rm'"
        )
    removals = sorted(
        (tag for tag, record in tags.items() if not record.said.on),
        key=lambda tag: (tags[tag].serial, tag),
    )
    surplus = max(0, len(tags) - TAGS_MAX_PER_MODEL)
    forgotten = removals[:surplus]
    return {tag: record for tag, record in tags.items() if tag not in forgotten}
