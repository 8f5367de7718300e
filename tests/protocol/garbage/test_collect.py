"""What a collection removes and what it never does; its orders of steps are tried elsewhere."""

from dataclasses import replace

import pytest
from blake3 import blake3

from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, RemoteError
from dreamer.protocol.garbage import collect as collect_module
from dreamer.protocol.garbage.collect import Collection, Order
from dreamer.protocol.garbage.commands import (
    AbortUpload,
    Deleted,
    DeleteKeys,
    ListKeys,
    ListUploads,
    OpenUpload,
    Pause,
    ReadClock,
    ReadKey,
    ReadManifest,
    ReadNames,
    StoredKey,
    WriteKey,
)
from dreamer.protocol.garbage.driving import drive
from dreamer.protocol.garbage.keys import collection_key, lease_key, temporary_prefix
from dreamer.protocol.garbage.lease import Lease, Mark, parse_lease, parse_mark
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.garbage.report import Why
from dreamer.protocol.ids import Digest, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import (
    COLLECTION_ROUND_S,
    COLLECTION_STALE_S,
    LEASE_TTL_S,
    UPLOAD_ABANDONED_S,
)

NOW = 1_800_000_000.0
DAY_S = 86_400.0
ROOM, OTHER = RoomId(b"R" * 32), RoomId(b"O" * 32)
LAB = OriginAddress("bucket", "lab", None)
ME, SOMEBODY = b"m" * 16, b"s" * 16


def model(data: bytes) -> Manifest:
    digest = Digest(blake3(data).digest())
    entry = FileEntry("a.bin", len(data), digest, (digest,))
    return Manifest((entry,), Digest(blake3(b"outboard of " + data).digest()), 1)


class Bucket:
    """A bucket in memory that answers a collection's commands; time stands still."""

    def __init__(self):
        self.keys = {}
        self.names = RoomNames(serial=7)
        self.uploads = []
        self.clock = 0.0
        self.seconds_each = 0.0
        self.refuse = ()
        self.rounds = 0
        self._pages = {}

    def seed(self, key, data=b"x", days_old=30.0):
        self.keys[key] = (data, NOW - days_old * DAY_S)
        return key

    def file(self, data, days_old=30.0):
        return self.seed(LAB.file_key(Digest(blake3(data).digest())), data, days_old)

    def store(self, made, data, days_old=30.0):
        """Put a model there; return its keys."""
        return [
            self.file(data, days_old),
            self.seed(LAB.object_key(made.outboard), b"o", days_old),
            self.seed(LAB.object_key(Digest(made.id)), manifests.encode(made), days_old),
        ]

    def name(self, *models):
        self.names = replace(self.names, models={one.id: None for one in models})

    def collect(self, apply=True, grace_s=DAY_S, **order):
        steps = Collection(Order(ROOM, LAB, ME, NOW, grace_s, apply, **order)).run()
        return drive(steps, self.answer)

    def answer(self, command):
        match command:
            case ReadNames():
                return self.names
            case ReadKey(key):
                return (
                    (self.keys[key][0], f'"{hash(self.keys[key][0])}"')
                    if key in self.keys
                    else None
                )
            case ReadManifest(digest):
                found = self.keys.get(LAB.object_key(digest))
                return found[0] if found else None
            case ListKeys(prefix):
                # Two keys a page, so that there are pages.
                pages = self._pages.setdefault(prefix, self._paged(prefix))
                page = pages.pop(0)
                if not page:
                    del self._pages[prefix]
                return page
            case ListUploads(prefix):
                return tuple(one for one in self.uploads if one.key.startswith(prefix))
            case ReadClock():
                return self.clock
            case Pause(seconds):
                self.clock += seconds
                return None
            case _:
                return self._change(command)

    def _change(self, command):
        match command:
            case WriteKey(key, data, _):
                self.rounds += parse_mark(data).open
                self.seed(key, data, days_old=0)
                return self.answer(ReadKey(key))[1]
            case DeleteKeys(keys, until):
                return self._delete(keys, until)
            case AbortUpload(upload):
                self.uploads.remove(upload)
                return True

    def _paged(self, prefix):
        found = [
            StoredKey(key, len(data), at)
            for key, (data, at) in sorted(self.keys.items())
            if key.startswith(prefix)
        ]
        return [tuple(found[at : at + 2]) for at in range(0, len(found), 2)] + [()]

    def _delete(self, keys, until):
        removed = set()
        for key in keys:
            if self.clock >= until:
                break
            self.clock += self.seconds_each
            if key not in self.refuse:
                del self.keys[key]
                removed.add(key)
        tried = set(keys) & set(self.refuse)
        return Deleted(frozenset(removed), frozenset(tried))


