"""An origin by URLs that a tracker's signer made: what stores take, and what the node minds."""

from __future__ import annotations

import logging
import re
import time
import traceback
from contextlib import closing
from typing import Any

import pytest
import urllib3

from dreamer.daemon.origin.faults import OriginBusyError, OriginError, OriginRefusedError
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.presigned import PresignedBucket
from dreamer.daemon.origin.urls import Urls, check_url
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.ids import Digest
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest
from dreamer.protocol.tracker_limits import (
    PRESIGN_PARTS_AHEAD,
    PRESIGN_URLS_KEPT,
    PRESIGNED_URL_REUSE,
)

ORIGIN = "s3://team/some/prefix"
KEY = "some/prefix/files/" + "ab" * 32
OTHER = "some/prefix/files/" + "cd" * 32
PART_BYTES = 5 * 2**20
DEADLINE_S = 60.0


def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    with urllib3.PoolManager() as http:
        answer = http.request(
            method, url, body=body, headers=headers, redirect=False, retries=False
        )
        return answer.status, answer.data


def until_refused(url: str) -> int:
    """Wait until a URL has expired; return how the store says so."""
    deadline = time.monotonic() + DEADLINE_S
    while (status := ask("GET", url)[0]) == 200:
        assert time.monotonic() < deadline
    return status


@pytest.fixture
def bucket(store_url: str, signing: Any) -> Any:
    with closing(
        PresignedBucket(parse_origin(ORIGIN, store_url), signing(ORIGIN, store_url))
    ) as it:
        yield it


def test_key_is_written_and_read_whole_and_in_part(bucket: PresignedBucket) -> None:
    bucket.check()
    assert bucket.size(KEY) is None
    bucket.put(KEY, b"hello world")
    assert bucket.size(KEY) == 11
    assert b"".join(bucket.get(KEY, 0, 11)) == b"hello world"
    assert b"".join(bucket.get(KEY, 3, 4)) == b"lo w"


def test_key_is_made_of_three_parts(bucket: PresignedBucket) -> None:
    parts = [bytes([number]) * PART_BYTES for number in (1, 2)] + [b"tail"]
    upload = bucket.begin(KEY)
    etags = [bucket.put_part(KEY, upload, number, data) for number, data in enumerate(parts, 1)]
    bucket.complete(KEY, upload, etags)
    assert b"".join(bucket.get(KEY, 0, 2 * PART_BYTES + 4)) == b"".join(parts)


def test_whole_model_goes_there_and_back(
    store_url: str, signing: Any, pusher: Any, stop: Any
) -> None:
    source = signing(ORIGIN, store_url)
    with closing(Origin(ORIGIN, store_url, 0.001, source)) as origin:
        manifest = pusher.manifest
        origin.upload(manifest.id, manifest, pusher.store, lambda progress: None, stop)
        assert origin.fetch_object(Digest(manifest.id)) == manifests.encode(manifest)
        large = max(manifest.files, key=lambda entry: entry.size_bytes)
        data = b"".join(origin.read(large.digest, 5, large.size_bytes - 5))
        assert data == pusher.store.file(large.digest).read_bytes()[5:]


@pytest.mark.parametrize(
    "url_of", ["s3_url", pytest.param("rclone_url", marks=pytest.mark.interop)]
)
def test_upload_is_taken_up_after_the_parts_that_are_listed(
    request: Any, s3: Any, signing: Any, url_of: str
) -> None:
    made = signing(ORIGIN, request.getfixturevalue(url_of))
    with closing(PresignedBucket(made.address, made)) as bucket:
        upload = bucket.begin(KEY)
        etags = [bucket.put_part(KEY, upload, number, b"x" * PART_BYTES) for number in (1, 2)]
        status, listed = ask("GET", made.url(Operation.LIST_PARTS, KEY, upload))
        numbers = re.findall(r"<PartNumber>(\d+)</PartNumber>", listed.decode())
        assert (status, numbers) == (200, ["1", "2"])
        if url_of == "s3_url":
            # rclone lists all of them, always.
            _, rest = ask("GET", made.url(Operation.LIST_PARTS, KEY, upload, 1))
            assert re.findall(r"<PartNumber>(\d+)</PartNumber>", rest.decode()) == ["2"]
        etags.append(bucket.put_part(KEY, upload, 3, b"tail"))
        bucket.complete(KEY, upload, etags)
        assert bucket.size(KEY) == 2 * PART_BYTES + 4


