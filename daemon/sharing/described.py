"""What describes a model, its manifest and its outboard: from the store, a member or the origin."""

from __future__ import annotations

import asyncio
import threading
import time

from dreamer.daemon.links.link import linked_first
from dreamer.daemon.origins import Origins
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.discovery import Discovery
from dreamer.daemon.store.store import Store
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content import outboard as outboards
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import RemoteError, RemoteProtocolError
from dreamer.protocol.ids import Digest, NodeId, short
from dreamer.protocol.limits import (
    DISCOVERY_MAX_S,
    MANIFEST_MAX_BYTES,
    OBJECT_RETRY_S,
    OUTBOARD_MAX_BYTES,
)
from dreamer.protocol.registry.statements import PublicTorrent
from dreamer.protocol.registry.view import Model


class Description:
    """Brings the description of one model here, and keeps it; ``stop`` ends what blocks."""

    def __init__(
        self,
        store: Store,
        origins: Origins,
        session: RoomSession,
        model: Model,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._origins = origins
        self._session = session
        self._model = model
        self._stop = stop
        self.lacks = ""
        """Why the last part of it could not be had, for a person."""
        self.helped = False
        """Whether a member was asked that has left since, and may come back."""
        self._liars: set[NodeId] = set()
        self._out_of_reach: set[NodeId] = set()

    def discovery(self) -> Discovery:
        """Return what finds the members that hold the model."""
        session, manifest_id = self._session, self._model.manifest_id
        return Discovery(session.links, lambda: session.seek(manifest_id))

    async def manifest(self) -> Manifest:
        """Return the manifest.

        Raises:
            RemoteError: nobody can give it now.
            DiskError: it can't be kept.
            ManifestError: what was published under this id is not a manifest.
        """
        data = await self._object(Digest(self._model.manifest_id), MANIFEST_MAX_BYTES)
        return await asyncio.to_thread(manifests.parse, data)

    async def outboard(self, manifest: Manifest) -> Outboard:
        """Return the hashes of the blocks; raises as ``manifest`` does."""
        data = await self._object(manifest.outboard, OUTBOARD_MAX_BYTES)
        return outboards.parse(data, manifest.block_count, manifest.outboard)

    async def metadata(self, torrent: PublicTorrent) -> bytes:
        """Return the metadata of a public model's torrent, unchecked; raises as ``manifest``."""
        return await self._object(torrent.metadata, OUTBOARD_MAX_BYTES)

    async def _object(self, digest: Digest, max_bytes: int) -> bytes:
        data = await asyncio.to_thread(self._store.get_object, digest)
        if data is None:
            data = await self._fetch(digest, max_bytes)
            await asyncio.to_thread(self._store.put_object, digest, data)
        return data

    async def _fetch(self, digest: Digest, max_bytes: int) -> bytes:
        deadline = time.monotonic() + DISCOVERY_MAX_S
        while True:
            data = await self._from_members(digest, max_bytes)
            if data is not None:
                return data
            reason = "the room has no origin to fall back on"
            if (origin := self._origins.of_model(self._session.card, self._model)) is not None:
                try:
                    return await asyncio.to_thread(origin.fetch_object, digest, self._stop)
                except RemoteError as error:
                    reason = str(error)
            if time.monotonic() >= deadline:
                raise self._lacking(reason)
            await asyncio.sleep(OBJECT_RETRY_S)

    def _lacking(self, reason: str) -> RemoteError:
        name = f"{self._model.name} ({short(self._model.manifest_id)})"
        reach, advice = "", ""
        if self._out_of_reach:
            # Else people would look for a node that has it, while one runs before their eyes.
            reach, advice = " and can be reached from here", "see docs/networks.md, or "
        self.lacks = f"nobody who is online has {name}{reach}, and {reason}"
        return RemoteError(f"{self.lacks}: {advice}start a node that has it and pull again")

    async def _from_members(self, digest: Digest, max_bytes: int) -> bytes | None:
        named: set[NodeId] = set()
        links = await self.discovery().meet(lambda found: named.update(found.nodes))
        self._out_of_reach = named - {link.peer for link in links} - self._liars
        for link in linked_first(links):
            try:
                return await self._session.objects.fetch(link, digest, max_bytes)
            except RemoteProtocolError as error:
                self._liars.add(link.peer)
                self._session.punish(link.peer, str(error))
            except RemoteError:
                # One that lacks the object says so, and stays.
                self.helped |= self._session.links.link(link.peer) is not link
        return None
