"""Changes of a registry: small values, applied to the freshest document and again on a conflict.

Because a change says what is wanted ("alias prod means this model") and not what the document
should look like, applying it to whatever somebody else wrote meanwhile *is* the merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Chain, Document
from dreamer.protocol.registry.expectation import ANY, Expected
from dreamer.protocol.registry.names import check_alias, check_tag
from dreamer.protocol.registry.pen import Pen
from dreamer.protocol.registry.policy import RoomPolicy
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.view import Verified
from dreamer.protocol.rooms.certificate import ALL_ROLES
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
class Describe:
    """Replace the notes of a model that the author published; its age stays."""

    manifest_id: ManifestId
    notes: str


@dataclass(frozen=True)
class Withdraw:
    """Take a model out of the room; whoever publishes it again brings it back.

    With ``as_seen``, a registry's serial: only if nobody has changed the model, its tags or
    aliases, or the room's policy since that change.
    """

    manifest_id: ManifestId
    reason: str = ""
    as_seen: int | None = None


@dataclass(frozen=True)
class MoveAlias:
    """Make an alias mean a model, if it means what is ``expected`` (None: nothing)."""

    alias: str
    manifest_id: ManifestId
    expected: Expected = ANY

    def __post_init__(self) -> None:
        check_alias(self.alias)


@dataclass(frozen=True)
class RemoveAlias:
    """Make an alias mean nothing, if it means what is ``expected``; its history stays."""

    alias: str
    expected: Expected = ANY


@dataclass(frozen=True)
class Promote:
    """Make the alias ``target`` mean what ``source`` means at that very change."""

    source: str
    target: str
    expected: Expected = ANY

    def __post_init__(self) -> None:
        check_alias(self.target)


@dataclass(frozen=True)
class ChangeTags:
    """Add and remove tags of a model."""

    manifest_id: ManifestId
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for tag in (*self.add, *self.remove):
            check_tag(tag)


@dataclass(frozen=True)
class SayStored:
    """Say that a model is in the room's bucket, or (``origin_url`` None) that it is no more."""

    stored: Stored


@dataclass(frozen=True)
class ReportNode:
    """Say what this node has and what it has moved."""

    report: NodeReport


@dataclass(frozen=True)
class ProtectAlias:
    """Let only members with one of ``roles``, and admins, move an alias; with none, lift that."""

    alias: str
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        check_alias(self.alias)
        if unknown := [role for role in self.roles if role not in ALL_ROLES]:
            raise InputError(
                f"{unknown[0]!r:.40} is not a role: use {', '.join(ALL_ROLES[:-1])} or "
                f"{ALL_ROLES[-1]}"
            )


@dataclass(frozen=True)
class SetPolicy:
    """Set what the room keeps, and who may ask whom to run a model."""

    policy: RoomPolicy


Change = (
    Publish
    | Describe
    | Withdraw
    | MoveAlias
    | RemoveAlias
    | Promote
    | ChangeTags
    | SayStored
    | ReportNode
    | ProtectAlias
    | SetPolicy
)


def apply(verified: Verified, changes: Sequence[Change], author: Author, now: float) -> Document:
    """Return the document with all ``changes`` made, as one new serial.

    When nothing changes (the alias already means that model) the same document comes back. Where
    the document would be too long, the oldest reports of nodes are dropped.

    Raises:
        NoMatchError: a change is about a model or an alias that the room does not have.
        StaleError: an alias does not mean what was expected, or a model was changed since.
        ForbiddenError: the author's role does not allow it, or its membership has ended.
        InputError: the model would carry too many tags.
    """
    pen = Pen(verified, author.key, author.chain, now)
    for change in changes:
        _make(change, pen)
    return pen.finish()


def _make(change: Change, pen: Pen) -> None:  # noqa: C901 - a table of the kinds of change
    match change:
        case Publish():
            pen.publish(change.entry)
        case Describe():
            pen.describe(change.manifest_id, change.notes)
        case Withdraw():
            pen.withdraw(change.manifest_id, change.reason, change.as_seen)
        case MoveAlias():
            pen.move_alias(change.alias, change.manifest_id, change.expected)
        case RemoveAlias():
            pen.remove_alias(change.alias, change.expected)
        case Promote():
            pen.promote(change.source, change.target, change.expected)
        case ChangeTags():
            pen.change_tags(change.manifest_id, change.add, change.remove)
        case SayStored():
            pen.say_stored(change.stored)
        case ReportNode():
            pen.report(change.report)
        case ProtectAlias():
            pen.protect(change.alias, change.roles)
        case SetPolicy():
            pen.set_policy(change.policy)
        case _:
            assert_never(change)
