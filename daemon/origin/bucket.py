"""The S3 calls that an origin needs, one try each, errors translated. Blocking; thread-safe."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

from dreamer.daemon.origin.body import pieces
from dreamer.daemon.origin.faults import OriginMissingError, translated
from dreamer.daemon.origin.ranges import asked_range, check_range
from dreamer.protocol.limits import (
    ORIGIN_BODY_TIMEOUT_S,
    ORIGIN_CONNECT_TIMEOUT_S,
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_READ_TIMEOUT_S,
)
from dreamer.protocol.origin import OriginAddress

_DEFAULT_REGION = "us-east-1"


def credentials_found() -> bool:
    """Return whether boto3 finds credentials on this machine. Blocks, perhaps for seconds."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.session.Session().get_credentials() is not None
    except BotoCoreError:
        # Half of them, or a profile that isn't there: using them says what is wrong.
        return True


class Bucket:
    """One bucket, reached through boto3, which is imported and given credentials on first use."""

    def __init__(self, address: OriginAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def _client(self) -> Any:
        # boto3 clients may be shared by threads; making one may not.
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        import boto3
        from botocore.config import Config

        endpoint_url = self._address.endpoint_url
        # A session of our own: the default one belongs to whoever embeds us.
        session = boto3.session.Session()
        config = Config(
            connect_timeout=ORIGIN_CONNECT_TIMEOUT_S,
            read_timeout=ORIGIN_READ_TIMEOUT_S,
            # Our own retries resume in the midst of a body, and can be stopped.
            retries={"total_max_attempts": 1},
            max_pool_connections=ORIGIN_PARALLEL_MAX_REQUESTS,
            # Stores of one's own rarely have a DNS name for each bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # Not every store knows the newer checksums; MD5 they all do.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with translated(str(self._address)):
            return session.client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=session.region_name or _DEFAULT_REGION,
                config=config,
            )

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _call(self, operation: str, what: str, **arguments: object) -> dict[str, Any]:
        with translated(what):
            answer: dict[str, Any] = getattr(self._client, operation)(
                Bucket=self._address.bucket, **arguments
            )
        return answer

    def check(self) -> None:
        """Ask whether the bucket is there and open to us."""
        self._call("head_bucket", f"origin {self._address}")

    def known_size(self, key: str) -> int:
        """Return the size of a key in bytes; raises OriginMissingError if it isn't there."""
        return int(self._call("head_object", self._name(key), Key=key)["ContentLength"])

    def size(self, key: str) -> int | None:
        """Return the size of a key in bytes, None if it isn't there."""
        try:
            return self.known_size(key)
        except OriginMissingError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Write a small key; the origin checks that the bytes arrived unharmed."""
        self._call("put_object", self._name(key), Key=key, Body=data, ContentMD5=_md5(data))

    def copy(self, key: str, target: str) -> None:
        """Copy a key inside the store, in parts if it is large."""
        source = {"Bucket": self._address.bucket, "Key": key}
        with translated(self._name(target)):
            self._client.copy(source, self._address.bucket, target)

    def begin(self, key: str) -> str:
        """Begin a multipart upload; return its id."""
        answer = self._call("create_multipart_upload", self._name(key), Key=key)
        return str(answer["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Write one part, numbered from 1; return its ETag."""
        answer = self._call(
            "upload_part",
            self._name(key),
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=data,
            ContentMD5=_md5(data),
        )
        return str(answer["ETag"])

    def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Make a key of the parts, in order."""
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, 1)]
        self._call(
            "complete_multipart_upload",
            self._name(key),
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        self._call("abort_multipart_upload", self._name(key), Key=key, UploadId=upload)

    def get(self, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a key in pieces, or raise in their midst."""
        what = self._name(key)
        ranged = asked_range(offset, length)
        answer = self._call("get_object", what, Key=key, Range=ranged)
        with closing(answer["Body"]) as body:
            sent, size = str(answer.get("ContentRange", "")), answer.get("ContentLength")
            check_range(what, sent, size, offset, length)
            body.set_socket_timeout(ORIGIN_BODY_TIMEOUT_S)

            def read(size_bytes: int) -> bytes:
                with translated(what):
                    piece: bytes = body.read(size_bytes)
                return piece

            yield from pieces(what, length, read)

    def _name(self, key: str) -> str:
        return f"s3://{self._address.bucket}/{key}"


def _md5(data: bytes) -> str:
    # Against damage on the way only; BLAKE3 decides what is kept.
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
