"""The rules that admins set for a room: who moves an alias, what is kept, who may ask whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.names import check_alias, check_tag
from dreamer.protocol.registry.reading import Reader, check_count
from dreamer.protocol.registry_limits import TAGS_MAX_PER_MODEL

# Not the roles of today: one that a later version adds must not undo a protection here.
_ROLE = re.compile(r"[a-z]{1,32}", re.ASCII)
_ROLES_MAX = 16


@dataclass(frozen=True)
class AliasProtection:
    """From here on only members with one of ``roles``, and admins, move this alias.

    No roles: anybody who may publish moves it again. ``manifest_id`` is what the alias means at
    that moment, so that nobody changes it by a move that is dated back before the protection.
    """

    alias: str
    roles: tuple[str, ...]
    manifest_id: ManifestId | None

    def __post_init__(self) -> None:
        check_alias(self.alias)
        _check_roles(self.roles)
        object.__setattr__(self, "roles", tuple(sorted(dict.fromkeys(self.roles))))

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"protection of alias {self.alias}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        target = None if self.manifest_id is None else self.manifest_id.hex()
        roles = list(self.roles)
        return {"kind": "protection", "alias": self.alias, "roles": roles, "manifest_id": target}


@dataclass(frozen=True)
class Retention:
    """Which models stay: any that one of these rules keeps; with no rule at all, every one.

    ``keep_last``: of each alias the models that it meant last, so many. ``keep_tagged``: those with
    one of these tags; ``keep_any_tag``: those with any. ``max_age_s``: those published no longer
    ago. ``extra`` holds rules that a later version added.
    """

    keep_last: int | None = None
    keep_tagged: tuple[str, ...] = ()
    keep_any_tag: bool = False
    max_age_s: int | None = None
    extra: Json = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.keep_last is not None and check_count(self.keep_last, "keep_last") < 1:
            raise InputError("the last 0 models can't be kept: use 1 or more, or no such rule")
        if len(self.keep_tagged) > TAGS_MAX_PER_MODEL:
            raise InputError(f"a policy names {TAGS_MAX_PER_MODEL} tags at most")
        for tag in self.keep_tagged:
            check_tag(tag)
        object.__setattr__(self, "keep_tagged", tuple(sorted(dict.fromkeys(self.keep_tagged))))
        if self.max_age_s is not None:
            check_count(self.max_age_s, "max_age_s")

    @property
    def keeps_all(self) -> bool:
        """Whether every model stays: there is no rule, or one that is not known here.

        A later version's rule may keep what the known ones would let go.
        """
        return bool(self.extra) or self == Retention()

    def fields(self) -> Json:
        """Return the JSON fields."""
        return {
            **self.extra,
            "keep_last": self.keep_last,
            "keep_tagged": list(self.keep_tagged),
            "keep_any_tag": self.keep_any_tag,
            "max_age_s": self.max_age_s,
        }


@dataclass(frozen=True)
class RoomPolicy:
    """What holds for the whole room; the newest counts.

    ``offload`` says by the role of who asks the roles of those that may be asked to run a model;
    None leaves that to each node.
    """

    retention: Retention = Retention()
    offload: Mapping[str, tuple[str, ...]] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.offload is not None:
            _check_roles(tuple(self.offload))
            for asked in self.offload.values():
                _check_roles(asked)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return "policy of the room"

    def fields(self) -> Json:
        """Return the JSON fields."""
        asked = None if self.offload is None else {a: list(b) for a, b in self.offload.items()}
        offload = {} if asked is None else {"offload": asked}
        return {**offload, "kind": "policy", "retention": self.retention.fields()}


def read_protection(fields: Reader) -> AliasProtection:
    """Read the fields of an alias's protection."""
    fields.kind("protection")
    target = Reader({"manifest_id": fields.any("manifest_id")}, "a protection")
    return AliasProtection(
        alias=fields.text("alias"),
        roles=_texts(fields.items("roles"), "a protection's roles"),
        manifest_id=(
            ManifestId(target.hex_bytes("manifest_id")) if target.has("manifest_id") else None
        ),
    )


def read_policy(fields: Reader) -> RoomPolicy:
    """Read the fields of a room's policy."""
    fields.kind("policy")
    offload: dict[str, tuple[str, ...]] | None = None
    if fields.has("offload"):
        asked = fields.mapping("offload")
        offload = {role: _texts(roles, "offload") for role, roles in asked.items()}
    return RoomPolicy(_read_retention(fields.any("retention")), offload)


def _read_retention(value: object) -> Retention:
    fields = Reader(value, "a policy's retention")
    keep_last, max_age_s = fields.any("keep_last"), fields.any("max_age_s")
    return Retention(
        None if keep_last is None else check_count(keep_last, "keep_last"),
        _texts(fields.any("keep_tagged"), "the tags that are kept"),
        fields.flag("keep_any_tag"),
        None if max_age_s is None else check_count(max_age_s, "max_age_s"),
        fields.rest(),
    )


def _texts(values: object, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{what} must be a list of texts")
    return tuple(values)


def _check_roles(roles: tuple[str, ...]) -> None:
    if len(roles) > _ROLES_MAX or not all(_ROLE.fullmatch(role) for role in roles):
        raise InputError(f"{roles!r:.80} are not roles: use member, publisher, worker or admin")
