"""The calls by which a tracker looks after a room's origin, with the credentials that it signs by.

One try each; what boto3 raises becomes a RemoteError. Blocking; thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from dreamer.protocol.errors import ConflictError, RemoteError
from dreamer.protocol.garbage.commands import OpenUpload, StoredKey
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import ORIGIN_LIST_MAX_PAGES
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES
from dreamer.protocol.tracker_limits import SWEEP_CONNECT_TIMEOUT_S, SWEEP_READ_TIMEOUT_S

_DEFAULT_REGION = "us-east-1"
_CONFLICTS = (409, 412)
_UNSUPPORTED = (405, 501)


class OriginBucket:
    """One room's bucket; boto3 is imported, and finds credentials, on first use."""

    def __init__(self, address: OriginAddress) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._made: Any = None

    def listed(self, prefix: str) -> Iterator[StoredKey]:
        """Yield the keys that begin with ``prefix``."""
        more: dict[str, object] = {}
        for _ in range(ORIGIN_LIST_MAX_PAGES):
            answer = self._call("list_objects_v2", Prefix=prefix, **more)
            for each in answer.get("Contents", []):
                modified_at = each["LastModified"].timestamp()
                yield StoredKey(str(each["Key"]), int(each["Size"]), modified_at)
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """Yield the uploads in parts under way; none where the store lists none."""
        more: dict[str, object] = {}
        for _ in range(ORIGIN_LIST_MAX_PAGES):
            try:
                answer = self._call("list_multipart_uploads", Prefix=prefix, **more)
            except _StatusError as error:
                if error.status in _UNSUPPORTED:
                    return
                raise
            for each in answer.get("Uploads", []):
                began_at = each["Initiated"].timestamp()
                yield OpenUpload(str(each["Key"]), str(each["UploadId"]), began_at)
            if not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return a small key and its ETag; None when it is not there."""
        try:
            answer = self._call("get_object", Key=key)
        except _StatusError as error:
            # Only of the key: of a bucket that is gone, nothing can be said.
            if error.code == "NoSuchKey":
                return None
            raise
        with closing(answer["Body"]) as body, self._translated("get_object"):
            data: bytes = body.read(REGISTRY_MAX_BYTES + 1)
        if len(data) > REGISTRY_MAX_BYTES:
            raise RemoteError(f"{key} at {self.address} is too large to be Dreamer's: remove it")
        return data, str(answer["ETag"])

    def write(self, key: str, data: bytes, etag: str | None) -> str:
        """Write a small key that has ``etag``, or isn't there (None); return its new ETag.

        Raises:
            ConflictError: it has another.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            answer = self._call("put_object", Key=key, Body=data, **condition)
        except _StatusError as error:
            if error.status in _CONFLICTS:
                raise ConflictError(f"{key} was written by somebody else") from error
            raise
        return str(answer["ETag"])

    def delete(self, key: str) -> None:
        """Remove a key; one that isn't there is no error."""
        self._call("delete_object", Key=key)

    def abort(self, key: str, upload_id: str) -> None:
        """End an upload in parts; one that has ended is no error."""
        try:
            self._call("abort_multipart_upload", Key=key, UploadId=upload_id)
        except _StatusError as error:
            if error.code != "NoSuchUpload":
                raise

    def _call(self, operation: str, **arguments: object) -> dict[str, Any]:
        with self._translated(operation):
            answer: dict[str, Any] = getattr(self._client, operation)(
                Bucket=self.address.bucket, **arguments
            )
        return answer

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise _StatusError(f"{operation} at {self.address}", status, code) from error
        except BotoCoreError as error:
            raise RemoteError(
                f"{operation} at {self.address} failed ({type(error).__name__}): check the "
                "tracker's S3 credentials, the endpoint URL and the network"
            ) from error

    @property
    def _client(self) -> Any:
        # boto3 clients may be shared by threads; making one may not.
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        # Here: a tracker that looks after no origin is spared 40 MB.
        import boto3
        from botocore.config import Config

        endpoint_url = self.address.endpoint_url
        session = boto3.session.Session()
        config = Config(
            connect_timeout=SWEEP_CONNECT_TIMEOUT_S,
            read_timeout=SWEEP_READ_TIMEOUT_S,
            # A removal that is tried again later may meet what was written since.
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._translated("a connection"):
            return session.client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=session.region_name or _DEFAULT_REGION,
                config=config,
            )


class _StatusError(RemoteError):
    """The origin refused something."""

    def __init__(self, what: str, status: int, code: str) -> None:
        super().__init__(
            f"{what} was refused ({status} {code}): check the tracker's S3 credentials, and that "
            "they allow ListBucket, GetObject, PutObject and DeleteObject"
        )
        self.status = status
        self.code = code
