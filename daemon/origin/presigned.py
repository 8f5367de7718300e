"""The S3 calls that an origin needs, by URLs that somebody else signed: no credentials here.

Blocking; thread-safe. urllib3's errors may hold the URL they are about, and a presigned one is
secret while it lasts: so none of them is kept as a cause, and none of its warnings is logged.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from xml.sax.saxutils import escape, unescape

import urllib3
from urllib3.exceptions import HTTPError

from dreamer.daemon.origin.body import pieces
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginMissingError,
    OriginRefusedError,
    fault,
)
from dreamer.daemon.origin.ranges import asked_range, check_range, declared_size
from dreamer.daemon.origin.retry_after import retry_after_s
from dreamer.daemon.origin.urls import Urls, UrlSource
from dreamer.protocol.ids import DIGEST_BYTES, Digest
from dreamer.protocol.limits import (
    ORIGIN_ANSWER_MAX_BYTES,
    ORIGIN_BODY_TIMEOUT_S,
    ORIGIN_CONNECT_TIMEOUT_S,
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_READ_TIMEOUT_S,
)
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.presign import Operation, UrlRequest

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_UPLOAD_ID = re.compile(r"<UploadId>([^<]+)</UploadId>")
# S3 answers 403 to a URL that has expired, and rclone's server 400; codes differ even more.
_PERHAPS_EXPIRED = (400, 401, 403)
_S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_REFUSED_HELP = (
    "have the owner of the tracker, which signs for it, check its S3 credentials, its clock, and "
    "that the bucket's policy allows ListBucket, GetObject and PutObject"
)

# Its warnings about odd answers quote the URL.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class PresignedBucket:
    """One bucket, reached through urllib3 with URLs that ``source`` signs."""

    def __init__(self, address: OriginAddress, source: UrlSource) -> None:
        self._address = address
        self._urls = Urls(address, source)
        self._http = urllib3.PoolManager(maxsize=ORIGIN_PARALLEL_MAX_REQUESTS)

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def check(self) -> None:
        """Ask whether the bucket is there and open to us."""
        # No URL is signed for a bucket as a whole; that it lacks a key tells as much.
        request = UrlRequest(Operation.GET, self._address.object_key(Digest(bytes(DIGEST_BYTES))))
        with self._sent(f"origin {self._address}", request) as response:
            status, code = response.status, _code(_text(response))
        if (status, code) != (404, "NoSuchKey"):
            self._judge(f"origin {self._address}", status, code)

    def known_size(self, key: str) -> int:
        """Return the size of a key in bytes; raises OriginMissingError if it isn't there."""
        what = self._name(key)
        with self._answer(what, UrlRequest(Operation.HEAD, key)) as response:
            size = declared_size(response.headers.get("Content-Length", ""))
        if size is None:
            raise OriginError(f"{what}: its server doesn't say how large it is")
        return size

    def size(self, key: str) -> int | None:
        """Return the size of a key in bytes, None if it isn't there."""
        try:
            return self.known_size(key)
        except OriginMissingError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Write a small key; the origin checks that the bytes arrived unharmed."""
        with self._answer(self._name(key), UrlRequest(Operation.PUT, key), _md5(data), data):
            pass

    def copy(self, key: str, target: str) -> None:
        """Refuse: only content named by its hash is ever signed."""
        raise OriginRefusedError(
            f"{self._name(target)} can't be written with signed URLs: push from a node that has "
            "S3 credentials, or without [torrent] origin_is_public"
        )

    def begin(self, key: str) -> str:
        """Begin a multipart upload; return its id."""
        what = self._name(key)
        with self._answer(what, UrlRequest(Operation.CREATE_UPLOAD, key)) as response:
            found = _UPLOAD_ID.search(_text(response))
        if found is None:
            raise OriginError(f"{what}: no upload begins; check the endpoint URL")
        return unescape(found[1])

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Write one part, numbered from 1; return its ETag."""
        what, request = self._name(key), UrlRequest(Operation.PUT_PART, key, upload, number)
        with self._answer(what, request, _md5(data), data) as response:
            etag: str | None = response.headers.get("ETag")
        if not etag:
            raise OriginError(f"{what}: a part without an ETag; check the endpoint URL")
        return etag

    def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Make a key of the parts, in order."""
        what, request = self._name(key), UrlRequest(Operation.COMPLETE_UPLOAD, key, upload)
        headers = {"Content-Type": "application/xml"}
        with self._answer(what, request, headers, _part_list(etags)) as response:
            said = _text(response)
        # S3 begins this answer with 200 before it knows how it will end.
        if "<Error>" in said:
            raise OriginBusyError(f"{what}: the upload can't be completed now ({_code(said)})")

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        with self._answer(self._name(key), UrlRequest(Operation.ABORT_UPLOAD, key, upload)):
            pass

    def get(self, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a key in pieces, or raise in their midst."""
        what, headers = self._name(key), {"Range": asked_range(offset, length)}
        with self._answer(what, UrlRequest(Operation.GET, key), headers) as response:
            size = declared_size(response.headers.get("Content-Length", ""))
            check_range(what, response.headers.get("Content-Range", ""), size, offset, length)

            def read(size_bytes: int) -> bytes:
                with _translated(what):
                    return response.read(size_bytes, decode_content=False)

            yield from pieces(what, length, read)

    @contextmanager
    def _answer(
        self,
        what: str,
        request: UrlRequest,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield a good answer to a request; what isn't one becomes an OriginError."""
        with self._sent(what, request, headers, body) as response:
            if response.status not in (200, 204, 206):
                later_s = retry_after_s(response.headers.get("Retry-After", ""))
                self._judge(what, response.status, _code(_text(response)), later_s)
            yield response

    @contextmanager
    def _sent(
        self,
        what: str,
        request: UrlRequest,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        held = self._urls.url(request)
        response = self._once(what, request, held.url, headers, body)
        if response.status in _PERHAPS_EXPIRED and not held.fresh:
            response.close()
            self._urls.forget(request, held)
            response = self._once(what, request, self._urls.url(request).url, headers, body)
        try:
            yield response
        finally:
            # Read to its end, the connection is in the pool again by now; else it is of no use.
            response.close()

    def _once(
        self,
        what: str,
        request: UrlRequest,
        url: str,
        headers: dict[str, str] | None,
        body: bytes | None,
    ) -> urllib3.BaseHTTPResponse:
        whole_body = request.operation is not Operation.GET
        silence_s = ORIGIN_READ_TIMEOUT_S if whole_body else ORIGIN_BODY_TIMEOUT_S
        with _translated(what):
            return self._http.request(
                request.operation.method,
                url,
                body=body,
                headers=headers or {},
                timeout=urllib3.Timeout(connect=ORIGIN_CONNECT_TIMEOUT_S, read=silence_s),
                # What is signed for one place is for no other, least of all one behind us.
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )

    def _judge(self, what: str, status: int, code: str, later_s: float = 0.0) -> None:
        if 300 <= status < 400:
            raise OriginError(
                f"{what}: redirected elsewhere ({status} {code}), which is not followed; check the "
                "endpoint URL, and the region set at the tracker (AWS_DEFAULT_REGION)"
            )
        raise fault(what, status, code or str(status), _REFUSED_HELP, later_s)

    def _name(self, key: str) -> str:
        return f"s3://{self._address.bucket}/{key}"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        # Not "from error": the cause would be logged, URL and all.
        raise OriginBusyError(
            f"{what}: can't be reached ({type(error).__name__}); check the endpoint URL and the "
            "network"
        ) from None


def _text(response: urllib3.BaseHTTPResponse) -> str:
    """Return the beginning of an answer that should be short."""
    with _translated("the origin's answer"):
        return response.read(ORIGIN_ANSWER_MAX_BYTES, decode_content=False).decode(errors="replace")


def _code(said: str) -> str:
    found = _CODE.search(said)
    return found[1] if found else ""


def _part_list(etags: list[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    document = f'<CompleteMultipartUpload xmlns="{_S3_NAMESPACE}">{parts}</CompleteMultipartUpload>'
    return document.encode()


def _md5(data: bytes) -> dict[str, str]:
    # Not among the signed headers, but checked by the store all the same (RFC 1864).
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}
