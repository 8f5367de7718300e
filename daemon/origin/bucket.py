"""The S3 calls that an origin needs, one try each, errors translated. Blocking; thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from dreamer.daemon.origin.body import checked_etag, checked_whole, pieces
from dreamer.daemon.origin.faults import (
    OriginConflictError,
    OriginMissingError,
    OriginUnsupportedError,
    translated,
)
from dreamer.daemon.origin.lifecycle import rules_of, with_rule, without_rule
from dreamer.daemon.origin.listing import ExpiryRule, Listed, ListedPart, ListedUpload
from dreamer.daemon.origin.meter import CountedBody, Meter, NoMeter, watch
from dreamer.daemon.origin.ranges import asked_range, check_range
from dreamer.protocol.checksum import Algorithm, Checksum, checksum
from dreamer.protocol.limits import (
    ORIGIN_BODY_TIMEOUT_S,
    ORIGIN_CONNECT_TIMEOUT_S,
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_READ_TIMEOUT_S,
)
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import (
    ORIGIN_LIST_MAX_PAGES,
    ORIGIN_LISTED_PER_ANSWER,
    ORIGIN_UPLOADS_LOOKED_AT,
)
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES

_DEFAULT_REGION = "us-east-1"
_OF_THE_WHOLE = {"ChecksumType": "FULL_OBJECT"}


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

    def __init__(self, address: OriginAddress, meter: Meter | None = None) -> None:
        self._address = address
        self._meter = meter or NoMeter()
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
            client = session.client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=session.region_name or _DEFAULT_REGION,
                config=config,
            )
        watch(client, self._meter)
        return client

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
        if "Body" in answer:
            received = partial(self._meter.received, str(arguments.get("Key", "")))
            answer["Body"] = CountedBody(answer["Body"], received)
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

    def put(self, key: str, data: bytes, by: Algorithm | None = Algorithm.MD5) -> str:
        """Write a small key; the origin checks that the bytes arrived unharmed."""
        answer = self._call("put_object", self._name(key), Key=key, Body=data, **_checked(by, data))
        return str(answer.get("ETag", ""))

    def read_whole(self, key: str, etag: str | None) -> tuple[bytes, str]:
        """Return a small key and its ETag; raises OriginUnchangedError if it still has ``etag``."""
        what = self._name(key)
        known = {} if etag is None else {"IfNoneMatch": etag}
        answer = self._call("get_object", what, Key=key, **known)
        with closing(answer["Body"]) as body, translated(what):
            body.set_socket_timeout(ORIGIN_BODY_TIMEOUT_S)
            data: bytes = body.read(REGISTRY_MAX_BYTES + 1)
        whole = checked_whole(what, data, answer.get("ContentLength"))
        return whole, checked_etag(what, answer.get("ETag"))

    def replace(self, key: str, data: bytes, etag: str | None) -> str:
        """Write a small key that has ``etag``, or is not there (None); return its new ETag.

        Raises OriginConflictError if it has another.
        """
        what = self._name(key)
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        answer = self._call(
            "put_object", what, Key=key, Body=data, **_checked(Algorithm.MD5, data), **condition
        )
        return checked_etag(what, answer.get("ETag"))

    def copy(self, key: str, target: str) -> None:
        """Copy a key inside the store, in parts if it is large."""
        source = {"Bucket": self._address.bucket, "Key": key}
        with translated(self._name(target)):
            self._client.copy(source, self._address.bucket, target)

    def begin(self, key: str, by: Algorithm | None = Algorithm.MD5) -> str:
        """Begin a multipart upload; return its id."""
        kind = {"ChecksumAlgorithm": "CRC32", **_OF_THE_WHOLE} if by is Algorithm.CRC32 else {}
        answer = self._call("create_multipart_upload", self._name(key), Key=key, **kind)
        return str(answer["UploadId"])

    def put_part(
        self,
        key: str,
        upload: str,
        number: int,
        data: bytes,
        by: Algorithm | None = Algorithm.MD5,
    ) -> str:
        """Write one part, numbered from 1; return its ETag."""
        answer = self._call(
            "upload_part",
            self._name(key),
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=data,
            **_checked(by, data),
        )
        return str(answer["ETag"])

    def complete(
        self, key: str, upload: str, etags: Sequence[str], whole: Checksum | None = None
    ) -> str:
        """Make a key of the parts, in order; return its ETag."""
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, 1)]
        of_all = {} if whole is None else {"ChecksumCRC32": whole.value, **_OF_THE_WHOLE}
        answer = self._call(
            "complete_multipart_upload",
            self._name(key),
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            **of_all,
        )
        return str(answer.get("ETag", ""))

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        self._call("abort_multipart_upload", self._name(key), Key=key, UploadId=upload)

    def uploads(self, key: str) -> list[str]:
        """Return the ids of a key's multipart uploads under way, the last begun first."""
        answer = self._call(
            "list_multipart_uploads",
            self._name(key),
            Prefix=key,
            MaxUploads=ORIGIN_UPLOADS_LOOKED_AT,
        )
        # The prefix may be that of longer keys, too.
        own = [each for each in answer.get("Uploads", []) if each["Key"] == key]
        own.sort(key=lambda each: each["Initiated"].timestamp(), reverse=True)
        return [str(each["UploadId"]) for each in own]

    def parts(self, key: str, upload: str) -> list[ListedPart]:
        """Return the parts that an upload under way has, by number."""
        found: list[ListedPart] = []
        marker = 0
        while True:
            answer = self._call(
                "list_parts",
                self._name(key),
                Key=key,
                UploadId=upload,
                **({"PartNumberMarker": marker} if marker else {}),
            )
            found += [
                ListedPart(int(part["PartNumber"]), int(part["Size"]), str(part["ETag"]))
                for part in answer.get("Parts", [])
            ]
            # A store that says "more" and gives none would have us ask for ever.
            if not answer.get("IsTruncated") or not found or found[-1].number <= marker:
                return found
            marker = found[-1].number

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield the keys that begin with ``prefix``, in their order, a page at a time."""
        more: dict[str, str] = {}
        for _ in range(ORIGIN_LIST_MAX_PAGES):
            answer = self._call(
                "list_objects_v2",
                f"origin {self._address}",
                Prefix=prefix,
                MaxKeys=ORIGIN_LISTED_PER_ANSWER,
                **more,
            )
            for each in answer.get("Contents", []):
                modified_at = each["LastModified"].timestamp()
                yield Listed(str(each["Key"]), int(each["Size"]), modified_at)
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": str(answer["NextContinuationToken"])}

    def open_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """Yield the multipart uploads under way whose keys begin with ``prefix``."""
        more: dict[str, str] = {}
        for _ in range(ORIGIN_LIST_MAX_PAGES):
            answer = self._call(
                "list_multipart_uploads", f"origin {self._address}", Prefix=prefix, **more
            )
            for each in answer.get("Uploads", []):
                began_at = each["Initiated"].timestamp()
                yield ListedUpload(str(each["Key"]), str(each["UploadId"]), began_at)
            if not answer.get("IsTruncated"):
                return
            more = {
                "KeyMarker": str(answer["NextKeyMarker"]),
                "UploadIdMarker": str(answer["NextUploadIdMarker"]),
            }

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is not there is no error."""
        # One at a time: DeleteObjects wants a checksum, and of which kind stores do not agree.
        for key in keys:
            self._call("delete_object", self._name(key), Key=key)

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        """Return the lifecycle rules of ours that the bucket has."""
        return tuple(rules_of(self._lifecycle()))

    def put_expiry_rule(self, rule: ExpiryRule) -> None:
        """Add a lifecycle rule, or change ours of that name; those of others stay."""
        self._set_lifecycle(with_rule(self._lifecycle(), rule))

    def drop_expiry_rule(self, name: str) -> None:
        """Remove a lifecycle rule of ours; nothing happens if there is none."""
        before = self._lifecycle()
        after = without_rule(before, name)
        if after["Rules"] != before.get("Rules", []):
            self._set_lifecycle(after)

    def _lifecycle(self) -> dict[str, Any]:
        try:
            return self._call("get_bucket_lifecycle_configuration", f"rules of {self._address}")
        except OriginMissingError:
            # Of a bucket without rules, S3 says NoSuchLifecycleConfiguration.
            return {}

    def _set_lifecycle(self, configuration: dict[str, Any]) -> None:
        what = f"rules of {self._address}"
        # S3 takes no empty document: without a rule left it is removed.
        if not configuration["Rules"]:
            self._call("delete_bucket_lifecycle", what)
            return
        try:
            self._call(
                "put_bucket_lifecycle_configuration", what, LifecycleConfiguration=configuration
            )
        except OriginConflictError as error:
            # rclone takes it for an order to make the bucket, and says that there is one.
            raise OriginUnsupportedError(f"{what}: the store knows none ({error})") from error

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


def _checked(by: Algorithm | None, data: bytes) -> dict[str, str]:
    if by is None:
        return {}
    name = "ContentMD5" if by is Algorithm.MD5 else "ChecksumCRC32"
    return {name: checksum(by, data).value}
