"""What makes a model public: its torrent's metadata, magnet link and torrent file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dreamer.daemon.store import space
from dreamer.daemon.store.ingest import OnProgress
from dreamer.daemon.store.store import Store
from dreamer.daemon.torrent.hashing import TorrentHasher
from dreamer.protocol.content import magnet, torrent_metadata
from dreamer.protocol.content.magnet import Magnet
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.content.torrent_metadata import Metadata
from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import TORRENT_MAX_TRACKERS
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.registry.statements import PublicTorrent
from dreamer.protocol.rooms.card import RoomCard

_WEBSOCKET = {"http": "ws", "https": "wss"}


class Publicity:
    """Makes and finds what strangers need of a model.

    ``trackers`` are others beside the rooms' own, ``web_seeds`` URLs below which the directories
    of public models can be read, each named as its torrent (BEP 19). With ``origin_is_public`` the
    rooms' origins are such places, too.
    """

    def __init__(
        self,
        store: Store,
        trackers: tuple[str, ...] = (),
        web_seeds: tuple[str, ...] = (),
        enabled: bool = True,
        origin_is_public: bool = False,
    ) -> None:
        self.enabled = enabled
        self.origin_is_public = origin_is_public
        self._store = store
        self._trackers = trackers
        self._web_seeds = tuple(url.rstrip("/") + "/" for url in web_seeds)

    def trackers(self, card: RoomCard) -> list[str]:
        """Return where a room's public models are announced: over HTTP, and for browsers."""
        every = [*_announce_urls(card), *self._trackers]
        return list(dict.fromkeys(every))[:TORRENT_MAX_TRACKERS]

    def web_seeds(self, card: RoomCard) -> list[str]:
        """Return where the files of a room's public models can be read by HTTP."""
        found = list(self._web_seeds)
        if self.origin_is_public and card.origin is not None:
            found.append(parse_origin(card.origin, card.endpoint_url).web_seed)
        return found

    def make(self, manifest: Manifest, progress: OnProgress, stop: threading.Event) -> Metadata:
        """Read a stored model through for its metadata, and keep that as an object.

        Raises:
            InputError: the model can't be a torrent.
            LocalError: the disk failed.
            StoppedError: ``stop`` was set.
        """
        metadata = self.compute(manifest, progress, stop)
        self._store.put_object(metadata.digest, metadata.object_bytes)
        return metadata

    def compute(self, manifest: Manifest, progress: OnProgress, stop: threading.Event) -> Metadata:
        """Read a stored model through for its metadata, and keep nothing.

        Raises:
            InputError: the model can't be a torrent.
            LocalError: the disk failed.
            StoppedError: ``stop`` was set.
        """
        layout = TorrentLayout(manifest)
        with space.explained(self._store.root):
            return TorrentHasher(layout, self._store.file, progress, stop).run()

    def known(self, manifest: Manifest, torrent: PublicTorrent, stop: threading.Event) -> Metadata:
        """Return the metadata of a model that is whole here, made anew if it isn't at hand.

        Raises:
            LocalError: what was published is not the torrent of this model.
            InputError: likewise.
        """
        data = self._store.get_object(torrent.metadata)
        if data is not None:
            return torrent_metadata.parse(data, TorrentLayout(manifest))
        metadata = self.make(manifest, lambda done, total: None, stop)
        said = magnet.parse(torrent.magnet)
        if (said.v1, said.v2) != (metadata.v1, metadata.v2):
            raise LocalError("its magnet link means another torrent: push it again with --public")
        return metadata

    def announce(self, metadata: Metadata, name: str, card: RoomCard) -> PublicTorrent:
        """Return what the registry says of a public model."""
        meeting = tuple(self.trackers(card)), tuple(self.web_seeds(card))
        link = Magnet(metadata.v1, metadata.v2, name, *meeting)
        companion = Magnet(metadata.companion_v1, b"", name, *meeting)
        return PublicTorrent(str(link), str(companion), metadata.digest)

    def write_files(self, metadata: Metadata, card: RoomCard, directory: Path) -> tuple[Path, Path]:
        """Write the torrent file and the companion's beside a model's directory.

        Return where they are.

        Raises:
            LocalError: the disk failed.
        """
        meeting = self.trackers(card), self.web_seeds(card)
        hybrid = directory.with_name(f"{directory.name}.torrent")
        companion = directory.with_name(f"{directory.name}.v1.torrent")
        self._write(hybrid, metadata.torrent(*meeting))
        self._write(companion, metadata.companion(*meeting))
        return hybrid, companion

    def _write(self, target: Path, data: bytes) -> None:
        staged = self._store.new_folder()
        with space.explained(target):
            # Written aside: whoever picks it up finds all of it.
            staged.write_bytes(data)
            staged.rename(target)


def _announce_urls(card: RoomCard) -> Iterator[str]:
    for base in card.trackers:
        yield f"{base}/announce"
    for base in card.trackers:
        scheme = urlsplit(base).scheme
        yield f"{_WEBSOCKET[scheme]}{base.removeprefix(scheme)}/announce"
