"""Pushes a model: into the store, into the room's registry, to the room's origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dreamer.daemon.origin.tally import UploadReport
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Progress, PushEvent, PushReceipt
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.upload_queue import QueuedUpload
from dreamer.daemon.sharing.uploads import Uploads
from dreamer.daemon.sharing.watched import Watched
from dreamer.daemon.state import HeldModel, State
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.pushing import OriginWait, PushRequest
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_metadata import Metadata
from dreamer.protocol.errors import DreamerError, ForbiddenError, InputError
from dreamer.protocol.garbage.keys import expiry_after
from dreamer.protocol.ids import ManifestId, RoomId, short
from dreamer.protocol.registry.changes import Change, ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.provenance import Provenance
from dreamer.protocol.registry.standing import PUBLISHING_ROLES
from dreamer.protocol.registry.statements import ModelEntry, PublicTorrent
from dreamer.protocol.registry.storage import Storage
from dreamer.protocol.registry.view import Model
from dreamer.protocol.swarm import bitfield


@dataclass(frozen=True)
class PusherParts:
    """What a pusher needs of its node."""

    store: Store
    state: State
    library: Library
    origins: Origins
    publicity: Publicity
    published: Callable[[RoomId], None]
    uploads: Uploads
    # Whether others can fetch from this node what it has.
    shares: bool = True
    # By id, as anybody can give a room of their own the name of another.
    public_rooms: frozenset[RoomId] = frozenset()


@dataclass(frozen=True)
class _Published:
    """What a model is called in its room, and what strangers fetch it by if it is public.

    Of its torrent, and of the companion for older clients.
    """

    name: str
    magnets: tuple[str, str] = ("", "")
    files: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Done:
    """What a push came to; ``state`` and ``error`` are of its upload."""

    request: PushRequest
    manifest: Manifest
    published: _Published
    sent: UploadReport
    state: str
    error: str
    expires_at: int | None

    def receipt(self, session: RoomSession, seconds: float) -> PushReceipt:
        """Return it as its user hears of it."""
        manifest, request = self.manifest, self.request
        return PushReceipt(
            manifest_id=manifest.id.hex(),
            short_id=short(manifest.id),
            name=self.published.name,
            room=session.card.name,
            size_bytes=manifest.size_bytes,
            files=len(manifest.files),
            aliases=request.aliases,
            tags=request.tags,
            seconds=seconds,
            uploaded=self.sent.sent_bytes,
            saved=self.sent.saved_bytes,
            origin=session.card.origin,
            origin_state=self.state,
            origin_error=self.error,
            expires_at=self.expires_at,
            magnet=self.published.magnets[0],
            torrent=self.published.files[0],
            magnet_v1=self.published.magnets[1],
            torrent_v1=self.published.files[1],
        )


class Pusher:
    """All pushes of a node."""

    def __init__(self, parts: PusherParts) -> None:
        self._parts = parts

    async def push(
        self, session: RoomSession, request: PushRequest
    ) -> AsyncGenerator[PushEvent, None]:
        """Push a file or directory; yields progress, then the receipt.

        Raises:
            ForbiddenError: this node may not publish in the room.
            InputError: the path can't be a model.
            RemoteError: the registry can't be reached; run the push again. An origin that can't
                be reached is no error: the receipt says that the upload is queued.
        """
        started = time.monotonic()
        if session.room_id in self._parts.public_rooms and request.ttl_s is None:
            request = replace(request, public=True)
        self._check(session, request)
        # A registry that can't be reached now could not be written after an hour of hashing either.
        await session.registry.reach()
        request = await _said_of(session, request)
        ingest = self._ingest(request)
        async with aclosing(ingest.follow()) as hashing:
            async for progress in hashing:
                yield progress
        manifest_id, manifest = ingest.result
        metadata: Metadata | None = None
        if request.public:
            describe = self._describe(manifest)
            async with aclosing(describe.follow()) as describing:
                async for progress in describing:
                    yield progress
            metadata = describe.result
        yield Progress("publish", manifest.size_bytes, manifest.size_bytes)
        uploads = self._parts.uploads
        names = _names(request, manifest_id)
        with self._written_down(session, request, manifest, metadata) as item:
            # Counted from here: an hour of hashing is no part of its time.
            ttl_s = request.ttl_s
            expires_at = None if ttl_s is None else expiry_after(ttl_s, time.time())
            now = names if self._parts.shares else ()
            published = await self._publish(session, request, manifest, metadata, expires_at, now)
        sent = UploadReport(0, 0)
        state = error = ""
        if item is not None:
            # Not ended with this push: what peers can serve must not wait for the origin.
            job = uploads.begin(item, session)
            wait: OriginWait = request.wait if self._parts.shares else "done"
            if wait != "no":
                async with aclosing(uploads.follow(job, wait)) as uploading:
                    async for progress in uploading:
                        yield progress
            sent = job.report or sent
            state, error = "stored" if job.report else "queued", job.item.error
            if not self._parts.shares and names and job.report:
                # Not before: nobody can have from this node what a name already means.
                await session.registry.change(*names)
        done = _Done(request, manifest, published, sent, state, error, expires_at)
        yield done.receipt(session, time.monotonic() - started)

    def _check(self, session: RoomSession, request: PushRequest) -> None:
        if not set(session.membership.roles) & set(PUBLISHING_ROLES):
            raise ForbiddenError(
                f"this node may not publish in room {session.card.name}: ask an admin for an "
                "invitation with the role publisher"
            )
        if not self._parts.shares and session.card.origin is None:
            raise InputError(
                f"this node is ephemeral and gives nothing to others, and room {session.card.name} "
                "has no origin: nobody could ever fetch it. Push from a persistent node "
                "([worker] kind), or to a room with an origin"
            )
        if request.public and not self._parts.publicity.enabled:
            raise InputError(
                "this node takes part in no torrents ([torrent] enabled, [network] relay = "
                '"only", or an ephemeral worker): push without --public (to a room that is not in '
                "[torrent] public_rooms), or change that"
            )
        if request.ttl_s is not None:
            expiry_after(request.ttl_s, time.time())
        if not request.path.exists():
            raise InputError(f"there is nothing at {request.path}: give a file or a directory")

    def _ingest(self, request: PushRequest) -> Watched[tuple[ManifestId, Manifest]]:
        store = self._parts.store
        return Watched(
            "hash",
            lambda note, stop: store.ingest(request.path, note, stop, request.allow_pickle),
        )

    async def _publish(
        self,
        session: RoomSession,
        request: PushRequest,
        manifest: Manifest,
        metadata: Metadata | None,
        expires_at: int | None,
        names: Sequence[Change],
    ) -> _Published:
        manifest_id = manifest.id
        known = (await session.read_registry()).models.get(manifest_id)
        if expires_at is not None and known is not None and known.expires_at is None:
            raise InputError(
                f"room {session.card.name} has this for good already: pull it as "
                f"{short(manifest_id)}, or withdraw it first"
            )
        path = await asyncio.to_thread(
            self._parts.store.lay_out, manifest_id, manifest, request.name, None
        )
        now = time.time()
        self._parts.state.put_model(
            HeldModel(manifest_id, session.room_id, request.name, path, now, now)
        )
        everything = bitfield.full(manifest.block_count)
        self._parts.library.offer(session.room_id, manifest_id, manifest, everything)
        torrent: PublicTorrent | None = None
        files: tuple[Path, ...] = ()
        if metadata is not None:
            publicity = self._parts.publicity
            torrent = publicity.announce(metadata, request.name, session.card)
            files = await asyncio.to_thread(publicity.write_files, metadata, session.card, path)
        entry = _entry(request, manifest, torrent, known, expires_at)
        await session.registry.change(Publish(entry), *names)
        self._parts.published(session.room_id)
        if torrent is None:
            return _Published(entry.name)
        first, second = map(str, files)
        return _Published(entry.name, (torrent.magnet, torrent.magnet_v1), (first, second))

    def _describe(self, manifest: Manifest) -> Watched[Metadata]:
        make = self._parts.publicity.make
        return Watched("torrent", lambda note, stop: make(manifest, note, stop))

    @contextmanager
    def _written_down(
        self,
        session: RoomSession,
        request: PushRequest,
        manifest: Manifest,
        metadata: Metadata | None,
    ) -> Iterator[QueuedUpload | None]:
        """Keep what is to be uploaded before it is published; not if it can't be published."""
        if session.card.origin is None:
            yield None
            return
        extra = metadata.digest if metadata else None
        item = QueuedUpload(
            *(session.room_id, manifest.id, request.name, manifest.size_bytes, extra, time.time())
        )
        uploads = self._parts.uploads
        fresh = uploads.keep(item)
        published = False
        try:
            yield item
            published = True
        except DreamerError:
            if fresh:
                uploads.drop(session.room_id, manifest.id)
            raise
        finally:
            # Whoever was to follow it may have gone in the midst of publishing.
            if published or uploads.holds(manifest.id):
                uploads.begin(item, session)


