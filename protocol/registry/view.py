"""What a registry says once it has been verified: the only form that the rest of a node reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.document import Document
from dreamer.protocol.registry.policy import RoomPolicy
from dreamer.protocol.registry.provenance import Provenance, Setting
from dreamer.protocol.registry.records import AnyRecord, Record
from dreamer.protocol.registry.reports import Report
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.statements import AliasMove, PublicTorrent, Withdrawal
from dreamer.protocol.registry.storage import Storage


@dataclass(frozen=True)
class Model:
    """One model of a room; ``aliases`` and ``tags`` in alphabetical order, ``at`` in seconds.

    ``stored`` says where it is in the room's bucket, None if it isn't; ``cached_on`` which nodes
    have it and whether they give it to others, by node id, as they last reported.
    """

    manifest_id: ManifestId
    name: str
    size_bytes: int
    files: int
    model_type: str
    published_by: NodeId
    at: float
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    torrent: PublicTorrent | None = None
    notes: str = ""
    provenance: Provenance | None = None
    storage: Storage | None = None
    expires_at: int | None = None
    lifetime_days: int | None = None
    stored: Stored | None = None
    cached_on: tuple[tuple[NodeId, bool], ...] = ()

    @property
    def parents(self) -> tuple[ManifestId, ...]:
        """The models that it was trained from."""
        return self.provenance.parents if self.provenance else ()

    @property
    def metrics(self) -> Mapping[str, float]:
        """How well it did, by the name of the measure."""
        return self.provenance.metrics if self.provenance else {}

    @property
    def config(self) -> Mapping[str, Setting]:
        """How it was trained, where the entry itself says so."""
        return self.provenance.config if self.provenance else {}

    def expired(self, now: float) -> bool:
        """Return whether its time is over at ``now`` (epoch seconds)."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True)
class Registry:
    """A room's models by id, its aliases, and who moved each alias when (oldest first).

    ``aliases`` has only those that mean a model. Those whose model was withdrawn or has expired are
    ``dangling``, and mean it again if it comes back; ``history`` also holds aliases that were
    removed. ``expired`` temporary uploads are no models any more, and wait to be cleared away.
    ``withdrawn`` models tell by whom and when; ``protections`` which roles, beside admins, may move
    an alias. ``reports`` are what nodes say of themselves, ``reported_at`` when.
    """

    models: Mapping[ManifestId, Model] = field(default_factory=dict)
    aliases: Mapping[str, ManifestId] = field(default_factory=dict)
    history: Mapping[str, tuple[Record[AliasMove], ...]] = field(default_factory=dict)
    dangling: Mapping[str, ManifestId] = field(default_factory=dict)
    expired: Mapping[ManifestId, Model] = field(default_factory=dict)
    withdrawn: Mapping[ManifestId, Record[Withdrawal]] = field(default_factory=dict)
    protections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reports: Mapping[NodeId, NodeReport] = field(default_factory=dict)
    reported_at: Mapping[NodeId, float] = field(default_factory=dict)
    policy: RoomPolicy = field(default_factory=RoomPolicy)

    def as_of(self, now: float) -> Registry:
        """Return the registry without the models that have expired by ``now`` (epoch seconds).

        It is the registry itself as long as none has, since it was verified.
        """
        over = {key: model for key, model in self.models.items() if model.expired(now)}
        if not over:
            return self
        gone = {alias: key for alias, key in self.aliases.items() if key in over}
        return replace(
            self,
            models={key: model for key, model in self.models.items() if key not in over},
            aliases={alias: key for alias, key in self.aliases.items() if key not in over},
            dangling={**self.dangling, **gone},
            expired={**self.expired, **over},
        )


@dataclass(frozen=True)
class Verified:
    """A document, what is to be believed of it, and what was ignored.

    ``serial`` is the highest serial that a member signed, whatever the document itself claims;
    ``last_serial`` the highest plausible one of any record, believed or not: a change takes the
    next. ``believed`` are the records that count, by their signatures. ``verify_member`` is what
    the authors were judged by, and a new one will be.
    """

    document: Document
    registry: Registry
    serial: int
    last_serial: int
    reports: tuple[Report, ...] = ()
    believed: Mapping[bytes, AnyRecord] = field(default_factory=dict, compare=False, repr=False)
    verify_member: VerifyMember | None = field(default=None, compare=False, repr=False)

    def as_of(self, now: float) -> Verified:
        """Return the same at a later time (epoch seconds), itself unless a model has expired."""
        registry = self.registry.as_of(now)
        return self if registry is self.registry else replace(self, registry=registry)
