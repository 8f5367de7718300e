"""The S3 calls that an origin needs, by URLs that somebody else signed: no credentials here.

Blocking; thread-safe. ``signed_requests.py`` sends them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from dreamer.daemon.origin import s3_xml
from dreamer.daemon.origin.body import checked_etag, checked_whole, pieces
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginMissingError,
    OriginRefusedError,
    fault,
)
from dreamer.daemon.origin.listing import ExpiryRule, Listed, ListedPart, ListedUpload
from dreamer.daemon.origin.meter import Meter
from dreamer.daemon.origin.ranges import asked_range, check_range, declared_size
from dreamer.daemon.origin.signed_requests import (
    REFUSED_HELP,
    SignedRequests,
    text,
    translated,
)
from dreamer.daemon.origin.urls import UrlSource
from dreamer.protocol.checksum import Algorithm, Checksum, checksum
from dreamer.protocol.ids import DIGEST_BYTES, Digest
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import ORIGIN_LIST_ANSWER_MAX_BYTES
from dreamer.protocol.presign import Operation, UrlRequest
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES


class PresignedBucket:
    """One bucket, reached through urllib3 with URLs that ``source`` signs."""

    def __init__(
        self, address: OriginAddress, source: UrlSource, meter: Meter | None = None
    ) -> None:
        self._address = address
        self._requests = SignedRequests(address, source, meter)

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    def check(self) -> None:
        """Ask whether the bucket is there and open to us."""
        # No URL is signed for a bucket as a whole; that it lacks a key tells as much.
        request = UrlRequest(Operation.GET, self._address.object_key(Digest(bytes(DIGEST_BYTES))))
        with self._requests.sent(f"origin {self._address}", request) as response:
            status, code = response.status, s3_xml.code(text(response))
        if (status, code) != (404, "NoSuchKey"):
            raise fault(f"origin {self._address}", status, code or str(status), REFUSED_HELP)

    def known_size(self, key: str) -> int:
        """Return the size of a key in bytes; raises OriginMissingError if it isn't there."""
        what = self._name(key)
        with self._requests.answer(what, UrlRequest(Operation.HEAD, key)) as response:
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

    def put(self, key: str, data: bytes, by: Algorithm | None = Algorithm.MD5) -> str:
        """Write a small key; the origin checks that the bytes arrived unharmed."""
        request = UrlRequest(Operation.PUT, key, checksum=_checked(by, data), length=len(data))
        with self._requests.answer(self._name(key), request, body=data) as response:
            return response.headers.get("ETag") or ""

    def read_whole(self, key: str, etag: str | None) -> tuple[bytes, str]:
        """Return a small key and its ETag; raises OriginUnchangedError if it still has ``etag``."""
        what, request = self._name(key), UrlRequest(Operation.READ_REGISTRY, key)
        headers = {} if etag is None else {"If-None-Match": etag}
        with self._requests.answer(what, request, headers) as response:
            with translated(what):
                data = response.read(REGISTRY_MAX_BYTES + 1, decode_content=False)
            size = declared_size(response.headers.get("Content-Length", ""))
            return checked_whole(what, data, size), checked_etag(what, response.headers.get("ETag"))

    def replace(self, key: str, data: bytes, etag: str | None) -> str:
        """Write a small key that has ``etag``, or is not there (None); return its new ETag.

        Raises OriginConflictError if it has another.
        """
        what, request = self._name(key), UrlRequest(Operation.WRITE_REGISTRY, key, etag=etag)
        md5 = checksum(Algorithm.MD5, data)
        with self._requests.answer(what, request, {md5.header: md5.value}, data) as response:
            return checked_etag(what, response.headers.get("ETag"))

    def copy(self, key: str, target: str) -> None:
        """Refuse: only content named by its hash is ever signed."""
        raise OriginRefusedError(
            f"{self._name(target)} can't be written with signed URLs: push from a node that has "
            "S3 credentials, or without [torrent] origin_is_public"
        )

    def begin(self, key: str, by: Algorithm | None = Algorithm.MD5) -> str:
        """Begin a multipart upload; return its id."""
        what = self._name(key)
        kind = by.value if by is Algorithm.CRC32 else None
        with self._requests.answer(
            what, UrlRequest(Operation.CREATE_UPLOAD, key, checksum=kind)
        ) as response:
            upload = s3_xml.field(text(response), "UploadId")
        if not upload:
            raise OriginError(f"{what}: no upload begins; check the endpoint URL")
        return upload

    def put_part(
        self,
        key: str,
        upload: str,
        number: int,
        data: bytes,
        by: Algorithm | None = Algorithm.MD5,
    ) -> str:
        """Write one part, numbered from 1; return its ETag."""
        what, said, size = self._name(key), _checked(by, data), len(data)
        request = UrlRequest(Operation.PUT_PART, key, upload, number, checksum=said, length=size)
        with self._requests.answer(what, request, body=data) as response:
            etag: str | None = response.headers.get("ETag")
        if not etag:
            raise OriginError(f"{what}: a part without an ETag; check the endpoint URL")
        return etag

    def complete(
        self, key: str, upload: str, etags: Sequence[str], whole: Checksum | None = None
    ) -> str:
        """Make a key of the parts, in order; return its ETag."""
        of_all = None if whole is None else str(whole)
        what = self._name(key)
        request = UrlRequest(Operation.COMPLETE_UPLOAD, key, upload, checksum=of_all)
        headers = {"Content-Type": "application/xml"}
        with self._requests.answer(what, request, headers, s3_xml.part_list(etags)) as response:
            said = text(response)
        # S3 begins this answer with 200 before it knows how it will end.
        if "<Error>" in said:
            raise OriginBusyError(
                f"{what}: the upload can't be completed now ({s3_xml.code(said)})"
            )
        return s3_xml.field(said, "ETag")

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        with self._requests.answer(
            self._name(key), UrlRequest(Operation.ABORT_UPLOAD, key, upload)
        ):
            pass

    def uploads(self, key: str) -> list[str]:
        """Return the ids of a key's multipart uploads under way, the last begun first."""
        said = self._listing(key, UrlRequest(Operation.LIST_UPLOADS, key))
        return s3_xml.uploads_of(said, key)

    def parts(self, key: str, upload: str) -> list[ListedPart]:
        """Return the parts that an upload under way has, by number."""
        found: list[ListedPart] = []
        while True:
            marker = found[-1].number if found else None
            request = UrlRequest(Operation.LIST_PARTS, key, upload, marker)
            said = self._listing(key, request)
            page = s3_xml.parts_of(self._name(key), said)
            found += page
            # A store that says "more" and gives none would have us ask for ever.
            more = s3_xml.field(said, "IsTruncated") == "true"
            if not more or not page or found[-1].number <= (marker or 0):
                return found

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Refuse: URLs are signed for one key each."""
        raise self._needs_credentials("listing its keys")

    def open_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """Refuse: a URL is signed for the uploads of one key each."""
        raise self._needs_credentials("listing uploads under way")

    def delete_all(self, keys: Iterable[str]) -> None:
        """Refuse: nobody but an owner of credentials removes content."""
        raise self._needs_credentials("removing keys")

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        """Refuse: they are those of the whole bucket."""
        raise self._needs_credentials("its lifecycle rules")

    def put_expiry_rule(self, rule: ExpiryRule) -> None:
        """Refuse, likewise."""
        raise self._needs_credentials("its lifecycle rules")

    def drop_expiry_rule(self, name: str) -> None:
        """Refuse, likewise."""
        raise self._needs_credentials("its lifecycle rules")

    def _needs_credentials(self, what: str) -> OriginRefusedError:
        return OriginRefusedError(
            f"origin {self._address}: {what} takes S3 credentials, which this node has not: use a "
            "node that has them"
        )

    def _listing(self, key: str, request: UrlRequest) -> str:
        with self._requests.answer(self._name(key), request) as response:
            return text(response, ORIGIN_LIST_ANSWER_MAX_BYTES)

    def get(self, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a key in pieces, or raise in their midst."""
        what, headers = self._name(key), {"Range": asked_range(offset, length)}
        with self._requests.answer(what, UrlRequest(Operation.GET, key), headers) as response:
            size = declared_size(response.headers.get("Content-Length", ""))
            check_range(what, response.headers.get("Content-Range", ""), size, offset, length)

            def read(size_bytes: int) -> bytes:
                with translated(what):
                    return response.read(size_bytes, decode_content=False)

            yield from pieces(what, length, read)

    def _name(self, key: str) -> str:
        return f"s3://{self._address.bucket}/{key}"


def _checked(by: Algorithm | None, data: bytes) -> str | None:
    return None if by is None else str(checksum(by, data))
