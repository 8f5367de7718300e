"""A small room: members who are who they say, with the roles that their chain names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.changes import Author, Change, apply
from dreamer.protocol.registry.document import Chain, Document, Published
from dreamer.protocol.registry.policy import AliasProtection, RoomPolicy
from dreamer.protocol.registry.records import AnyRecord, sign
from dreamer.protocol.registry.statements import (
    AliasMove,
    ModelEntry,
    Statement,
    TagChange,
    Withdrawal,
)
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.registry.view import Verified
from dreamer.protocol.rooms.keys import SigningKey

NOW = 1_800_000_000.0


@dataclass(frozen=True)
class PlainStanding:
    node_id: NodeId
    roles: Sequence[str]


def verify_plain_chain(room: RoomId, chain: Chain, now: float) -> PlainStanding:
    """A chain here is ``[node hex, not_after, role, …]``; the real ones are tested elsewhere."""
    node, not_after, *roles = chain
    if now > not_after:
        raise ForbiddenError("the membership has expired")
    return PlainStanding(NodeId(bytes.fromhex(node)), roles)


class SmallRoom:
    """Hands out authors and models, and applies changes at ``NOW``."""

    id = RoomId(b"R" * 32)
    now = NOW

    def author(self, number: int, *roles: str, not_after: float = NOW + 1e6) -> Author:
        key = SigningKey(bytes([number]) * 32)
        return Author(key, [key.public.hex(), not_after, *(roles or ("publisher",))])

    def entry(self, number: int, name: str = "model") -> ModelEntry:
        return ModelEntry(ManifestId(bytes([number]) * 32), name, 1000 * number, 3, "decoder")

    def empty(self) -> Verified:
        return self.verify(Document(self.id))

    def verify(self, document: Document, now: float = NOW) -> Verified:
        return verify(document, verify_plain_chain, now)

    def change(
        self, verified: Verified, *changes: Change, author: Author | None = None, now: float = NOW
    ) -> Verified:
        document = apply(verified, changes, author or self.author(1), now)
        return self.verify(document, now=max(now, NOW))

    def force(
        self, verified: Verified, *changes: Change, author: Author, now: float = NOW
    ) -> Verified:
        """As ``change`` by a program that does not ask whether its author may."""
        return self.change(replace(verified, verify_member=None), *changes, author=author, now=now)

    def put(
        self,
        verified: Verified,
        said: Statement,
        author: Author | None = None,
        *,
        at: float = NOW,
        serial: int | None = None,
    ) -> Verified:
        """Write a record into the document as a member would that keeps no rules."""
        author = author or self.author(1)
        number = verified.last_serial + 1 if serial is None else serial
        record = sign(said, self.id, author.key, at, number)
        document = placed(verified.document, record)
        chains = document.members.get(record.by, ())
        if author.chain not in chains:
            document = replace(
                document, members={**document.members, record.by: (*chains, author.chain)}
            )
        return self.verify(replace(document, serial=max(document.serial, number)))

    verify_member: Callable[[RoomId, Chain, float], PlainStanding] = staticmethod(
        verify_plain_chain
    )


def placed(document: Document, record: AnyRecord) -> Document:
    """The document with a record where records of its kind stand."""
    said = record.said
    match said:
        case ModelEntry(manifest_id=key):
            return replace(document, models={**document.models, key: Published(record)})
        case TagChange(manifest_id=key):
            model = document.models[key]
            model = replace(model, tags={**model.tags, said.tag: record})
            return replace(document, models={**document.models, key: model})
        case Stored(manifest_id=key):
            model = replace(document.models[key], stored=record)
            return replace(document, models={**document.models, key: model})
        case AliasMove(alias=alias):
            moves = (*document.aliases.get(alias, ()), record)
            return replace(document, aliases={**document.aliases, alias: moves})
        case AliasProtection(alias=alias):
            guards = (*document.protections.get(alias, ()), record)
            return replace(document, protections={**document.protections, alias: guards})
        case Withdrawal(manifest_id=key):
            return replace(document, withdrawn={**document.withdrawn, key: record})
        case NodeReport():
            return replace(document, reports={**document.reports, record.by: record})
        case RoomPolicy():
            return replace(document, policy=record)
    raise AssertionError(said)


@pytest.fixture
def room() -> SmallRoom:
    return SmallRoom()