@pytest.mark.interop
def test_url_is_good_for_what_was_signed_and_nothing_else(rclone_url: str, signing: Any) -> None:
    made = signing(ORIGIN, rclone_url)
    with closing(PresignedBucket(made.address, made)) as bucket:
        bucket.put(KEY, b"data")
        bucket.put(OTHER, b"other")
    url = made.url(Operation.GET, KEY)
    assert ask("GET", url) == (200, b"data")
    last = "1" if url[-1] == "0" else "0"
    for bad in (url[:-1] + last, url.replace(KEY, OTHER), url.replace("=900", "=90000")):
        assert ask("GET", bad)[0] == 403
    for method in ("PUT", "DELETE", "POST"):
        assert ask(method, url, b"x")[0] == 403
    # rclone's word for "not signed at all".
    assert ask("GET", url.partition("?")[0])[0] == 400
    assert ask("GET", made.url(Operation.GET, OTHER)) == (200, b"other")


@pytest.mark.interop
@pytest.mark.parametrize(("url_of", "status"), [("s3rver_url", 403), ("rclone_url", 400)])
def test_expired_url_is_refused_by_the_store_and_asked_for_anew(
    request: Any, signing: Any, url_of: str, status: int
) -> None:
    made = signing(ORIGIN, request.getfixturevalue(url_of))
    with closing(PresignedBucket(made.address, made)) as bucket:
        bucket.put(KEY, b"data")
        # The node believes that the URL is good for much longer: its clock may be wrong, too.
        made.ttl_s = 1
        assert b"".join(bucket.get(KEY, 0, 4)) == b"data"
        made.asked.clear()
        old = made.url(Operation.GET, KEY)
        assert until_refused(old) == status
        assert len(made.asked) == 1
        made.ttl_s = 900
        assert b"".join(bucket.get(KEY, 0, 4)) == b"data"
        assert len(made.asked) == 2


@pytest.mark.interop
def test_damaged_upload_is_refused_by_the_store(rclone_url: str, signing: Any) -> None:
    made = signing(ORIGIN, rclone_url)
    url, digest = made.url(Operation.PUT, KEY), "AAAAAAAAAAAAAAAAAAAAAA=="
    status, said = ask("PUT", url, b"data", **{"Content-MD5": digest})
    assert (status, b"BadDigest" in said) == (400, True)


# What the node minds


def test_node_sends_no_authorization_and_follows_nobody_elsewhere(
    misbehaviour: Any, signing: Any
) -> None:
    misbehaviour.script = ["307"]
    misbehaviour.content = b"data"
    source = signing(ORIGIN, misbehaviour.url)
    with closing(PresignedBucket(source.address, source)) as bucket:
        with pytest.raises(OriginError, match="not followed"):
            list(bucket.get(KEY, 0, 4))
        assert len(misbehaviour.requests) == 1
        assert b"".join(bucket.get(KEY, 0, 4)) == b"data"
    assert not any("Authorization" in headers for headers in misbehaviour.headers)


def test_new_url_that_is_refused_too_is_no_matter_of_time(misbehaviour: Any, signing: Any) -> None:
    misbehaviour.content = b"data"
    source = signing(ORIGIN, misbehaviour.url)
    with closing(PresignedBucket(source.address, source)) as bucket:
        assert b"".join(bucket.get(KEY, 0, 4)) == b"data"
        misbehaviour.script = ["403", "403"]
        with pytest.raises(OriginRefusedError, match="owner of the tracker"):
            list(bucket.get(KEY, 0, 4))
    assert len(source.asked) == 2
    assert len(misbehaviour.requests) == 3


