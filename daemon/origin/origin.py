"""One room's origin: where pushes leave a copy and pulls turn last.

Keys are ``PREFIX/files/HEX`` (``.zst`` where it is kept so) and ``PREFIX/objects/HEX``, named by
BLAKE3; nothing that comes from the origin is trusted before it is hashed. Methods block and may be
called from several threads.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator
from contextlib import closing

from blake3 import blake3

from dreamer.daemon.origin.bucket import Bucket, credentials_found
from dreamer.daemon.origin.checks import Checks
from dreamer.daemon.origin.document import OriginDocument
from dreamer.daemon.origin.faults import OriginBusyError, OriginError
from dreamer.daemon.origin.forms import Forms
from dreamer.daemon.origin.lease import PushLease
from dreamer.daemon.origin.meter import Meter
from dreamer.daemon.origin.multipart import BegunUploads, RememberedUploads, Sending
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.presigned import PresignedBucket
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.origin.tally import OnUpload, Tally, UploadReport
from dreamer.daemon.origin.upload import Upload
from dreamer.daemon.origin.urls import UrlSource
from dreamer.daemon.origin.web_seed import NamedCopies
from dreamer.daemon.store import stopping
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.garbage.keys import PUSH_ID_BYTES
from dreamer.protocol.ids import Digest, ManifestId, RoomId
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ORIGIN_RETRY_BASE_S,
    STORE_OBJECT_MAX_BYTES,
)
from dreamer.protocol.origin import OriginAddress, parse_origin


class Origin:
    """The origin at ``s3://bucket/prefix``; ``endpoint_url`` for stores other than AWS's.

    Credentials come from where boto3 looks for them; where it finds none, ``source`` signs URLs.
    ``retry_base_s`` is the first pause before trying again; ``meter`` counts what is paid for.

    Raises:
        InputError: from the constructor, if a URL is not of that form.
        OriginError: from any method; see ``faults.py``.
    """

    def __init__(
        self,
        url: str,
        endpoint_url: str | None = None,
        retry_base_s: float = ORIGIN_RETRY_BASE_S,
        source: UrlSource | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._address = parse_origin(url, endpoint_url)
        self._retry = Retry(retry_base_s)
        self._source = source
        self._meter = meter
        self._lock = threading.Lock()
        self._made: BucketPort | None = None
        self._checks = Checks()
        self._remembered = RememberedUploads()
        self.forms = Forms(lambda: self.bucket, self._address, self._retry)

    @property
    def address(self) -> OriginAddress:
        """Where it is, and what content is called in there."""
        return self._address

    @property
    def bucket(self) -> BucketPort:
        """The bucket itself, one try a call; for those who look after what lies in it."""
        return self._bucket

    @property
    def _bucket(self) -> BucketPort:
        # Chosen in the thread that first needs it: looking for credentials may take seconds.
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> BucketPort:
        if self._source is None or credentials_found():
            return Bucket(self._address, self._meter)
        return PresignedBucket(self._address, self._source, self._meter)

    def close(self) -> None:
        """Close the connections; they are made anew if needed."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def check(self, stop: threading.Event | None = None) -> None:
        """Make sure that the bucket is there and lets us in.

        Raises:
            StoppedError: ``stop`` was set.
        """
        self._retry.run(self._bucket.check, stop or threading.Event())

    def registry(self, room: RoomId) -> OriginDocument:
        """Return the registry of a room that keeps it here."""
        key = self._address.registry_key(room)
        return OriginDocument(lambda: self._bucket, key, self._retry)

    def upload(
        self,
        manifest_id: ManifestId,
        manifest: Manifest,
        store: Store,
        progress: OnUpload,
        stop: threading.Event,
        metadata: Digest | None = None,
        *,
        begun: BegunUploads | None = None,
        encoded: bool = True,
        room: RoomId | None = None,
        serial: int = 0,
    ) -> UploadReport:
        """Send a model that the store holds; what is there already is not sent again.

        ``metadata`` is the object of its torrent, if it is public; ``begun`` keeps the ids of
        multipart uploads. Unless ``encoded``, text goes as it is, too. ``room`` is the one that the
        model was published to, as change ``serial`` of its registry or before: from then on nobody
        collects what the upload relies on (``lease.py``).

        Raises:
            LocalError: the store does not hold all of it.
            StoppedError: ``stop`` was set; the parts that were sent are not sent again next time.
        """
        tally = Tally(progress)
        sending = Sending(
            *(self._bucket, self._retry, self._checks, begun or self._remembered, tally, stop),
            lease=None if room is None else self._lease(room, serial, stop),
        )
        upload = Upload(sending, self._address, self.forms, store, encoded=encoded)
        return upload.run(manifest_id, manifest, metadata)

    def _lease(self, room: RoomId, serial: int, stop: threading.Event) -> PushLease:
        push_id = secrets.token_bytes(PUSH_ID_BYTES)
        return PushLease(
            *(self._bucket, self._address, room, push_id, serial),
            retry=self._retry,
            stop=stop,
            checks=self._checks,
        )

    def name_files(self, layout: TorrentLayout, stop: threading.Event) -> None:
        """Make a public model readable for torrent clients; see ``web_seed.py``.

        Raises:
            StoppedError: ``stop`` was set.
        """
        NamedCopies(self._bucket, self._address, self._retry).make(layout, stop)

    def fetch_object(self, digest: Digest, stop: threading.Event | None = None) -> bytes:
        """Return a manifest or outboard, verified.

        Raises:
            OriginMissingError: it isn't there.
            StoppedError: ``stop`` was set.
        """
        # The size is asked for first, so that a foreign object can't fill the memory.
        event = stop or threading.Event()
        key = self._address.object_key(digest)
        size = self._retry.run(lambda: self._bucket.known_size(key), event)
        if size > STORE_OBJECT_MAX_BYTES:
            raise OriginError(f"{key} at {self._address} has {size} bytes: not ours, remove it")
        data = b"".join(self._read(key, 0, size, event))
        if blake3(data).digest() != digest:
            raise OriginError(f"{key} at {self._address} is damaged: push the model again")
        return data

    def read(
        self, digest: Digest, offset: int, length: int, stop: threading.Event | None = None
    ) -> Generator[bytes, None, None]:
        """Yield ``length`` bytes at ``offset`` of a file, in pieces, not verified.

        A connection that breaks is taken up where it broke. Close the iterator to end early.

        Raises:
            StoppedError: ``stop`` was set.
        """
        key = self._address.file_key(digest)
        return self._read(key, offset, length, stop or threading.Event())

    def read_encoded(
        self, digest: Digest, offset: int, length: int, stop: threading.Event
    ) -> Generator[bytes, None, None]:
        """Yield bytes of a file's encoded form, as ``read`` does those of the file."""
        return self._read(self._address.encoded_key(digest), offset, length, stop)

    def _read(
        self, key: str, offset: int, length: int, stop: threading.Event
    ) -> Generator[bytes, None, None]:
        end = offset + length
        failures = 0
        failed_at = offset
        # What has arrived is not asked for again: egress is what costs.
        while offset < end:
            self._retry.await_turn(stop)
            try:
                with closing(self._bucket.get(key, offset, end - offset)) as pieces:
                    for piece in pieces:
                        stopping.check(stop)
                        offset += len(piece)
                        yield piece
            except OriginBusyError as error:
                # Who brings a block between failures is slow, not broken.
                failures = failures + 1 if offset - failed_at < BLOCK_BYTES else 1
                failed_at = offset
                self._retry.pause(failures, error, stop)
