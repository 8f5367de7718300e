"""Checks every record of a document; what fails is left out of the view and reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.aliases import meaning
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.document import Document, Moves, Protections, Published
from dreamer.protocol.registry.judge import Judge
from dreamer.protocol.registry.policy import RoomPolicy
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.reports import Fault, Report
from dreamer.protocol.registry.sift import counts, without_withdrawn
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.view import Model, Registry, Verified
from dreamer.protocol.registry_limits import CACHED_ID_BYTES


def verify(document: Document, verify_member: VerifyMember, now: float) -> Verified:
    """Return what can be believed of a document, and a report of each thing that can't."""
    judge = Judge(document, verify_member, now)
    history, protections = judge.aliases()
    withdrawn = judge.withdrawn(history, protections)
    published = without_withdrawn(judge.models(), withdrawn)
    models = {
        manifest_id: _model(one)
        for manifest_id, one in published.items()
        if counts(one, withdrawn.get(manifest_id))
    }
    pointers = _pointers(history, protections)
    reports, policy = judge.reported(), judge.policy()
    for alias, target in sorted(pointers.items()):
        if target not in models and target not in withdrawn:
            judge.reports.append(Report(f"alias {alias}", Fault.DANGLING))
    if document.serial != judge.serial:
        judge.reports.append(Report("room document", Fault.SERIAL))
    registry = Registry(
        models=_placed(models, pointers, reports),
        aliases={alias: target for alias, target in pointers.items() if target in models},
        history=history,
        dangling={alias: target for alias, target in pointers.items() if target not in models},
        withdrawn={key: one for key, one in withdrawn.items() if key not in models},
        protections={
            alias: guards[-1].said.roles
            for alias, guards in protections.items()
            if guards[-1].said.roles
        },
        reports={node: record.said for node, record in reports.items()},
        reported_at={node: record.at for node, record in reports.items()},
        policy=RoomPolicy() if policy is None else policy.said,
    )
    return Verified(
        document=document,
        registry=registry.as_of(now),
        serial=judge.serial,
        last_serial=judge.last_serial,
        reports=(*document.malformed, *judge.reports),
        believed=judge.believed,
        verify_member=verify_member,
    )


def accept_newer(old: Verified | None, new: Verified) -> Verified:
    """Return ``new`` unless it is older than what this node has already seen.

    Raises:
        ForbiddenError: an old document is passed off as the present one.
    """
    if old is not None and new.serial < old.serial:
        raise ForbiddenError(
            f"the room's store returned an old registry (change {new.serial}, but change "
            f"{old.serial} was seen before): nothing was changed; ask whoever keeps the room's "
            "tracker or bucket to restore the newest copy"
        )
    return new


def _model(published: Published) -> Model:
    entry, said, stored = published.entry, published.entry.said, published.stored
    # The name and sizes are the publisher's word; a pull trusts the manifest's instead.
    return Model(
        said.manifest_id,
        said.name,
        said.size_bytes,
        said.files,
        said.model_type,
        published_by=entry.by,
        at=entry.at,
        tags=tuple(tag for tag, record in sorted(published.tags.items()) if record.said.on),
        torrent=said.torrent,
        notes=said.notes,
        provenance=said.provenance,
        storage=said.storage,
        expires_at=said.expires_at,
        lifetime_days=said.lifetime_days,
        stored=stored.said if stored is not None and stored.said.origin_url else None,
    )


def _pointers(history: Moves, protections: Protections) -> dict[str, ManifestId]:
    """Return what each alias means, whether that is in the room or not."""
    pointers: dict[str, ManifestId] = {}
    for alias in sorted({**history, **protections}):
        target = meaning(history.get(alias, ()), protections.get(alias, ()))
        if target is not None:
            pointers[alias] = target
    return pointers


def _placed(
    models: Mapping[ManifestId, Model],
    pointers: Mapping[str, ManifestId],
    reports: Mapping[NodeId, Record[NodeReport]],
) -> dict[ManifestId, Model]:
    """Return the models with the aliases that mean them and the nodes that have them."""
    named: dict[ManifestId, list[str]] = {}
    for alias, target in sorted(pointers.items()):
        named.setdefault(target, []).append(alias)
    cached = _cached_on(models, reports)
    return {
        key: replace(model, aliases=tuple(named.get(key, ())), cached_on=tuple(cached.get(key, ())))
        for key, model in models.items()
    }


def _cached_on(
    models: Mapping[ManifestId, Model], reports: Mapping[NodeId, Record[NodeReport]]
) -> dict[ManifestId, list[tuple[NodeId, bool]]]:
    by_start: dict[bytes, list[ManifestId]] = {}
    for manifest_id in models:
        by_start.setdefault(manifest_id[:CACHED_ID_BYTES], []).append(manifest_id)
    found: dict[ManifestId, list[tuple[NodeId, bool]]] = {}
    for node, record in sorted(reports.items()):
        for start, serves in record.said.cached:
            meant = by_start.get(start, ())
            # Two that begin alike were made so on purpose: nobody can tell which is meant.
            if len(meant) == 1:
                found.setdefault(meant[0], []).append((node, serves))
    return found