async def _said_of(session: RoomSession, request: PushRequest) -> PushRequest:
    """Return the request with the models that it was trained from resolved.

    Raises:
        NoMatchError: one of them is not in the room.
    """
    if not request.trained_from:
        return request
    parents = [(await session.resolve(ref)).manifest_id for ref in request.trained_from]
    said = request.provenance or Provenance()
    return replace(request, provenance=replace(said, parents=tuple(dict.fromkeys(parents))))


def _entry(
    request: PushRequest,
    manifest: Manifest,
    torrent: PublicTorrent | None,
    known: Model | None,
    expires_at: int | None,
) -> ModelEntry:
    return ModelEntry(
        manifest.id,
        known.name if known and not request.named else request.name,
        manifest.size_bytes,
        len(manifest.files),
        model_type(manifest),
        torrent,
        notes=_notes(request, known),
        provenance=request.provenance or (known.provenance if known else None),
        storage=Storage.of((one.path, one.size_bytes) for one in manifest.files),
        expires_at=expires_at,
    )


def _names(request: PushRequest, manifest_id: ManifestId) -> tuple[Change, ...]:
    moves = [MoveAlias(alias, manifest_id) for alias in request.aliases]
    tags = [ChangeTags(manifest_id, add=request.tags)] if request.tags else []
    return (*moves, *tags)


def _notes(request: PushRequest, known: Model | None) -> str:
    if request.notes is not None:
        return request.notes
    return known.notes if known else ""


def model_type(manifest: Manifest) -> str:
    """Return what a model is, by its files: ``decoder``, ``tensor`` or ``files``."""
    names = {entry.path for entry in manifest.files}
    if "model.onnx" in names and {"config.json", "tokenizer.json"} <= names:
        return "decoder"
    return "tensor" if any(name.endswith(".onnx") for name in names) else "files"