@pytest.fixture
def bucket():
    return Bucket()


def test_named_content_stays_and_the_rest_goes(bucket):
    kept, gone = model(b"kept"), model(b"gone")
    stays = bucket.store(kept, b"kept")
    bucket.store(gone, b"gone")
    encoded = bucket.seed(f"{bucket.file(b'gone')}.zst")
    bucket.name(kept)
    report = bucket.collect()
    assert set(bucket.keys) == {*stays, collection_key(LAB)}
    assert report.removed.keys == 4 == report.garbage[Why.UNNAMED].keys
    assert encoded not in bucket.keys


def test_dry_run_tells_the_same_and_writes_nothing(bucket):
    bucket.file(b"gone")
    before = dict(bucket.keys)
    told = bucket.collect(apply=False)
    assert bucket.keys == before
    assert told.garbage[Why.UNNAMED].size_bytes == 4
    assert told.removed.keys == 0
    assert bucket.collect().garbage == told.garbage


def test_what_is_young_or_leased_stays(bucket):
    young, leased = bucket.file(b"young", days_old=0.5), bucket.file(b"leased")
    lease = Lease((Digest(blake3(b"leased").digest()),), serial=5)
    bucket.seed(lease_key(LAB, ROOM, ME), lease.encode(), days_old=0)
    report = bucket.collect()
    assert {young, leased} <= bucket.keys.keys()
    assert (report.young.keys, report.held.keys, report.removed.keys) == (1, 1, 0)


def test_lapsed_leases_hold_nothing_and_go_but_for_the_newest(bucket):
    data = bucket.file(b"once leased")
    lease = Lease((Digest(blake3(b"once leased").digest()),), serial=5)
    lapsed = LEASE_TTL_S / DAY_S + 1
    older = bucket.seed(lease_key(LAB, ROOM, ME), lease.encode(), lapsed + 1)
    newest = bucket.seed(lease_key(LAB, ROOM, SOMEBODY), lease.encode(), lapsed)
    report = bucket.collect()
    assert data not in bucket.keys
    assert older not in bucket.keys
    assert newest in bucket.keys
    assert report.garbage[Why.PUSH].keys == 1


def test_keys_that_are_not_ours_are_told_and_left(bucket):
    aliens = [
        bucket.seed("lab/files/notes.txt"),
        bucket.seed("lab/temporary/readme"),
        bucket.seed("lab/objects/x/y"),
    ]
    others = [bucket.seed("labs/files/" + "ab" * 32), bucket.seed("other/thing")]
    report = bucket.collect(grace_s=0)
    assert {*aliens, *others} <= bucket.keys.keys()
    assert sorted(report.foreign) == sorted(aliens)
    assert report.foreign_keys == 3


def test_temporary_uploads_go_when_their_time_is_over(bucket):
    over = bucket.seed(f"{temporary_prefix(LAB, int(NOW) - 3600)}/files/{'ab' * 32}", days_old=0)
    lasting = bucket.seed(f"{temporary_prefix(LAB, int(NOW) + 3600)}/files/{'ab' * 32}")
    assert bucket.collect().garbage[Why.EXPIRED].keys == 1
    assert over not in bucket.keys
    assert lasting in bucket.keys


