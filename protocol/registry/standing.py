"""Whether an author had the right to say something in the registry at the time they said it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Chain, Document
from dreamer.protocol.registry.policy import AliasProtection, RoomPolicy
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import (
    AliasMove,
    ModelEntry,
    Statement,
    TagChange,
    Withdrawal,
)

PUBLISHING_ROLES = ("publisher", "admin")
"""Either of these may publish models, move aliases and change tags."""

STORING_ROLES = (*PUBLISHING_ROLES, "worker")
"""Any of these may say that a model is in the bucket, or no more."""

ADMIN_ROLES = ("admin",)
ANY_ROLES = (*STORING_ROLES, "member")

RIGHTS: Mapping[type[Statement], tuple[str, ...]] = {
    ModelEntry: PUBLISHING_ROLES,
    AliasMove: PUBLISHING_ROLES,
    TagChange: PUBLISHING_ROLES,
    Withdrawal: PUBLISHING_ROLES,
    Stored: STORING_ROLES,
    NodeReport: ANY_ROLES,
    AliasProtection: ADMIN_ROLES,
    RoomPolicy: ADMIN_ROLES,
}
"""Of each statement the roles, of which its author needs one."""


def guardians(roles: Collection[str]) -> tuple[str, ...]:
    """Return who may move an alias that is protected to ``roles``.

    Admins always: an admin could lift the protection first.
    """
    return tuple(sorted(dict.fromkeys((*roles, *ADMIN_ROLES))))


class Standing(Protocol):
    """Whom a chain vouches for, and the roles it gives."""

    @property
    def node_id(self) -> NodeId:
        """The member's key."""
        ...

    @property
    def roles(self) -> Sequence[str]:
        """The member's roles."""
        ...


class VerifyMember(Protocol):
    """Checks a chain in JSON form at a time; raises DreamerError when it proves nothing.

    A chain that holds at two times holds between them.
    """

    def __call__(self, room: RoomId, chain: Chain, now: float, /) -> Standing:
        """Return the member that ``chain`` proves."""
        ...


class Standings:
    """The standing of a document's authors; each chain is checked as seldom as can be."""

    def __init__(self, document: Document, verify_member: VerifyMember) -> None:
        self._document = document
        self._verify_member = verify_member
        self._spans = _spans(document)
        self._throughout: dict[tuple[NodeId, int], Standing | None] = {}
        self._relied_on: dict[NodeId, dict[int, None]] = {}

    def fault(self, author: NodeId, at: float, needed: Collection[str]) -> tuple[Fault | None, str]:
        """Return no fault if one of the author's chains gave a ``needed`` role then, else why not.

        ``at`` is in seconds since the epoch.
        """
        fault, detail = Fault.NOT_A_MEMBER, ""
        for number in reversed(range(len(self._document.members.get(author, ())))):
            try:
                member = self._member(author, number, at)
            except DreamerError as error:
                detail = str(error)
                continue
            # A chain under the wrong name vouches for somebody else.
            if member.node_id != author:
                continue
            if any(role in needed for role in member.roles):
                self._relied_on.setdefault(author, {})[number] = None
                return None, ""
            fault, detail = Fault.NO_RIGHT, ", ".join(member.roles)
        return fault, detail

    def chains_relied_on(self) -> dict[NodeId, tuple[Chain, ...]]:
        """Return the chains that gave somebody a right so far, by their authors."""
        return {
            author: tuple(self._document.members[author][number] for number in sorted(numbers))
            for author, numbers in self._relied_on.items()
        }

    def _member(self, author: NodeId, number: int, at: float) -> Standing:
        """Return whom a chain proves at ``at``.

        Checking it costs several signatures. Most chains hold over the whole time in which their
        author said anything, and two checks show that.
        """
        key = (author, number)
        chain = self._document.members[author][number]
        if key not in self._throughout:
            self._throughout[key] = self._check_throughout(chain, self._spans[author])
        return self._throughout[key] or self._verify_member(self._document.room, chain, at)

    def _check_throughout(self, chain: Chain, span: tuple[float, float]) -> Standing | None:
        try:
            self._verify_member(self._document.room, chain, span[0])
            return self._verify_member(self._document.room, chain, span[1])
        except DreamerError:
            return None


def _spans(document: Document) -> dict[NodeId, tuple[float, float]]:
    """Return when each author first and last said something, as they themselves claim."""
    spans: dict[NodeId, tuple[float, float]] = {}
    for record in document.records():
        first, last = spans.get(record.by, (record.at, record.at))
        spans[record.by] = (min(first, record.at), max(last, record.at))
    return spans