@pytest.mark.parametrize("word", ["403", "500", "404", "302", "reset", "cut:1", "away"])
def test_no_url_stands_in_an_error_or_a_log(
    misbehaviour: Any, signing: Any, caplog: Any, word: str
) -> None:
    caplog.set_level(logging.DEBUG)
    misbehaviour.content, misbehaviour.script = b"data", [word, word]
    source = signing(ORIGIN, "http://127.0.0.1:1" if word == "away" else misbehaviour.url)
    with (
        closing(PresignedBucket(source.address, source)) as bucket,
        pytest.raises(OriginError) as caught,
    ):
        list(bucket.get(KEY, 0, 4))
    logging.getLogger(__name__).error("failed", exc_info=caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "X-Amz" not in shown
    assert repr(source.sign([UrlRequest(Operation.GET, KEY)])).count("X-Amz") == 0


def test_completion_that_fails_after_its_200_is_no_success(signing: Any, misbehaviour: Any) -> None:
    source = signing(ORIGIN, misbehaviour.url)
    misbehaviour.content = b"<Error><Code>InternalError</Code></Error>"
    misbehaviour.script = ["all"]
    with (
        closing(PresignedBucket(source.address, source)) as bucket,
        pytest.raises(OriginBusyError, match="InternalError"),
    ):
        bucket.complete(KEY, "upload", ['"etag"'])


# The URLs


@pytest.mark.parametrize(
    ("endpoint", "url", "good"),
    [
        ("http://h:9000", f"http://h:9000/team/{KEY}?s", True),
        ("http://h:80/base/", f"http://h/base/team/{KEY}?s", True),
        (None, f"https://team.s3.amazonaws.com/{KEY}?s", True),
        (None, f"https://team.s3.eu-central-1.amazonaws.com/{KEY}?s", True),
        (None, f"https://s3.eu-central-1.amazonaws.com/team/{KEY}?s", True),
        (None, f"https://team.s3.cn-north-1.amazonaws.com.cn/{KEY}?s", True),
        ("http://h:9000", f"http://h:9001/team/{KEY}?s", False),
        ("http://h:9000", f"https://h:9000/team/{KEY}?s", False),
        ("http://h:9000", f"http://h:9000/steam/{KEY}?s", False),
        ("http://h:9000", f"http://h:9000/team/{OTHER}?s", False),
        ("http://h:9000", f"http://169.254.169.254/team/{KEY}?s", False),
        ("http://h:9000", f"http://u:p@h:9000/team/{KEY}?s", False),
        ("http://h:9000", "http://[", False),
        ("http://h:9000", f"file:///team/{KEY}", False),
        (None, f"http://team.s3.amazonaws.com/{KEY}?s", False),
        (None, f"https://evil.s3.amazonaws.com/{KEY}?s", False),
        (None, f"https://evil.s3.amazonaws.com/team/{KEY}?s", False),
        (None, f"https://sqs.amazonaws.com/team/{KEY}?s", False),
        (None, f"https://team.s3.evil.com/{KEY}?s", False),
    ],
)
def test_url_for_another_place_than_the_rooms_origin_is_never_used(
    endpoint: str | None, url: str, good: bool
) -> None:
    address = parse_origin(ORIGIN, endpoint)
    request = UrlRequest(Operation.GET, KEY)
    if good:
        check_url(address, request, url)
        return
    with pytest.raises(OriginError, match="another place"):
        check_url(address, request, url)


class Counting:
    """Signs nothing, but counts."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def sign(self, requests: Any) -> SignedUrls:
        self.asked.append(len(requests))
        number = len(self.asked)
        return SignedUrls(tuple(f"http://h/team/{each.key}?{number}" for each in requests), 100)


def counted() -> tuple[Counting, list[float], Urls]:
    source, now = Counting(), [0.0]
    return source, now, Urls(parse_origin(ORIGIN, "http://h"), source, lambda: now[0])


def test_url_is_used_again_while_it_is_fresh() -> None:
    source, now, urls = counted()
    request = UrlRequest(Operation.GET, KEY)
    first = urls.url(request)
    assert first.fresh
    assert urls.url(request).url == first.url
    assert not urls.url(request).fresh
    now[0] = 100 * PRESIGNED_URL_REUSE
    assert urls.url(request).url != first.url
    assert source.asked == [1, 1]


def test_parts_of_an_upload_are_asked_for_several_at_a_time() -> None:
    source, _, urls = counted()
    for number in range(1, 2 * PRESIGN_PARTS_AHEAD + 1):
        urls.url(UrlRequest(Operation.PUT_PART, KEY, "upload", number))
    urls.url(UrlRequest(Operation.PUT_PART, KEY, "upload", 10_000))
    assert source.asked == [PRESIGN_PARTS_AHEAD, PRESIGN_PARTS_AHEAD, 1]


def test_urls_that_are_kept_are_bounded() -> None:
    _, _, urls = counted()
    for number in range(PRESIGN_URLS_KEPT + 10):
        urls.url(UrlRequest(Operation.GET, f"{number}"))
    assert len(urls._kept) == PRESIGN_URLS_KEPT


def test_refused_url_is_forgotten_unless_there_is_a_newer_one() -> None:
    source, now, urls = counted()
    request = UrlRequest(Operation.GET, KEY)
    old = urls.url(request)
    now[0] = 100.0
    newer = urls.url(request)
    urls.forget(request, old)
    assert urls.url(request).url == newer.url
    urls.forget(request, newer)
    assert urls.url(request).fresh
    assert len(source.asked) == 3


def test_node_with_credentials_of_its_own_asks_nobody_for_urls(
    s3: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = Counting()
    with closing(Origin(ORIGIN, s3_url, 0.001, source)) as origin:
        origin.check()
    assert source.asked == []
