"""Writes the records of one change into copies of a document's tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from dreamer.protocol.errors import ForbiddenError, InputError, NoMatchError, StaleError
from dreamer.protocol.ids import ManifestId, NodeId, short
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Chain, Document, Published
from dreamer.protocol.registry.expectation import ANY, Expected, stale_alias
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.policy import AliasProtection, RoomPolicy
from dreamer.protocol.registry.records import Record, S, sign
from dreamer.protocol.registry.standing import RIGHTS, guardians
from dreamer.protocol.registry.statements import (
    AliasMove,
    ModelEntry,
    TagChange,
    Withdrawal,
)
from dreamer.protocol.registry.view import Model, Verified
from dreamer.protocol.registry_limits import (
    ALIAS_HISTORY_MAX,
    CACHED_ID_BYTES,
    PROTECTIONS_MAX_PER_ALIAS,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
    TAGS_MAX_PER_MODEL,
)
from dreamer.protocol.rooms.keys import SigningKey


class Pen:
    """One author's hand on one document: each method makes one change, ``finish`` the new document.

    A later change sees what the earlier ones of the same pen made.
    """

    def __init__(self, verified: Verified, key: SigningKey, chain: Chain, now: float) -> None:
        self._verified = verified
        self._before = document = verified.document
        self._registry = registry = verified.registry.as_of(now)
        self._key, self._chain, self._now = key, chain, now
        self._node = NodeId(key.public)
        # Not the document's own serial: nobody signed that, and a store could use the numbers up.
        self._serial = verified.last_serial + 1
        # A store could put a withdrawn model back beside its withdrawal.
        self._models = {
            one: model for one, model in document.models.items() if one not in registry.withdrawn
        }
        self._aliases = dict(document.aliases)
        self._protections = dict(document.protections)
        self._withdrawn = dict(document.withdrawn)
        self._reports = dict(document.reports)
        self._policy = document.policy
        # Judged by the verified view: a forged last move must not pass for the wish fulfilled.
        self._means = {**registry.dangling, **registry.aliases}
        self._protected = dict(registry.protections)
        self._gone = dict.fromkeys(registry.expired)
        self._wrote = False
        self._known_roles: Sequence[str] | None = None

    def publish(self, entry: ModelEntry) -> None:
        """Put a model in, or renew its entry; its tags stay.

        An upload for a time never shortens the time of what is there already.
        """
        viewed = self._viewed(entry.manifest_id)
        if entry.expires_at is not None:
            if entry.expires_at <= self._now:
                raise InputError(f"model {short(entry.manifest_id)} would have expired already")
            if viewed is not None and not viewed.expired(entry.expires_at):
                return
        known = self._models.get(entry.manifest_id)
        record = self._sign(entry)
        self._models[entry.manifest_id] = (
            Published(record) if known is None else replace(known, entry=record)
        )
        self._gone.pop(entry.manifest_id, None)

    def describe(self, manifest_id: ManifestId, notes: str) -> None:
        """Replace a model's notes; who published it, and when, stays."""
        record = self._model(manifest_id).entry
        if record.by != self._node:
            raise ForbiddenError(
                f"model {short(manifest_id)} was published by node {record.by.hex()[:8]}, which "
                "alone may change its notes: tag it instead, or push it again"
            )
        if record.said.notes == notes:
            return
        self._check_roles(RIGHTS[ModelEntry], "only", "may do this")
        self._wrote = True
        said = replace(record.said, notes=notes)
        renewed = sign(said, self._before.room, self._key, record.at, self._serial)
        self._models[manifest_id] = replace(self._models[manifest_id], entry=renewed)

    def withdraw(self, manifest_id: ManifestId, reason: str, as_seen: int | None) -> None:
        """Take a model out, unless it was changed after the change number ``as_seen``."""
        if manifest_id in self._registry.withdrawn and manifest_id not in self._models:
            return
        published = self._model(manifest_id)
        if as_seen is not None and self._last_touched(manifest_id, published) > as_seen:
            raise StaleError(
                f"model {short(manifest_id)} was changed since it was found to be in nobody's use: "
                "nothing was withdrawn; look again"
            )
        if published.entry.serial == self._serial:
            raise InputError(
                f"model {short(manifest_id)} can't be published and withdrawn in one change"
            )
        # Whoever may not move the alias may not take away what it means either.
        for alias in sorted(self._protected):
            if self._means.get(alias) == manifest_id:
                self._check_guard(alias)
        self._withdrawn[manifest_id] = self._sign(Withdrawal(manifest_id, reason))
        del self._models[manifest_id]

    def move_alias(self, alias: str, manifest_id: ManifestId, expected: Expected = ANY) -> None:
        """Make an alias mean a model, if it means what is expected."""
        self._model(manifest_id)
        if manifest_id in self._gone:
            raise NoMatchError(f"model {short(manifest_id)} has expired: push it again first")
        # Whoever repeats a change whose answer was lost finds it made.
        if self._meaning(alias) != manifest_id:
            self._check_expected(alias, expected)
            self._append(alias, manifest_id)

    def remove_alias(self, alias: str, expected: Expected = ANY) -> None:
        """Make an alias mean nothing, if it means what is expected."""
        if alias not in self._means:
            raise NoMatchError(f"there is no alias {alias!r:.80}; 'dreamer models' lists them")
        self._check_expected(alias, expected)
        self._append(alias, None)

    def promote(self, source: str, target: str, expected: Expected = ANY) -> None:
        """Make the alias ``target`` mean what ``source`` means."""
        manifest_id = self._meaning(source)
        if manifest_id is None:
            raise NoMatchError(f"there is no alias {source!r:.80}; 'dreamer models' lists them")
        self.move_alias(target, manifest_id, expected)

    def change_tags(
        self, manifest_id: ManifestId, add: Collection[str], remove: Collection[str]
    ) -> None:
        """Add and remove tags of a model."""
        published = self._model(manifest_id)
        viewed = self._viewed(manifest_id)
        tags = dict(published.tags)
        present = dict.fromkeys(viewed.tags if viewed else (), True)
        present |= {tag: one.said.on for tag, one in tags.items() if one.serial == self._serial}
        for tag in remove:
            if present.get(tag):
                tags[tag] = self._sign(TagChange(manifest_id, tag, on=False))
        for tag in add:
            if not present.get(tag):
                tags[tag] = self._sign(TagChange(manifest_id, tag, on=True))
        self._models[manifest_id] = replace(published, tags=_bounded(tags))

    def say_stored(self, said: Stored) -> None:
        """Say that a model is in the bucket, or is no more."""
        published = self._model(said.manifest_id)
        viewed = self._viewed(said.manifest_id)
        known = viewed.stored if viewed is not None else None
        if known != said and not (known is None and said.origin_url is None):
            record = self._sign(said)
            self._models[said.manifest_id] = replace(published, stored=record)

    def report(self, said: NodeReport) -> None:
        """Say what this node has and has moved; models that the room hasn't are left out."""
        starts = {manifest_id[:CACHED_ID_BYTES] for manifest_id in self._models}
        said = replace(said, cached=tuple(one for one in said.cached if one[0] in starts))
        if self._registry.reports.get(self._node) != said:
            self._reports[self._node] = self._sign(said)

    def protect(self, alias: str, roles: tuple[str, ...]) -> None:
        """Protect an alias to roles, or lift its protection with none."""
        said = AliasProtection(alias, roles, self._means.get(alias))
        if self._protected.get(alias, ()) == said.roles:
            return
        older = [one for one in self._protections.get(alias, ()) if one.serial != self._serial]
        self._protections[alias] = (*older, self._sign(said))[-PROTECTIONS_MAX_PER_ALIAS:]
        self._protected[alias] = said.roles

    def set_policy(self, policy: RoomPolicy) -> None:
        """Set the rules of the room."""
        if self._registry.policy != policy:
            self._policy = self._sign(policy)

    def finish(self) -> Document:
        """Return the new document, or the one before when nothing was changed."""
        if not self._wrote:
            return self._before
        document = replace(
            self._before,
            serial=self._serial,
            members=self._members(),
            models=self._models,
            aliases=self._aliases,
            protections=self._protections,
            withdrawn=self._withdrawn,
            reports=self._reports,
            policy=self._policy,
            malformed=(),  # what could not be read is not written back
        )
        return fit(document)

    def _append(self, alias: str, manifest_id: ManifestId | None) -> None:
        self._check_guard(alias)
        move = self._sign(AliasMove(alias, manifest_id, before=self._means.get(alias)))
        # Of one change only the last move counts: the serial puts them in order.
        older = [one for one in self._aliases.get(alias, ()) if one.serial != self._serial]
        believed = {one.signature for one in self._registry.history.get(alias, ())}
        surplus = max(0, len(older) + 1 - ALIAS_HISTORY_MAX)
        # What nobody believes goes first, whatever number it claims.
        forgotten = sorted(older, key=lambda one: (one.signature in believed, one.order))[:surplus]
        self._aliases[alias] = (*(one for one in older if one not in forgotten), move)
        self._means.pop(alias, None)
        if manifest_id is not None:
            self._means[alias] = manifest_id

    def _meaning(self, alias: str) -> ManifestId | None:
        """Return the model that an alias means, None too where that is in the room no more."""
        target = self._means.get(alias)
        return target if target in self._models and target not in self._gone else None

    def _check_expected(self, alias: str, expected: Expected) -> None:
        if expected is ANY or expected in (self._means.get(alias), self._meaning(alias)):
            return
        moves = self._registry.history.get(alias, ())
        raise stale_alias(alias, expected, self._meaning(alias), moves[-1] if moves else None)

    def _check_guard(self, alias: str) -> None:
        if protected := self._protected.get(alias):
            needed = guardians(protected)
            self._check_roles(needed, f"alias {alias!r} is protected: only", "may move it")

    def _check_roles(self, needed: Collection[str], before: str, after: str) -> None:
        roles = self._roles()
        if roles is not None and not any(role in needed for role in roles):
            raise ForbiddenError(
                f"{before} a member with the role {' or '.join(needed)} {after}, and this node's "
                f"is {' and '.join(roles)}: ask one, or an admin for another invitation"
            )

    def _roles(self) -> Sequence[str] | None:
        """Return the author's roles; None where nothing is known of how to judge authors."""
        if self._known_roles is None and self._verified.verify_member is not None:
            room = self._before.room
            member = self._verified.verify_member(room, self._chain, self._now)
            self._known_roles = member.roles
        return self._known_roles

    def _viewed(self, manifest_id: ManifestId) -> Model | None:
        """Return what is known of a model, nothing of one that this change took out before."""
        end = self._withdrawn.get(manifest_id)
        if end is not None and end.serial == self._serial:
            return None
        return self._registry.models.get(manifest_id)

    def _last_touched(self, manifest_id: ManifestId, published: Published) -> int:
        """Return the number of the last change of a model, its tags and aliases, or the policy."""
        serials = [published.entry.serial, *(tag.serial for tag in published.tags.values())]
        for moves in self._aliases.values():
            serials += [move.serial for move in moves if move.said.manifest_id == manifest_id]
        if self._policy is not None:
            serials.append(self._policy.serial)
        return max(serials)

    def _model(self, manifest_id: ManifestId) -> Published:
        try:
            return self._models[manifest_id]
        except KeyError:
            raise NoMatchError(
                f"model {short(manifest_id)} is not in this room; push it here first"
            ) from None

    def _sign(self, said: S) -> Record[S]:
        # What nobody would believe is not written: its author should hear of it.
        self._check_roles(RIGHTS[type(said)], "only", "may do this")
        self._wrote = True
        return sign(said, self._before.room, self._key, self._now, self._serial)

    def _members(self) -> dict[NodeId, tuple[Chain, ...]]:
        """Return the members with the author's present chain last among its chains."""
        older = [one for one in self._before.members.get(self._node, ()) if one != self._chain]
        chains = (*older, self._chain)[-REGISTRY_MAX_CHAINS_PER_MEMBER:]
        return {**self._before.members, self._node: chains}


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
