"""Collections with S3 servers that others wrote; one of them ignores preconditions (rclone)."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dreamer.daemon.origin.faults import OriginUnsupportedError
from dreamer.daemon.origin.garbage import Collector
from dreamer.daemon.origin.lifetimes import Lifetimes, rules_for
from dreamer.daemon.origin.origin import Origin
from dreamer.protocol.errors import ConflictError, RemoteError
from dreamer.protocol.garbage import collect as collect_module
from dreamer.protocol.garbage.collect import Collection, Order
from dreamer.protocol.garbage.keys import collection_key, temporary_prefix
from dreamer.protocol.garbage.lease import Mark
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.garbage.report import Report, Why
from dreamer.protocol.ids import Digest, RoomId

URL = "s3://team/some/prefix"
ROOM = RoomId(b"R" * 32)
DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "COLLECTION_SETTLE_S", 0.0)


@pytest.fixture
def kept(store_url: str) -> Iterator[Origin]:
    origin = Origin(URL, store_url, retry_base_s=0.001)
    yield origin
    origin.close()


def keys(origin: Origin) -> set[str]:
    return {one.key for one in origin.bucket.listed("some/prefix/")}


def collect(origin: Origin, *models: Any, days: float = 2.0, apply: bool = True) -> Report:
    """Collect as if it were some days later, when leases have lapsed and content is old."""
    names = RoomNames(9, dict.fromkeys(models))
    order = Order(
        *(ROOM, origin.address, secrets.token_bytes(16), time.time() + days * DAY_S),
        *(DAY_S, apply),
    )
    return Collector(origin, lambda: names, threading.Event()).run(Collection(order))


def push(origin: Origin, node: Any, **options: Any) -> None:
    manifest = node.manifest
    origin.upload(
        *(manifest.id, manifest, node.store, lambda progress: None, threading.Event()), **options
    )


def test_what_was_pushed_stays_and_goes_when_it_is_named_no_more(kept: Origin, pusher: Any) -> None:
    push(kept, pusher, room=ROOM, serial=5)
    pushed = keys(kept)
    litter = kept.address.file_key(Digest(b"x" * 32))
    kept.bucket.put(litter, b"litter")
    # At once, its lease still holds all of it, named or not.
    assert collect(kept, days=0).removed.keys == 0
    told = collect(kept, pusher.manifest.id, apply=False)
    assert told.garbage[Why.UNNAMED].keys == 1
    collect(kept, pusher.manifest.id)
    assert keys(kept) == {*pushed, collection_key(kept.address)}
    assert collect(kept).removed.keys == len(pushed) - 1
    # The newest lease stays, for other rooms to see, and the mark, which has the serial.
    assert len(keys(kept)) == 2


def test_what_a_push_finds_removed_in_the_midst_is_sent_again(kept: Origin, pusher: Any) -> None:
    push(kept, pusher)
    whole = keys(kept)
    bucket: Any = kept.bucket
    mark = Mark(ROOM, b"s" * 16, time.time(), 1, open=True)
    bucket.put(collection_key(kept.address), mark.encode())
    size = bucket.size
    waiting = []

    def ends_when_it_is_waited_for(key: str) -> int | None:
        # The second time that the push looks for the mark, it has found everything there.
        waiting.append(key == collection_key(kept.address))
        if waiting.count(True) == 2 and waiting[-1]:
            bucket.delete_all(whole)
            bucket.delete_all([key])
        found: int | None = size(key)
        return found

    bucket.size = ends_when_it_is_waited_for
    push(kept, pusher, room=ROOM)
    assert whole < keys(kept)


def test_the_mark_of_another_collection_is_respected(kept: Origin) -> None:
    litter = kept.address.file_key(Digest(b"x" * 32))
    kept.bucket.put(litter, b"litter")
    mark = Mark(ROOM, b"s" * 16, time.time() + 2 * DAY_S, 1, open=True)
    kept.bucket.put(collection_key(kept.address), mark.encode())
    with pytest.raises(ConflictError):
        collect(kept)
    assert litter in keys(kept)


def test_temporary_uploads_have_a_place_of_their_own(
    kept: Origin, pusher: Any, store_url: str
) -> None:
    expires_at = int(time.time()) + 3600
    below = temporary_prefix(kept.address, expires_at)
    temporary = Origin(f"s3://team/{below}", store_url, retry_base_s=0.001)
    push(temporary, pusher)
    sent = keys(kept)
    assert sent
    assert all(key.startswith(f"{below}/") for key in sent)
    assert temporary.fetch_object(Digest(pusher.manifest.id))
    assert collect(kept, days=0).removed.keys == 0
    assert collect(kept, days=1).garbage[Why.EXPIRED].keys == len(sent)
    assert not keys(kept) & sent
    temporary.close()


def test_uploads_in_parts_that_were_abandoned_are_ended(kept: Origin) -> None:
    bucket: Any = kept.bucket
    key = kept.address.file_key(Digest(b"u" * 32))
    upload = bucket.begin(key)
    bucket.put_part(key, upload, 1, b"part")
    try:
        known = list(bucket.open_uploads("some/prefix/"))
    except OriginUnsupportedError:
        # A store that can't tell of uploads under way keeps them.
        assert collect(kept, days=8).removed.keys == 0
        return
    assert collect(kept, days=8).removed.keys == len(known)
    assert list(bucket.open_uploads("some/prefix/")) == []


def test_without_credentials_a_push_has_a_lease_and_a_collection_says_what_it_needs(
    s3: Any, s3_url: str, signing: Any, pusher: Any
) -> None:
    signed = Origin(URL, s3_url, retry_base_s=0.001, source=signing(URL, s3_url))
    push(signed, pusher, room=ROOM, serial=5)
    found = s3.list_objects_v2(Bucket="team", Prefix=f"some/prefix/pushes/{ROOM.hex()}/")
    assert found["KeyCount"] == 1
    with pytest.raises(RemoteError, match="credentials"):
        collect(signed)
    assert not Lifetimes().ensure(ROOM, signed)
    signed.close()


def test_rules_are_made_once_where_the_store_has_them(s3: Any, s3_url: str) -> None:
    origin = Origin(URL, s3_url, retry_base_s=0.001)
    lifetimes = Lifetimes()
    assert lifetimes.ensure(ROOM, origin)
    bucket: Any = origin.bucket
    made = bucket.expiry_rules()
    assert sorted(made, key=lambda rule: rule.days) == list(rules_for(ROOM, origin.address))
    assert [rule.prefix for rule in rules_for(ROOM, origin.address)] == [
        f"some/prefix/temporary/{days}/" for days in (1, 3, 7, 30)
    ]
    bucket.drop_expiry_rule(made[0].name)
    # Not asked again by the same node; by another it is put right.
    assert lifetimes.ensure(ROOM, origin)
    assert len(bucket.expiry_rules()) == 3
    assert Lifetimes().ensure(ROOM, origin)
    assert len(bucket.expiry_rules()) == 4
    s3.delete_bucket_lifecycle(Bucket="team")
    origin.close()


@pytest.mark.interop
@pytest.mark.parametrize("url_of", ["rclone_url", "s3rver_url"])
def test_a_store_without_rules_has_to_be_swept(request: Any, url_of: str) -> None:
    origin = Origin(URL, request.getfixturevalue(url_of), retry_base_s=0.001)
    assert not Lifetimes().ensure(ROOM, origin)
    origin.close()