def test_a_sweep_takes_what_has_expired_alone_and_needs_no_registry(bucket):
    bucket.names = None
    over = bucket.seed(f"{temporary_prefix(LAB, int(NOW) - 3600)}/files/{'ab' * 32}")
    garbage = bucket.file(b"unnamed")
    bucket.uploads = [
        OpenUpload(f"{temporary_prefix(LAB, int(NOW) - 3600)}/files/{'cd' * 32}", "1", NOW),
        OpenUpload(LAB.file_key(Digest(b"x" * 32)), "2", 0.0),
    ]
    report = bucket.collect(only_expired=True)
    assert over not in bucket.keys
    assert garbage in bucket.keys
    assert collection_key(LAB) not in bucket.keys
    assert [one.upload_id for one in bucket.uploads] == ["2"]
    assert report.removed.keys == 2


def test_copies_by_name_go_with_their_model(bucket):
    kept, gone = model(b"kept"), model(b"gone")
    bucket.store(kept, b"kept")
    bucket.name(kept)
    stays = bucket.seed(LAB.named_key(f"dreamer-{kept.id.hex()[:8]}", "a.bin"))
    goes = bucket.seed(LAB.named_key(f"dreamer-{gone.id.hex()[:8]}", "a.bin"))
    bucket.collect()
    assert stays in bucket.keys
    assert goes not in bucket.keys


def test_uploads_that_nobody_completed_are_ended_unless_leased(bucket):
    held = Digest(blake3(b"held").digest())
    bucket.seed(lease_key(LAB, ROOM, ME), Lease((held,), 1).encode(), days_old=0)
    old = NOW - UPLOAD_ABANDONED_S - 1
    bucket.uploads = [
        OpenUpload(LAB.file_key(Digest(b"a" * 32)), "abandoned", old),
        OpenUpload(LAB.file_key(Digest(b"b" * 32)), "young", NOW),
        OpenUpload(LAB.file_key(held), "leased", old),
        OpenUpload("lab/files/other", "not ours", old),
    ]
    assert bucket.collect().garbage[Why.ABANDONED].keys == 1
    assert [one.upload_id for one in bucket.uploads] == ["young", "leased", "not ours"]


def test_no_file_goes_while_a_model_has_no_manifest_there(bucket):
    file, manifest = bucket.file(b"whose?"), bucket.seed(LAB.object_key(Digest(b"z" * 32)))
    lost = model(b"lost")
    bucket.name(lost)
    report = bucket.collect()
    assert file in bucket.keys
    assert manifest not in bucket.keys
    assert report.undescribed == (lost.id,)
    assert report.kept_undescribed.keys == 1


def test_without_a_registry_or_by_one_that_cannot_be_read_nothing_goes(bucket):
    bucket.file(b"everything")
    for names, said in (
        (None, "no registry"),
        (RoomNames(serial=0), "no registry"),
        (RoomNames(serial=9, unreadable=("model 0123abcd",)), "can't be read"),
    ):
        bucket.names = names
        with pytest.raises(ForbiddenError, match=said):
            bucket.collect()
    assert len(bucket.keys) == 1


def test_an_older_registry_than_a_push_or_collection_knew_is_not_gone_by(bucket):
    garbage = bucket.file(b"perhaps named since")
    lease = bucket.seed(lease_key(LAB, ROOM, ME), Lease((), serial=8).encode(), days_old=20)
    with pytest.raises(ForbiddenError, match="old"):
        bucket.collect()
    del bucket.keys[lease]
    bucket.seed(collection_key(LAB), Mark(ROOM, SOMEBODY, NOW - 9, 8, open=False).encode())
    with pytest.raises(ForbiddenError, match="old"):
        bucket.collect()
    bucket.names = replace(bucket.names, serial=8)
    bucket.collect()
    assert garbage not in bucket.keys
    assert parse_mark(bucket.keys[collection_key(LAB)][0]).serial == 8


@pytest.mark.parametrize(
    "key", [lease_key(LAB, OTHER, ME), LAB.registry_key(OTHER), collection_key(LAB)]
)
def test_a_prefix_that_another_room_uses_too_is_left_alone(bucket, key):
    bucket.file(b"theirs, perhaps")
    mark = Mark(OTHER, SOMEBODY, NOW - DAY_S, 1, open=False).encode()
    bucket.seed(key, mark if key == collection_key(LAB) else Lease((), 1).encode())
    with pytest.raises(ForbiddenError, match="prefix of its own"):
        bucket.collect()
    assert len(bucket.keys) == 2


