"""The one key that is rewritten: what the conditions of its writes do at real stores."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from dreamer.daemon.origin.document import OriginUnconditionalError
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginConflictError,
    OriginError,
    OriginMissingError,
    OriginNoBucketError,
    OriginUnchangedError,
)
from dreamer.daemon.origin.origin import Origin
from dreamer.protocol.errors import StoppedError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.presign import Operation
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES

ROOM = RoomId(b"R" * 32)
BUCKET = "team"
KEY = f"some/prefix/rooms/{ROOM.hex()}/manifest.json"


@pytest.fixture
def document(origin):
    return origin.registry(ROOM)


def stored(s3: Any) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()


def test_document_is_made_read_and_replaced_under_its_etag(document, s3, stop) -> None:
    assert document.read(stop) is None
    first = document.write(b'{"n":1}', None, stop)
    assert (stored(s3), document.read(stop)) == (b'{"n":1}', (b'{"n":1}', first))
    second = document.write(b'{"n":2}', first, stop)
    assert (stored(s3), document.read(stop)) == (b'{"n":2}', (b'{"n":2}', second))


def test_stale_write_is_a_conflict_and_changes_nothing(document, s3, stop) -> None:
    first = document.write(b'{"n":1}', None, stop)
    document.write(b'{"n":2}', first, stop)
    for etag in (first, None):
        with pytest.raises(OriginConflictError):
            document.write(b'{"n":3}', etag, stop)
    assert stored(s3) == b'{"n":2}'


def test_document_that_was_removed_is_a_conflict_to_who_would_replace_it(
    document, s3, stop
) -> None:
    etag = document.write(b'{"n":1}', None, stop)
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    with pytest.raises(OriginConflictError):
        document.write(b'{"n":2}', etag, stop)
    assert document.read(stop) is None


def test_unchanged_document_is_not_sent_again(misbehaviour, source, stop) -> None:
    place = (f"s3://{BUCKET}/p", misbehaviour.url)
    origin = Origin(*place, retry_base_s=0.001, source=source(*place))
    document = origin.registry(ROOM)
    misbehaviour.content, misbehaviour.etag = b'{"n":1}', '"one"'
    misbehaviour.script = ["all", "304", "304"]
    for _ in range(3):
        assert document.read(stop) == (b'{"n":1}', '"one"')
    asked = [headers.get("If-None-Match") for headers in misbehaviour.headers]
    assert asked == [None, '"one"', '"one"']
    origin.close()


def test_bucket_that_is_gone_is_not_taken_for_an_empty_one(s3_url, s3, source, stop) -> None:
    place = ("s3://no-such-bucket/p", s3_url)
    origin = Origin(*place, retry_base_s=0.001, source=source(*place))
    document = origin.registry(ROOM)
    with pytest.raises(OriginNoBucketError, match="bucket"):
        document.read(stop)
    with pytest.raises(OriginNoBucketError):
        document.write(b"{}", None, stop)
    origin.close()


class Flaky:
    """A bucket in memory, and what goes wrong with each write to come."""

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.value: tuple[bytes, str] | None = None
        self.writes = 0

    def read_whole(self, key: str, etag: str | None) -> tuple[bytes, str]:
        if self.value is None:
            raise OriginMissingError("no such key")
        return self.value

    def replace(self, key: str, data: bytes, etag: str | None) -> str:
        self.writes += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "not reached":
            raise OriginBusyError("can't be reached")
        if etag != (self.value[1] if self.value else None):
            raise OriginConflictError("412")
        self.value = (data, f'"{self.writes}"')
        if fault == "overtaken":
            self.value = (data + b"!", '"other"')
        if fault:
            raise OriginBusyError("the answer was lost")
        return self.value[1]


@pytest.fixture
def flaky(monkeypatch):
    def make(*faults: str):
        bucket = Flaky(*faults)
        monkeypatch.setattr(Origin, "_make", lambda self: bucket)
        return bucket, Origin(f"s3://{BUCKET}", retry_base_s=0.001).registry(ROOM)

    return make


def test_write_whose_answer_was_lost_is_known_as_ours(flaky, stop) -> None:
    bucket, document = flaky("answer lost")
    assert document.write(b'{"n":1}', None, stop) == '"1"'
    assert (bucket.value, bucket.writes) == ((b'{"n":1}', '"1"'), 2)


@pytest.mark.parametrize(
    ("etag", "answer", "error"),
    [
        ('"a"', OriginMissingError("NoSuchKey"), OriginConflictError),
        (None, OriginMissingError("a proxy's own 404"), OriginMissingError),
        (None, OriginUnchangedError("304, of an older MinIO"), OriginConflictError),
    ],
)
def test_stores_that_say_no_in_other_words_are_understood(flaky, stop, etag, answer, error) -> None:
    bucket, document = flaky()

    def refuse(key: str, data: bytes, expected: str | None) -> str:
        raise answer

    bucket.replace = refuse
    with pytest.raises(error) as raised:
        document.write(b"{}", etag, stop)
    assert type(raised.value) is error


def test_write_that_never_arrived_is_made_again(flaky, stop) -> None:
    bucket, document = flaky("not reached", "not reached")
    assert document.write(b'{"n":1}', None, stop) == '"3"'
    assert bucket.writes == 3


def test_write_that_was_overtaken_after_its_answer_was_lost_is_a_conflict(flaky, stop) -> None:
    bucket, document = flaky("overtaken")
    with pytest.raises(OriginConflictError):
        document.write(b'{"n":1}', None, stop)
    assert bucket.value == (b'{"n":1}!', '"other"')


@pytest.mark.parametrize(("length", "error"), [(3, OriginBusyError), (None, OriginError)])
def test_half_a_document_or_one_too_large_is_refused(
    misbehaviour, source, stop, length, error
) -> None:
    place = (f"s3://{BUCKET}/p", misbehaviour.url)
    origin = Origin(*place, retry_base_s=0.001, source=source(*place))
    misbehaviour.content = b"{}" * 10 if length else b" " * (REGISTRY_MAX_BYTES + 1)
    misbehaviour.etag = '"one"'
    misbehaviour.script = [f"all:{length}" if length else "all"] * 4
    with pytest.raises(error):
        origin.registry(ROOM).read(stop)
    origin.close()


def test_who_stops_waits_for_no_store(misbehaviour, source, stop) -> None:
    place = (f"s3://{BUCKET}/p", misbehaviour.url)
    origin = Origin(*place, source=source(*place))
    stop.set()
    with pytest.raises(StoppedError):
        origin.registry(ROOM).read(stop)
    origin.close()


# The proof


def test_store_that_honours_conditions_is_told_and_nothing_stays_there(
    s3_url, s3, monkeypatch, stop
) -> None:
    origin = Origin(f"s3://{BUCKET}/some/prefix", s3_url, retry_base_s=0.001)
    origin.registry(ROOM).prove(stop)
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    origin.close()


@pytest.mark.interop
def test_rclone_ignores_conditions_and_is_found_out(rclone_url, tmp_path, stop) -> None:
    origin = Origin(f"s3://{BUCKET}/some/prefix", rclone_url, retry_base_s=0.001)
    with pytest.raises(OriginUnconditionalError, match=r"If-None-Match: \*"):
        origin.registry(ROOM).prove(stop)
    left = [path for path in (tmp_path / "rclone" / "data").rglob("*") if path.is_file()]
    assert left == []
    origin.close()


@pytest.mark.interop
def test_s3rver_ignores_conditions_and_is_found_out(s3rver_url, stop) -> None:
    origin = Origin(f"s3://{BUCKET}/some/prefix", s3rver_url, retry_base_s=0.001)
    with pytest.raises(OriginUnconditionalError):
        origin.registry(ROOM).prove(stop)
    origin.close()


class Halfhearted(Flaky):
    """A store that honours only one of the conditions, or refuses every one."""

    def __init__(self, honours: str) -> None:
        super().__init__()
        self.honours = honours
        self.deleted: list[str] = []

    def replace(self, key: str, data: bytes, etag: str | None) -> str:
        kind = "none" if etag is None else "match"
        wrong = etag != (self.value[1] if self.value else None)
        if self.honours == "nothing at all" and etag is not None:
            raise OriginConflictError("412")
        if wrong and self.honours in (kind, "nothing at all"):
            raise OriginConflictError("412")
        self.writes += 1
        self.value = (data, f'"{self.writes}"')
        return self.value[1]

    def delete_all(self, keys: list[str]) -> None:
        self.deleted += keys


@pytest.mark.parametrize(
    ("honours", "error", "said"),
    [
        ("none", OriginUnconditionalError, "If-Match"),
        ("match", OriginUnconditionalError, "If-None-Match"),
        ("nothing at all", OriginConflictError, "412"),
    ],
)
def test_store_that_honours_half_of_it_is_found_out(
    monkeypatch, stop, honours, error, said
) -> None:
    bucket = Halfhearted(honours)
    monkeypatch.setattr(Origin, "_make", lambda self: bucket)
    with pytest.raises(error, match=said):
        Origin(f"s3://{BUCKET}", retry_base_s=0.001).registry(ROOM).prove(stop)
    (probe,) = bucket.deleted
    assert probe.startswith(f"rooms/{ROOM.hex()}/probe-")


# Signed URLs


def put(url: str, **headers: str) -> int:
    return urllib3.request("PUT", url, body=b"{}", headers=headers).status


@pytest.mark.interop
def test_signed_write_without_its_condition_is_refused(rclone_url, signing) -> None:
    signer = signing(f"s3://{BUCKET}/some/prefix", rclone_url)
    first = signer.url(Operation.WRITE_REGISTRY, KEY)
    assert put(first) == 403
    assert put(first, **{"If-Match": '"x"'}) == 403
    assert put(first, **{"If-None-Match": "*"}) == 200
    url = signer.url(Operation.WRITE_REGISTRY, KEY, etag='"abc"')
    assert put(url) == put(url, **{"If-Match": '"other"'}) == 403
    assert put(url, **{"If-Match": '"abc"', "If-None-Match": "*"}) == 200
    # For one method and one key.
    assert urllib3.request("GET", url, headers={"If-Match": '"abc"'}).status == 403
    elsewhere = url.replace("manifest.json", "manifest.jsox")
    assert put(elsewhere, **{"If-Match": '"abc"'}) == 403


def test_signed_write_lasts_no_longer_than_it_must(signing, s3_url) -> None:
    url = signing(f"s3://{BUCKET}/some/prefix", s3_url).url(Operation.WRITE_REGISTRY, KEY)
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-SignedHeaders"] == ["host;if-none-match"]


def test_signed_urls_of_the_registry_are_never_logged(s3, s3_url, signing, stop, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    place = (f"s3://{BUCKET}/some/prefix", s3_url)
    origin = Origin(*place, retry_base_s=0.001, source=signing(*place))
    document = origin.registry(ROOM)
    document.write(json.dumps({"n": 1}).encode(), None, stop)
    assert document.read(stop) is not None
    with pytest.raises(OriginConflictError) as raised:
        document.write(b"{}", None, stop)
    # The store runs in this process and logs what it is asked for: that is its own affair.
    logged = [str(one.getMessage()) for one in caplog.records if one.name != "werkzeug"]
    assert "X-Amz" not in " ".join(logged) + str(raised.value) + repr(raised.value.__cause__)
    origin.close()
