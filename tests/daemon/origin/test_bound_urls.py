"""URLs bound to what will be sent: to one key, one method, one checksum and one length.

rclone's server checks signatures as AWS does, so it is what refuses here.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import urllib3

from dreamer.daemon.origin.faults import OriginError, OriginRefusedError
from dreamer.daemon.origin.listing import ExpiryRule
from dreamer.daemon.origin.presigned import PresignedBucket
from dreamer.daemon.origin.urls import check_url
from dreamer.protocol.checksum import Algorithm, checksum
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.presign import Operation, UrlRequest

ORIGIN = "s3://team/some/prefix"
KEY = "some/prefix/files/" + "ab" * 32
OTHER = "some/prefix/files/" + "ab" * 32 + ".zst"
DATA = b"what was signed for"
PART = b"p" * (5 * 2**20)


def ask(method: str, url: str, body: bytes, **headers: str) -> int:
    with urllib3.PoolManager() as http:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = http.request(method, url, body=body, headers=sent, redirect=False, retries=False)
        return answer.status


def md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data).digest()).decode()


@pytest.fixture
def signs(rclone_url: str, signing: Any) -> Any:
    return signing(ORIGIN, rclone_url)


def bound(signs: Any, operation: Operation, data: bytes, *more: Any) -> str:
    said = {"checksum": str(checksum(Algorithm.MD5, data)), "length": len(data)}
    url: str = signs.url(operation, KEY, *more, **said)
    return url


@pytest.mark.interop
def test_url_for_a_body_takes_that_body_and_no_other(signs: Any) -> None:
    url = bound(signs, Operation.PUT, DATA)
    assert "content-length%3Bcontent-md5%3Bhost" in url
    longer, other = DATA + b"!", DATA[:-1] + b"!"
    # Another body, one as long, the same with the checksum of another, or none.
    assert ask("PUT", url, longer, Content_MD5=md5(longer)) == 403
    assert ask("PUT", url, other, Content_MD5=md5(other)) == 403
    assert ask("PUT", url, other, Content_MD5=md5(DATA)) == 400
    assert ask("PUT", url, DATA) in (400, 403)
    assert ask("GET", url, b"", Content_MD5=md5(DATA)) == 403
    assert ask("PUT", url.replace("/files/ab", "/files/ac"), DATA, Content_MD5=md5(DATA)) == 403
    assert ask("PUT", url.replace(KEY, OTHER), DATA, Content_MD5=md5(DATA)) == 403
    assert ask("PUT", url, DATA, Content_MD5=md5(DATA)) == 200


@pytest.mark.interop
def test_url_for_a_part_takes_that_part_and_no_other(signs: Any) -> None:
    with closing(PresignedBucket(signs.address, signs)) as bucket:
        upload = bucket.begin(KEY)
        url = bound(signs, Operation.PUT_PART, PART, upload, 1)
        for change in (("partNumber=1", "partNumber=2"), (f"uploadId={upload}", "uploadId=x")):
            assert change[0] in url
            assert ask("PUT", url.replace(*change), PART, Content_MD5=md5(PART)) == 403
        assert ask("PUT", url, PART[:-1], Content_MD5=md5(PART[:-1])) == 403
        assert ask("PUT", url, PART, Content_MD5=md5(PART)) == 200
        listing = signs.url(Operation.LIST_PARTS, KEY, upload)
        assert ask("DELETE", listing, b"") == 403
        assert [one.number for one in bucket.parts(KEY, upload)] == [1]
        assert bucket.uploads(KEY) == [upload]
        # What begins with the key is another's.
        assert bucket.uploads(OTHER) == []
        ending = signs.url(Operation.ABORT_UPLOAD, KEY, upload)
        assert ask("POST", ending, b"") == 403
        bucket.abort(KEY, upload)
        assert bucket.uploads(KEY) == []


@pytest.mark.interop
def test_list_of_uploads_is_of_one_key(signs: Any) -> None:
    # Where no upload was ever begun, rclone says 404.
    with closing(PresignedBucket(signs.address, signs)) as bucket:
        bucket.begin(KEY)
    url = signs.url(Operation.LIST_UPLOADS, KEY)
    assert ask("GET", url, b"") == 200
    assert ask("GET", url.replace("prefix=some", "prefix=none"), b"") == 403
    assert ask("GET", url.replace("uploads=&", ""), b"") == 403
    assert ask("DELETE", url, b"") == 403


def at_aws(path: str, query: str = "") -> str:
    return f"https://team.s3.eu-central-1.amazonaws.com/{path}?{query}X-Amz-Signature=s"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:9", f"http://h:9/team?uploads&prefix={OTHER}&X-Amz-Signature=s"),
        ("http://h:9", "http://h:9/team?uploads&X-Amz-Signature=s"),
        ("http://h:9", f"http://h:9/other?uploads&prefix={KEY}"),
        ("http://h:9", f"http://h:9/team/{KEY}?uploads&prefix={KEY}"),
        ("http://h:9", f"http://h:9/team?uploads&prefix={KEY}&prefix={OTHER}"),
        (None, at_aws("", f"uploads&prefix={OTHER}&")),
        (None, at_aws("elsewhere", f"uploads&prefix={KEY}&")),
        (None, f"https://other.s3.amazonaws.com/?uploads&prefix={KEY}"),
    ],
)
def test_list_of_other_uploads_is_not_asked_for(endpoint: str | None, url: str) -> None:
    request = UrlRequest(Operation.LIST_UPLOADS, KEY)
    with pytest.raises(OriginError, match="another place"):
        check_url(parse_origin(ORIGIN, endpoint), request, url)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:9", f"http://h:9/team?uploads&prefix={KEY}&X-Amz-Signature=s"),
        (None, at_aws("", f"uploads&prefix={KEY}&")),
        (None, f"https://s3.eu-central-1.amazonaws.com/team?uploads&prefix={KEY}"),
    ],
)
def test_list_of_own_uploads_is_asked_for(endpoint: str | None, url: str) -> None:
    check_url(parse_origin(ORIGIN, endpoint), UrlRequest(Operation.LIST_UPLOADS, KEY), url)


REFUSED: list[Callable[[PresignedBucket], object]] = [
    lambda bucket: list(bucket.listed("some")),
    lambda bucket: bucket.delete_all([KEY]),
    lambda bucket: bucket.expiry_rules(),
    lambda bucket: bucket.put_expiry_rule(ExpiryRule("a", "b", 1)),
    lambda bucket: bucket.drop_expiry_rule("a"),
]


@pytest.mark.parametrize("call", REFUSED)
def test_what_is_of_the_whole_bucket_takes_credentials(call: Any) -> None:
    class Nobody:
        def sign(self, requests: Any) -> Any:
            raise AssertionError("nothing is asked")

    with (
        closing(PresignedBucket(parse_origin(ORIGIN, "http://h"), Nobody())) as bucket,
        pytest.raises(OriginRefusedError, match="credentials"),
    ):
        call(bucket)
