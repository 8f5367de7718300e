"""Pushes a model: into the store, into the room's registry, to the room's origin."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from dreamer.daemon.origin.upload import UploadReport
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Progress, PushEvent, PushReceipt
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.watched import Watched
from dreamer.daemon.state import HeldModel, State
from dreamer.daemon.store.ingest import OnProgress
from dreamer.daemon.store.store import Store
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.content.torrent_metadata import Metadata
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError
from dreamer.protocol.ids import Digest, ManifestId, RoomId, short
from dreamer.protocol.registry.changes import Change, ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.names import check_alias, check_name, check_tag
from dreamer.protocol.registry.standing import PUBLISHING_ROLES
from dreamer.protocol.registry.statements import ModelEntry, PublicTorrent
from dreamer.protocol.swarm import bitfield


@dataclass(frozen=True)
class PushRequest:
    """What to push and what to call it. ``allow_pickle`` takes files in that may hold code.

    ``public`` makes it a torrent for anybody, too, as does a room that the node's settings call
    public; without either a model that was public is no more.
    """

    path: Path
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    name: str
    allow_pickle: bool = False
    public: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        for alias in self.aliases:
            check_alias(alias)
        for tag in self.tags:
            check_tag(tag)


@dataclass(frozen=True)
class PusherParts:
    """What a pusher needs of its node."""

    store: Store
    state: State
    library: Library
    origins: Origins
    publicity: Publicity
    published: Callable[[RoomId], None]
    # By id, as anybody can give a room of their own the name of another.
    public_rooms: frozenset[RoomId] = frozenset()


@dataclass(frozen=True)
class PublishedTorrent:
    """What strangers fetch a model by: of its torrent, and of the companion for older clients.

    Empty for a model that is not public.
    """

    magnets: tuple[str, str] = ("", "")
    files: tuple[str, str] = ("", "")


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
            RemoteError: the registry or the origin can't be reached; run the push again.
        """
        started = time.monotonic()
        if session.room_id in self._parts.public_rooms:
            request = replace(request, public=True)
        self._check(session, request)
        # A registry that can't be reached now could not be written after an hour of hashing either.
        await session.registry.reach()
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
        published = await self._publish(session, request, manifest, metadata)
        uploaded = 0
        if session.card.origin is not None:
            extra = metadata.digest if metadata else None
            upload = self._upload(session, manifest_id, manifest, extra)
            async with aclosing(_explained(upload.follow(), manifest_id)) as uploading:
                async for progress in uploading:
                    yield progress
            uploaded = upload.result.sent_bytes
        yield PushReceipt(
            manifest_id=manifest_id.hex(),
            short_id=short(manifest_id),
            name=request.name,
            room=session.card.name,
            size_bytes=manifest.size_bytes,
            files=len(manifest.files),
            aliases=request.aliases,
            tags=request.tags,
            seconds=time.monotonic() - started,
            uploaded=uploaded,
            origin=session.card.origin,
            magnet=published.magnets[0],
            torrent=published.files[0],
            magnet_v1=published.magnets[1],
            torrent_v1=published.files[1],
        )

    def _check(self, session: RoomSession, request: PushRequest) -> None:
        if not set(session.membership.roles) & set(PUBLISHING_ROLES):
            raise ForbiddenError(
                f"this node may not publish in room {session.card.name}: ask an admin for an "
                "invitation with the role publisher"
            )
        if request.public and not self._parts.publicity.enabled:
            raise InputError(
                "this node takes part in no torrents ([torrent] enabled, or [network] relay = "
                '"only"): push without --public (to a room that is not in [torrent] public_rooms), '
                "or change that"
            )
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
    ) -> PublishedTorrent:
        manifest_id = manifest.id
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
        entry = ModelEntry(
            manifest_id,
            request.name,
            manifest.size_bytes,
            len(manifest.files),
            model_type(manifest),
            torrent,
        )
        changes: list[Change] = [Publish(entry)]
        changes += [MoveAlias(alias, manifest_id) for alias in request.aliases]
        if request.tags:
            changes.append(ChangeTags(manifest_id, add=request.tags))
        await session.registry.change(*changes)
        self._parts.published(session.room_id)
        if torrent is None:
            return PublishedTorrent()
        first, second = map(str, files)
        return PublishedTorrent((torrent.magnet, torrent.magnet_v1), (first, second))

    def _describe(self, manifest: Manifest) -> Watched[Metadata]:
        make = self._parts.publicity.make
        return Watched("torrent", lambda note, stop: make(manifest, note, stop))

    def _upload(
        self,
        session: RoomSession,
        manifest_id: ManifestId,
        manifest: Manifest,
        metadata: Digest | None,
    ) -> Watched[UploadReport]:
        origin = self._parts.origins.of(session.card)
        assert origin is not None, "a room with an origin has one"
        store = self._parts.store
        by_name = metadata is not None and self._parts.publicity.origin_is_public

        def send(note: OnProgress, stop: threading.Event) -> UploadReport:
            report = origin.upload(manifest_id, manifest, store, note, stop, metadata)
            if by_name:
                origin.name_files(TorrentLayout(manifest), stop)
            return report

        return Watched("upload", send)


async def _explained(
    uploading: AsyncGenerator[Progress, None], manifest_id: ManifestId
) -> AsyncGenerator[Progress, None]:
    try:
        async with aclosing(uploading):
            async for progress in uploading:
                yield progress
    except RemoteError as error:
        raise RemoteError(
            f"{short(manifest_id)} is published and peers can pull it from this node, but the "
            f"upload to the origin failed ({error}): run the same push again"
        ) from error


def model_type(manifest: Manifest) -> str:
    """Return what a model is, by its files: ``decoder``, ``tensor`` or ``files``."""
    names = {entry.path for entry in manifest.files}
    if "model.onnx" in names and {"config.json", "tokenizer.json"} <= names:
        return "decoder"
    return "tensor" if any(name.endswith(".onnx") for name in names) else "files"
