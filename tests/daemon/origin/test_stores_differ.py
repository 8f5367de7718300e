"""What AWS, R2, MinIO and Ceph are documented to do differently, each done to us by a server.

A real store (moto) does the work; a proxy in front of it answers, now and then, as the documents of
another one say. Each case names its source. The real rclone and s3rver are in the other tests of
this folder, and docs/origins.md has the table of what they do.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from dreamer.daemon.origin.bucket import Bucket
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginRefusedError,
    OriginUnsupportedError,
)
from dreamer.daemon.origin.listing import ExpiryRule
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.tally import UploadReport
from dreamer.protocol.limits import ORIGIN_ATTEMPTS
from dreamer.protocol.origin import parse_origin
from dreamer.protocol.presign import Operation, UrlRequest
from dreamer.simulations.s3_proxy import Passed, S3Proxy, s3_proxy
from dreamer.tracker.room.presign import Signer

URL = "s3://team/p"
Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[[Passed], bool]


def error(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code>{more}</Error>".encode()


@pytest.fixture
def proxy(s3: Any, s3_url: str) -> Iterator[S3Proxy]:
    with s3_proxy(s3_url) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: S3Proxy, source: Any) -> Iterator[Origin]:
    with closing(Origin(URL, proxy.url, 0.001, source(URL, proxy.url))) as origin:
        yield origin


def upload(origin: Origin, node: Any) -> UploadReport:
    return origin.upload(
        *(node.manifest.id, node.manifest, node.store, lambda progress: None, threading.Event())
    )


def whole(origin: Origin, node: Any) -> bool:
    """Say whether the large file is at the origin as it is here."""
    large = max(node.manifest.files, key=lambda entry: entry.size_bytes)
    data = b"".join(origin.read(large.digest, 0, large.size_bytes))
    return data == node.store.file(large.digest).read_bytes()


def once(asked: Ask, answer: Answer) -> Callable[[Passed], Answer | None]:
    """Answer so to the first request of a kind."""
    left = [answer]
    return lambda request: left.pop() if left and asked(request) else None


def put(request: Passed) -> bool:
    return request.method == "PUT" and request.part is None


def part(request: Passed) -> bool:
    return request.part is not None


def complete(request: Passed) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def begin(request: Passed) -> bool:
    return request.method == "POST" and "uploads" in request.query


def head(request: Passed) -> bool:
    return request.method == "HEAD"


PASSING = {
    # docs.aws.amazon.com, S3 API "Error responses": SlowDown, 503, please reduce your request rate.
    "AWS SlowDown": (put, (503, {}, error("SlowDown"))),
    "AWS SlowDown to a part": (part, (503, {}, error("SlowDown"))),
    "AWS InternalError": (begin, (500, {}, error("InternalError"))),
    # The same page: RequestTimeout has status 400.
    "AWS RequestTimeout": (part, (400, {}, error("RequestTimeout"))),
    # API CompleteMultipartUpload: "a 200 OK response can contain either a success or an error".
    "AWS error within 200": (complete, (200, {}, error("InternalError"))),
    # API CompleteMultipartUpload, conditional writes: 409, start the upload again.
    "AWS 409 at completion": (complete, (409, {}, error("ConditionalRequestConflict"))),
    # Error responses: OperationAborted, 409, a conflicting operation is in progress.
    "AWS OperationAborted": (complete, (409, {}, error("OperationAborted"))),
    # API CompleteMultipartUpload: InvalidPart, 400, a part could not be found or its ETag differs.
    "AWS InvalidPart": (complete, (400, {}, error("InvalidPart"))),
    # API UploadPart: NoSuchUpload, 404, it might have been aborted or completed.
    "AWS NoSuchUpload": (part, (404, {}, error("NoSuchUpload"))),
    "AWS BadDigest": (put, (400, {}, error("BadDigest"))),
    "AWS BadDigest of a part": (part, (400, {}, error("BadDigest"))),
    # developers.cloudflare.com/r2, error codes: TooManyRequests 429 (one write a second to a key).
    "R2 TooManyRequests": (put, (429, {}, error("TooManyRequests"))),
    "R2 ServiceUnavailable": (head, (503, {}, b"")),
    # minio/minio cmd/api-errors.go: SlowDownWrite and XMinioServerNotInitialized are 503.
    "MinIO SlowDownWrite": (part, (503, {}, error("SlowDownWrite"))),
    "MinIO XMinioServerNotInitialized": (head, (503, {}, b"")),
    # cmd/api-errors.go: XAmzContentChecksumMismatch, 400.
    "MinIO ChecksumMismatch": (part, (400, {}, error("XAmzContentChecksumMismatch"))),
    # docs.ceph.com/en/latest/radosgw/s3, error codes: SlowDown 503; rgw's throttle adds no header.
    "Ceph SlowDown": (part, (503, {"Retry-After": "0"}, error("SlowDown"))),
    "Ceph BadDigest": (part, (400, {}, error("BadDigest"))),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_got_over(store: Origin, proxy: S3Proxy, pusher: Any, case: str) -> None:
    proxy.answer = once(*PASSING[case])
    upload(store, pusher)
    assert not proxy.answer(Passed("PUT", "", {"partNumber": ["1"]}, 0)), "it was never asked"
    assert whole(store, pusher)


LASTING = {
    # Error responses: AccessDenied 403, ExpiredToken 400, InvalidAccessKeyId 403.
    "AWS AccessDenied": (403, error("AccessDenied"), OriginRefusedError, 1),
    "AWS ExpiredToken": (400, error("ExpiredToken"), OriginRefusedError, 1),
    "AWS InvalidAccessKeyId": (403, error("InvalidAccessKeyId"), OriginRefusedError, 1),
    # R2's error codes: Unauthorized 401.
    "R2 Unauthorized": (401, error("Unauthorized"), OriginRefusedError, 1),
    # The clock: RequestTimeTooSkewed 403.
    "Ceph RequestTimeTooSkewed": (403, error("RequestTimeTooSkewed"), OriginRefusedError, 1),
    # MinIO on a full disk: XMinioStorageFull, 507.
    "MinIO StorageFull": (507, error("XMinioStorageFull"), OriginBusyError, ORIGIN_ATTEMPTS),
    # docs.ceph.com: QuotaExceeded 403.
    "Ceph QuotaExceeded": (403, error("QuotaExceeded"), OriginRefusedError, 1),
    "AWS NotImplemented": (501, error("NotImplemented"), OriginUnsupportedError, 3),
}


@pytest.mark.parametrize("case", LASTING)
def test_what_lasts_is_told_and_not_asked_for_ever(
    store: Origin, proxy: S3Proxy, pusher: Any, case: str
) -> None:
    status, said, kind, tries = LASTING[case]
    asked: list[str] = []

    def answer(request: Passed) -> Answer | None:
        if not put(request):
            return None
        asked.append(request.key)
        return status, {}, said

    proxy.answer = answer
    with pytest.raises(kind):
        upload(store, pusher)
    # A URL that was refused is asked for anew, once, if it was not made for this request.
    assert max(asked.count(key) for key in asked) <= tries + 1


class Region:
    """A bucket in eu-central-1, at a store that looks at the region in signatures."""

    def __init__(self, status: int, code: str, *, in_header: bool) -> None:
        self.status, self.code, self.in_header = status, code, in_header
        self.signed_for: list[str] = []

    def __call__(self, request: Passed) -> Answer | None:
        said = request.headers.get("Authorization", "") + "".join(
            request.query.get("X-Amz-Credential", [])
        )
        found = re.search(r"/([a-z0-9-]+)/s3/aws4_request", said)
        assert found is not None, said
        self.signed_for.append(found[1])
        if found[1] == "eu-central-1":
            return None
        headers = {"x-amz-bucket-region": "eu-central-1"} if self.in_header else {}
        more = "" if self.in_header else "<Region>eu-central-1</Region>"
        body = b"" if request.method == "HEAD" else error(self.code, more)
        return self.status, headers, body


@pytest.mark.parametrize(
    "region",
    [
        # S3 user guide, "Methods for accessing a bucket", and API HeadBucket: 301 with the region.
        Region(301, "PermanentRedirect", in_header=True),
        Region(307, "TemporaryRedirect", in_header=True),
        # Error responses: AuthorizationHeaderMalformed 400, "the region 'us-east-1' is wrong".
        Region(400, "AuthorizationHeaderMalformed", in_header=True),
    ],
    ids=["301", "307", "400"],
)
def test_bucket_in_another_region_is_signed_for_there(
    store: Origin, proxy: S3Proxy, pusher: Any, region: Region
) -> None:
    proxy.answer = region
    upload(store, pusher)
    proxy.answer = lambda request: None
    assert whole(store, pusher)
    # Found out by one request, or a few that were sent at the same time.
    assert region.signed_for.count("us-east-1") < 20
    assert region.signed_for[-1] == "eu-central-1"


def test_region_that_is_only_in_the_body_is_found(proxy: S3Proxy, signing: Any) -> None:
    """Of MinIO (cmd/auth-handler.go) and of presigned URLs at AWS: <Region> in a 400."""
    signs = signing(URL, proxy.url)
    proxy.answer = Region(400, "AuthorizationQueryParametersError", in_header=False)
    with closing(Origin(URL, proxy.url, 0.001, signs)) as origin:
        origin.bucket.put("p/files/" + "ab" * 32, b"data")
    assert [one.region for asked in signs.asked for one in asked] == [None, "eu-central-1"]


def test_redirection_that_names_no_region_says_what_to_set(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    proxy.answer = lambda request: (301, {}, error("PermanentRedirect"))
    with pytest.raises(OriginError, match="AWS_DEFAULT_REGION"):
        store.bucket.put("p/files/" + "ab" * 32, b"data")


def test_checksum_that_a_store_does_not_take_is_changed_once(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    """AWS directory buckets: Content-MD5 is not supported (501); CRC-32 of the whole is checked."""
    refused: list[str] = []
    wholes: list[str] = []

    def no_md5(request: Passed) -> Answer | None:
        names = {name.lower(): value for name, value in request.headers.items()}
        if request.method == "PUT" and "content-md5" in names:
            refused.append(request.key)
            return 501, {}, error("NotImplemented")
        if complete(request):
            wholes.append(names.get("x-amz-checksum-crc32", ""))
            assert names["x-amz-checksum-type"] == "FULL_OBJECT"
        elif request.method == "PUT":
            assert "x-amz-checksum-crc32" in names
        return None

    proxy.answer = no_md5
    upload(store, pusher)
    assert whole(store, pusher)
    # Those that were under way at the same time, and none after.
    assert 1 <= len(refused) <= 4
    large = max(pusher.manifest.files, key=lambda entry: entry.size_bytes)
    crc = zlib.crc32(pusher.store.file(large.digest).read_bytes())
    assert wholes == [base64.b64encode(crc.to_bytes(4, "big")).decode()]


def test_store_that_takes_no_checksum_is_sent_none_in_the_end(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    def none_of_them(request: Passed) -> Answer | None:
        names = [name.lower() for name in request.headers]
        checked = "content-md5" in names or any("checksum" in name for name in names)
        return (400, {}, error("InvalidArgument")) if checked else None

    proxy.answer = none_of_them
    upload(store, pusher)
    assert whole(store, pusher)


def test_nothing_is_sent_in_chunks_with_trailers(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    """What newer SDKs do by default, and R2, Ceph before Squid and old MinIO answer with 501."""
    upload(store, pusher)
    for request in proxy.passed:
        names = {name.lower() for name in request.headers}
        assert not names & {"x-amz-trailer", "x-amz-sdk-checksum-algorithm", "transfer-encoding"}
        assert "aws-chunked" not in request.headers.get("Content-Encoding", "")


def test_etags_that_are_no_md5_cost_one_send_more(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    """S3 API, Object: encrypted by SSE-KMS or SSE-C, ETags are not the MD5 of the data."""
    shown: list[str] = []

    def encrypted(request: Passed) -> Answer | None:
        if request.method != "PUT" or request.part is not None:
            return None
        shown.append(request.key)
        return 200, {"ETag": f'"{hashlib.sha256(request.key.encode()).hexdigest()[:32]}"'}, b""

    proxy.answer = encrypted
    for number in range(3):
        data = bytes([number]) * 10
        md5 = hashlib.md5(data).hexdigest()
        key = f"p/files/{number:064x}"
        store._checks.run(lambda by, key=key, data=data: store.bucket.put(key, data, by), md5)
    assert len(shown) == 4


def test_uploads_that_may_not_be_listed_are_just_begun(
    store: Origin, proxy: S3Proxy, pusher: Any
) -> None:
    """A policy without s3:ListBucketMultipartUploads: 403; R2 has it, MinIO lists by exact key."""
    proxy.answer = lambda request: (
        (403, {}, error("AccessDenied"))
        if request.method == "GET" and "uploads" in request.query
        else None
    )
    upload(store, pusher)
    assert whole(store, pusher)


def test_parts_are_listed_page_by_page(store: Origin, proxy: S3Proxy) -> None:
    """API ListParts: at most 1000 a page, with IsTruncated and NextPartNumberMarker."""
    pages = {None: (1, 2, "true"), "2": (3, 4, "true"), "4": (5, 6, "false")}

    def listed(request: Passed) -> Answer | None:
        if request.method != "GET" or "uploadId" not in request.query:
            return None
        marker = request.query.get("part-number-marker", [None])[0]
        *numbers, more = pages[marker]
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>2026-11-21T00:00:00.000Z"
            f"</LastModified><ETag>&quot;{number}&quot;</ETag><Size>5</Size></Part>"
            for number in numbers
        )
        body = (
            f"<ListPartsResult><Bucket>team</Bucket><IsTruncated>{more}</IsTruncated>"
            f"<NextPartNumberMarker>{numbers[-1]}</NextPartNumberMarker>{parts}</ListPartsResult>"
        )
        return 200, {"Content-Type": "application/xml"}, body.encode()

    proxy.answer = listed
    found = store.bucket.parts("p/files/" + "ab" * 32, "some-upload")
    assert [(one.number, one.size_bytes) for one in found] == [(n, 5) for n in range(1, 7)]
    assert found[0].etag == '"1"'


ADDRESSES = [
    # AWS: virtual hosts; names with dots don't fit the certificate, and go by path.
    ("s3://team/p", None, "https://team.s3.amazonaws.com/p/files/"),
    ("s3://te.am/p", None, "https://s3.amazonaws.com/te.am/p/files/"),
    # R2: https://ACCOUNT.r2.cloudflarestorage.com/BUCKET.
    (
        "s3://team/p",
        "https://a.r2.cloudflarestorage.com",
        "https://a.r2.cloudflarestorage.com/team/p/",
    ),
    # MinIO and Ceph: by path unless MINIO_DOMAIN or rgw_dns_name is set.
    ("s3://team/p", "http://minio:9000", "http://minio:9000/team/p/files/"),
    ("s3://team/p", "https://ceph/rgw", "https://ceph/rgw/team/p/files/"),
]


@pytest.mark.parametrize(("url", "endpoint", "beginning"), ADDRESSES)
def test_stores_are_addressed_as_they_expect(
    url: str, endpoint: str | None, beginning: str
) -> None:
    signer = Signer(parse_origin(url, endpoint))
    (signed,) = signer.sign((UrlRequest(Operation.GET, "p/files/" + "ab" * 32),), 60).urls
    assert signed.startswith(beginning)


def test_region_that_is_asked_for_is_signed_for() -> None:
    signer = Signer(parse_origin("s3://team/p", None))
    request = UrlRequest(Operation.HEAD, "p/files/" + "ab" * 32, region="eu-central-1")
    (signed,) = signer.sign((request,), 60).urls
    assert "%2Feu-central-1%2Fs3%2Faws4_request" in signed
    assert signed.startswith("https://team.s3.eu-central-1.amazonaws.com/")


def test_lifecycle_rules_of_others_stay(s3: Any, s3_url: str) -> None:
    theirs = {
        "ID": "logs",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 3},
    }
    configuration = {"Rules": [theirs]}
    s3.put_bucket_lifecycle_configuration(Bucket="team", LifecycleConfiguration=configuration)
    rule = ExpiryRule("day", "p/temporary/1/", 1)
    with closing(Bucket(parse_origin(URL, s3_url))) as bucket:
        bucket.put_expiry_rule(rule)
        bucket.put_expiry_rule(ExpiryRule("week", "p/temporary/7/", 7, uploads_too=False))
        bucket.put_expiry_rule(rule)
        assert sorted(bucket.expiry_rules(), key=lambda one: one.days) == [
            rule,
            ExpiryRule("week", "p/temporary/7/", 7, uploads_too=False),
        ]
        for name in ("day", "week", "week"):
            bucket.drop_expiry_rule(name)
        assert bucket.expiry_rules() == ()
    left = s3.get_bucket_lifecycle_configuration(Bucket="team")["Rules"]
    assert [one["ID"] for one in left] == ["logs"]
    s3.delete_bucket_lifecycle(Bucket="team")


def test_bucket_without_rules_has_none(s3: Any, s3_url: str) -> None:
    with closing(Bucket(parse_origin(URL, s3_url))) as bucket:
        assert bucket.expiry_rules() == ()
        bucket.drop_expiry_rule("day")


@pytest.mark.interop
@pytest.mark.parametrize("url_of", ["rclone_url", "s3rver_url"])
def test_store_without_lifecycle_rules_says_so(request: Any, url_of: str) -> None:
    url = request.getfixturevalue(url_of)
    with (
        closing(Bucket(parse_origin(URL, url))) as bucket,
        pytest.raises(OriginUnsupportedError),
    ):
        bucket.put_expiry_rule(ExpiryRule("day", "p/temporary/1/", 1))


def test_keys_are_listed_and_removed(store_url: str) -> None:
    names = [f"p/files/{number:064x}" for number in range(5)]
    with closing(Bucket(parse_origin(URL, store_url))) as bucket:
        for number, key in enumerate(names):
            bucket.put(key, b"x" * number)
        bucket.put("p/objects/" + "ab" * 32, b"other")
        found = list(bucket.listed("p/files/"))
        assert [(one.key, one.size_bytes) for one in found] == list(
            zip(names, range(5), strict=True)
        )
        assert all(one.modified_at > 1.7e9 for one in found)
        bucket.delete_all(names[:4])
        bucket.delete_all(names[:1])
        assert [one.key for one in bucket.listed("p/files/")] == names[4:]
