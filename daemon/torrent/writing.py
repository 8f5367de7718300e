"""Writes the torrent file of any model that is whole here, whoever may fetch it.

A model's torrent follows from its bytes, so a private model has one as well: its info hash names it
to every BitTorrent tool. To write it down gives nobody anything: no process seeds it, no tracker
hears of it, and the registry says what it said.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.ports import TorrentFileEvent, TorrentReceipt
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.watched import Watched
from dreamer.daemon.state import State
from dreamer.daemon.store import space
from dreamer.daemon.store.ingest import OnProgress
from dreamer.daemon.store.store import Store
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.content.magnet import Magnet
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_metadata import Metadata
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry.view import Model


@dataclass(frozen=True)
class TorrentWriter:
    """Torrent files of a node's models."""

    publicity: Publicity
    store: Store
    state: State
    library: Library

    async def write(
        self, session: RoomSession, model: Model, output: Path | None
    ) -> AsyncGenerator[TorrentFileEvent, None]:
        """Write a model's torrent file; yields progress, then the receipt.

        Raises:
            LocalError: the model is not whole here, or damaged; or the disk failed.
            InputError: it can't be a torrent, or nothing can be written to ``output``.
        """
        name, wanted = model.name, model.manifest_id
        offering = self.library.find(session.room_id, wanted)
        if offering is None or not offering.whole:
            raise LocalError(
                f"{name} is not whole on this machine: run 'dreamer pull {short(wanted)}' first"
            )
        target = output or self._beside(wanted)
        _check_target(target)
        manifest = offering.manifest
        making = Watched("torrent", lambda note, stop: self._make(model, manifest, note, stop))
        async with aclosing(making.follow()) as events:
            async for progress in events:
                yield progress
        yield await asyncio.to_thread(self._written, session, model, making.result, target)

    def _make(
        self, model: Model, manifest: Manifest, progress: OnProgress, stop: threading.Event
    ) -> Metadata:
        if model.torrent is not None:
            return self.publicity.known(manifest, model.torrent, stop)
        # The hash of files that have changed would name another model, and nobody would notice.
        if not self.store.complete(manifest, stop):
            raise LocalError(
                f"{model.name} is damaged on this machine: run "
                f"'dreamer pull {short(manifest.id)}', which mends it"
            )
        return self.publicity.compute(manifest, progress, stop)

    def _written(
        self, session: RoomSession, model: Model, metadata: Metadata, target: Path
    ) -> TorrentReceipt:
        if model.torrent is None:
            # Members of a private room meet nobody by torrent: to name a tracker would tell it.
            link = str(Magnet(metadata.v1, metadata.v2, model.name))
            _replace(target, metadata.torrent((), ()))
        else:
            link, card = model.torrent.magnet, session.card
            meeting = self.publicity.trackers(card), self.publicity.web_seeds(card)
            _replace(target, metadata.torrent(*meeting))
        return TorrentReceipt(
            manifest_id=model.manifest_id.hex(),
            short_id=short(model.manifest_id),
            name=model.name,
            room=session.card.name,
            public=model.torrent is not None,
            info_hash_v1=metadata.v1.hex(),
            info_hash_v2=metadata.v2.hex(),
            magnet=link,
            path=str(target),
        )

    def _beside(self, manifest_id: ManifestId) -> Path:
        held = self.state.model(manifest_id)
        if held is None:
            raise InputError("say where to write the torrent file: --output FILE")
        return held.path.with_name(f"{held.path.name}.torrent")


def _check_target(target: Path) -> None:
    # Before the model is read through, which may take minutes.
    if target.is_dir():
        raise InputError(f"{target} is a directory: give the name of a file in it")
    if not target.parent.is_dir():
        raise InputError(f"there is no directory {target.parent}: make it first")


def _replace(target: Path, data: bytes) -> None:
    staged = target.with_name(f".{secrets.token_hex(8)}.torrent")
    with space.explained(target):
        try:
            # Written aside, on the same disk: whoever picks it up finds all of it.
            with staged.open("xb") as file:
                file.write(data)
            staged.rename(target)
        finally:
            staged.unlink(missing_ok=True)