def test_one_collection_at_a_time_but_a_killed_one_is_passed_over(bucket):
    garbage = bucket.file(b"garbage")
    mark = collection_key(LAB)
    bucket.seed(mark, Mark(ROOM, SOMEBODY, NOW - 60, 1, open=True).encode(), days_old=0)
    with pytest.raises(ConflictError, match="under way"):
        bucket.collect()
    assert bucket.collect(apply=False).garbage
    bucket.seed(mark, Mark(ROOM, SOMEBODY, NOW - COLLECTION_STALE_S - 1, 1, open=True).encode())
    bucket.collect()
    assert garbage not in bucket.keys
    assert not parse_mark(bucket.keys[mark][0]).open


def test_who_is_overwritten_by_another_collector_removes_nothing(bucket):
    garbage = bucket.file(b"garbage")
    answer = bucket.answer

    def overwritten(command):
        said = answer(command)
        if isinstance(command, WriteKey) and parse_mark(command.data).open:
            other = Mark(ROOM, SOMEBODY, NOW, 7, open=True)
            bucket.seed(command.key, other.encode(), days_old=0)
        return said

    bucket.answer = overwritten
    with pytest.raises(ConflictError, match="just begun"):
        bucket.collect()
    assert garbage in bucket.keys


def test_a_long_collection_looks_again_after_each_round(bucket, monkeypatch):
    monkeypatch.setattr(collect_module, "GARBAGE_BATCH_KEYS", 4)
    for number in range(20):
        bucket.file(b"%d" % number)
    bucket.seconds_each = COLLECTION_ROUND_S / 7
    assert bucket.collect().removed.keys == 20
    assert bucket.rounds == 3


def test_what_is_named_after_the_listing_is_not_removed(bucket):
    late = model(b"late")
    keys = bucket.store(late, b"late")
    answer = bucket.answer

    def published_meanwhile(command):
        if isinstance(command, WriteKey):
            bucket.name(late)
        return answer(command)

    bucket.answer = published_meanwhile
    assert bucket.collect().removed.keys == 0
    assert set(keys) <= bucket.keys.keys()


def test_failed_keys_are_told_and_a_failing_origin_leaves_no_mark(bucket):
    stuck = bucket.file(b"stuck")
    bucket.refuse = (stuck,)
    assert bucket.collect().failed == [stuck]
    answer = bucket.answer

    def failing(command):
        if isinstance(command, DeleteKeys):
            raise RemoteError("the origin is away")
        return answer(command)

    bucket.answer = failing
    with pytest.raises(RemoteError, match="away"):
        bucket.collect()
    assert not parse_mark(bucket.keys[collection_key(LAB)][0]).open


def test_leases_and_marks_survive_their_form_and_others_are_refused():
    lease = Lease((Digest(b"a" * 32), Digest(b"b" * 32)), 12)
    mark = Mark(ROOM, ME, NOW, 12, open=True)
    assert parse_lease(lease.encode()) == lease
    assert parse_mark(mark.encode()) == mark
    assert len(mark.encode()) == len(replace(mark, serial=10**9, open=False).encode())
    with pytest.raises(InputError, match="update Dreamer"):
        parse_lease(mark.encode())
    for damaged in (b"", b"{}", lease.encode().replace(b"62", b"zz"), lease.encode()[:-9]):
        with pytest.raises(InputError):
            parse_lease(damaged)


def test_a_registry_too_slow_for_any_round_ends_the_collection_for_now(bucket):
    garbage = bucket.file(b"garbage")
    answer = bucket.answer

    def slow(command):
        if isinstance(command, ReadNames):
            bucket.clock += 2 * COLLECTION_ROUND_S
        return answer(command)

    bucket.answer = slow
    report = bucket.collect()
    assert (report.unfinished, report.removed.keys) == (True, 0)
    assert garbage in bucket.keys
    assert not parse_mark(bucket.keys[collection_key(LAB)][0]).open
