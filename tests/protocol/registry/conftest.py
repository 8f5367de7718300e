"""A small room: members who are who they say, with the roles that their chain names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.changes import Author, Change, apply
from dreamer.protocol.registry.document import Chain, Document
from dreamer.protocol.registry.statements import ModelEntry
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

    verify_member: Callable[[RoomId, Chain, float], PlainStanding] = staticmethod(
        verify_plain_chain
    )


@pytest.fixture
def room() -> SmallRoom:
    return SmallRoom()
