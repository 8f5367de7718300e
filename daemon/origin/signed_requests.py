"""Requests by presigned URLs: sent once, again where that helps, and judged by their answers.

urllib3's errors may hold the URL they are about, and a presigned one is secret while it lasts: so
none of them is kept as a cause, and none of its warnings is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import urllib3
from urllib3.exceptions import HTTPError

from dreamer.daemon.origin import s3_xml
from dreamer.daemon.origin.faults import OriginBusyError, OriginError, OriginRegionError, fault
from dreamer.daemon.origin.meter import Meter, NoMeter, class_of_url
from dreamer.daemon.origin.retry_after import retry_after_s
from dreamer.daemon.origin.urls import Urls, UrlSource
from dreamer.protocol.limits import (
    ORIGIN_ANSWER_MAX_BYTES,
    ORIGIN_BODY_TIMEOUT_S,
    ORIGIN_CONNECT_TIMEOUT_S,
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_READ_TIMEOUT_S,
)
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.presign import Operation, UrlRequest

# S3 answers 403 to a URL that has expired, and rclone's server 400; codes differ even more.
_PERHAPS_EXPIRED = (400, 401, 403)
REFUSED_HELP = (
    "have the owner of the tracker, which signs for it, check its S3 credentials, its clock, and "
    "that the bucket's policy allows ListBucket, GetObject and PutObject"
)

# Its warnings about odd answers quote the URL.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class SignedRequests:
    """Requests to one bucket through urllib3, with URLs that ``source`` signs. Thread-safe."""

    def __init__(
        self, address: OriginAddress, source: UrlSource, meter: Meter | None = None
    ) -> None:
        self._meter = meter or NoMeter()
        self._urls = Urls(address, source)
        # As the store has named it, where it is not the one that the tracker signs for.
        self._region: str | None = None
        self._http = urllib3.PoolManager(maxsize=ORIGIN_PARALLEL_MAX_REQUESTS)

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    @contextmanager
    def answer(
        self,
        what: str,
        request: UrlRequest,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield a good answer to a request; what isn't one becomes an OriginError."""
        asked_region = self._region
        try:
            with self._good(what, request, headers, body) as response:
                yield response
        except OriginRegionError as error:
            # Signing for the region that the store named is all that it takes, and only once.
            if not error.region or error.region == asked_region:
                raise
            self._region = error.region
            with self._good(what, request, headers, body) as response:
                yield response

    @contextmanager
    def _good(
        self,
        what: str,
        request: UrlRequest,
        headers: dict[str, str] | None,
        body: bytes | None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        with self.sent(what, request, headers, body) as response:
            if response.status not in (200, 204, 206):
                self._judge(what, response)
            yield response

    @contextmanager
    def sent(
        self,
        what: str,
        request: UrlRequest,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield any answer to a request, whatever its status."""
        request = replace(request, region=self._region)
        headers = {**request.headers, **(headers or {})}
        held = self._urls.url(request)
        response = self._once(what, request, held.url, headers, body)
        if response.status in _PERHAPS_EXPIRED and not held.fresh:
            response.close()
            self._urls.forget(request, held)
            response = self._once(what, request, self._urls.url(request).url, headers, body)
        try:
            yield response
        finally:
            # What came over the wire, read or not.
            self._meter.received(request.key, response.tell())
            # Read to its end, the connection is in the pool again by now; else it is of no use.
            response.close()

    def _once(
        self,
        what: str,
        request: UrlRequest,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
    ) -> urllib3.BaseHTTPResponse:
        whole_body = request.operation is not Operation.GET
        silence_s = ORIGIN_READ_TIMEOUT_S if whole_body else ORIGIN_BODY_TIMEOUT_S
        self._meter.requested(class_of_url(request.operation), request.key, len(body or b""))
        with translated(what):
            return self._http.request(
                request.operation.method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=ORIGIN_CONNECT_TIMEOUT_S, read=silence_s),
                # What is signed for one place is for no other, least of all one behind us.
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )

    def _judge(self, what: str, response: urllib3.BaseHTTPResponse) -> None:
        status, said = response.status, text(response)
        code, headers = s3_xml.code(said), response.headers
        region = headers.get("x-amz-bucket-region") or s3_xml.field(said, "Region")
        # 304 is no redirection, but the answer to who has it already.
        if 300 <= status < 400 and status != 304 and not region:
            raise OriginError(
                f"{what}: redirected elsewhere ({status} {code}), which is not followed; check the "
                "endpoint URL, and the region set at the tracker (AWS_DEFAULT_REGION)"
            )
        later_s = retry_after_s(headers.get("Retry-After", ""))
        raise fault(what, status, code or str(status), REFUSED_HELP, later_s, region)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what urllib3 raises while it deals with ``what`` into one of our errors."""
    try:
        yield
    except HTTPError as error:
        # Not "from error": the cause would be logged, URL and all.
        raise OriginBusyError(
            f"{what}: can't be reached ({type(error).__name__}); check the endpoint URL and the "
            "network"
        ) from None


def text(response: urllib3.BaseHTTPResponse, most_bytes: int = ORIGIN_ANSWER_MAX_BYTES) -> str:
    """Return the beginning of an answer that should be short."""
    with translated("the origin's answer"):
        return response.read(most_bytes, decode_content=False).decode(errors="replace")
