"""A tracker sweeps the origins that it signs for: a real S3 server, a real registry."""

import asyncio
import time
from random import Random

import pytest
from blake3 import blake3

from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError
from dreamer.protocol.garbage.keys import collection_key, lease_key, temporary_prefix
from dreamer.protocol.garbage.lease import Lease, parse_mark
from dreamer.protocol.ids import Digest
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.registry.changes import Author, Publish, Withdraw, apply
from dreamer.protocol.registry.document import Document
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry.verify import verify
from dreamer.protocol.rooms.membership import chain_to_json
from dreamer.tracker.room.sweep import Sweeper, SweepMode, SweepSettings, read_sweep

DAY_S = 86_400
BUCKET = "swept"
DEADLINE_S = 20.0


class Room:
    """One room's bucket and registry, ten days after everything was written."""

    def __init__(self, insider, documents, s3, address):
        self.id = insider.room_id
        self.address = address
        self.documents = documents
        self.s3 = s3
        self.author = Author(insider.key, chain_to_json(insider.chain))
        self.verified = verify(Document(self.id), member_verifier(), time.time())

    def change(self, *changes):
        now = time.time()
        made = apply(self.verified, changes, self.author, now)
        self.verified = verify(made, member_verifier(), now)
        return made.encode()

    def publish(self, made, *more):
        entry = ModelEntry(made.id, "model", made.size_bytes, len(made.files), "files")
        body = self.change(Publish(entry), *more)
        found = self.documents.registry(self.id)
        self.documents.write_registry(self.id, body, [found.etag] if found else None)

    def put(self, key, data=b"x"):
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        return key

    def store(self, data):
        """Put a model there; return its manifest and keys."""
        digest = Digest(blake3(data).digest())
        outboard = Digest(blake3(data + b"o").digest())
        made = Manifest((FileEntry("a.bin", len(data), digest, (digest,)),), outboard, 1)
        keys = {
            self.put(self.address.file_key(digest), data),
            self.put(self.address.object_key(outboard)),
            self.put(self.address.object_key(Digest(made.id)), manifests.encode(made)),
        }
        return made, keys

    def there(self):
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=self.address.prefix)
        return {each["Key"] for each in found.get("Contents", [])}

    def sweeper(self, mode=SweepMode.GARBAGE, interval_s=3600.0):
        settings = SweepSettings(mode, interval_s)
        later = time.time() + 10 * DAY_S
        origins = {self.id: self.address}
        return Sweeper(self.documents, origins, settings, Random(1), clock=lambda: later)

    def sweep(self, mode=SweepMode.GARBAGE):
        return self.sweeper(mode).sweep(self.id, mode)


@pytest.fixture
def room(insider_of, documents, s3, endpoint, request):
    prefix = f"p{abs(hash(request.node.name))}"
    address = OriginAddress(BUCKET, prefix, endpoint)
    return Room(insider_of(1), documents, s3, address)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch, descriptions_read_once):
    monkeypatch.setattr("dreamer.protocol.garbage.collect.COLLECTION_SETTLE_S", 0.0)


def test_by_default_only_what_has_expired_goes(room):
    over = room.put(f"{temporary_prefix(room.address, int(time.time()) + DAY_S)}/files/{'ab' * 32}")
    lasting = room.put(
        f"{temporary_prefix(room.address, int(time.time()) + 20 * DAY_S)}/files/{'ab' * 32}"
    )
    _, garbage = room.store(b"unnamed")
    assert room.sweep(SweepMode.TEMPORARY).removed.keys == 1
    assert room.there() == {lasting, *garbage}
    assert over not in room.there()


def test_what_no_model_has_goes_where_the_owner_asked_for_it(room):
    made, kept = room.store(b"kept")
    room.publish(made)
    gone, lost = room.store(b"gone")
    room.publish(gone)
    room.publish(made, Withdraw(gone.id))
    upload = room.s3.create_multipart_upload(
        Bucket=BUCKET, Key=room.address.file_key(Digest(b"u" * 32))
    )["UploadId"]
    report = room.sweep()
    assert room.there() == {*kept, collection_key(room.address)}
    assert report.removed.keys == len(lost) + 1
    listed = room.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert upload not in [each["UploadId"] for each in listed]
    mark = room.s3.get_object(Bucket=BUCKET, Key=collection_key(room.address))["Body"].read()
    assert not parse_mark(mark).open
    assert parse_mark(mark).serial == room.verified.last_serial


def test_a_mirror_that_lags_behind_removes_nothing(room):
    made, _ = room.store(b"old")
    room.publish(made)
    _, keys = room.store(b"pushed since, at the first tracker")
    lease = Lease((), serial=room.verified.last_serial + 1)
    room.put(lease_key(room.address, room.id, b"p" * 16), lease.encode())
    with pytest.raises(ForbiddenError, match="old"):
        room.sweep()
    assert keys <= room.there()


def test_the_registry_in_the_bucket_counts_where_there_is_one(room):
    made, keys = room.store(b"named there")
    entry = ModelEntry(made.id, "model", made.size_bytes, 1, "files")
    room.put(room.address.registry_key(room.id), room.change(Publish(entry)))
    room.store(b"garbage")
    assert room.sweep().removed.keys == 3
    assert keys <= room.there()


def test_without_a_registry_or_a_bucket_nothing_is_removed(room, monkeypatch):
    _, keys = room.store(b"whose?")
    with pytest.raises(ForbiddenError, match="no registry"):
        room.sweep()
    assert room.there() == keys
    room.address = OriginAddress("nowhere", "x", room.address.endpoint_url)
    with pytest.raises(RemoteError, match="404"):
        room.sweep()


async def test_it_sweeps_by_itself_and_stops_at_once(room, caplog):
    over = room.put(f"{temporary_prefix(room.address, int(time.time()))}/files/{'ab' * 32}")
    sweeper = room.sweeper(SweepMode.TEMPORARY, interval_s=0.01)
    running = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(DEADLINE_S):
        while over in await asyncio.to_thread(room.there):
            assert not running.done()
    running.cancel()
    await asyncio.wait([running], timeout=DEADLINE_S)
    assert running.cancelled()


async def test_where_it_is_off_or_there_is_no_origin_nothing_runs(room, documents):
    await room.sweeper(SweepMode.OFF).run()
    await Sweeper(documents, {}, SweepSettings(), Random(1)).run()


def test_settings_are_read_and_mistakes_named():
    assert read_sweep("", "") == SweepSettings()
    assert read_sweep("garbage", "60") == SweepSettings(SweepMode.GARBAGE, 60.0)
    with pytest.raises(InputError, match="off, temporary, garbage"):
        read_sweep("all", "")
    for bad in ("0", "-1", "soon", "9" * 20):
        with pytest.raises(InputError, match="sweep_interval_s"):
            read_sweep("", bad)
