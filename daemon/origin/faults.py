"""What can go wrong with an origin, told apart by what to do about it.

::

    RemoteError
    └── OriginError             the origin answers, but not with what it should
        ├── OriginBusyError     5xx, 429, no connection, a body cut short: worth another try
        │   └── OriginDamagedError  what arrived is not what was sent: its checksum differs
        ├── OriginConflictError  412, 409: the key is not what it was thought to be
        ├── OriginUnsupportedError  501, 405: this store can't do that
        ├── OriginRegionError   the bucket is in another region: 301, 400
        ├── OriginRefusedError  no credentials, or not these: 401, 403
        │   └── OriginUnsignedError  no credentials, and no tracker that signs URLs
        ├── OriginMissingError  no such bucket or key: 404
        │   └── OriginNoBucketError  no such bucket, as far as the origin says which it is
        ├── OriginUnchangedError  the key is still as the reader knows it: 304
        └── OriginRangeError    the key holds fewer bytes than it should: 416
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dreamer.daemon.origin.retry_after import retry_after_s
from dreamer.protocol.errors import RemoteError


class OriginError(RemoteError):
    """The origin answers, but not with what it should."""


class OriginBusyError(OriginError):
    """The origin can't answer now; trying again may help, after ``retry_after_s`` at the soonest.

    That is what the origin asked for, 0 if it did not.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OriginDamagedError(OriginBusyError):
    """The store computed another checksum of what it was sent, and kept nothing."""


class OriginConflictError(OriginError):
    """A precondition failed, or somebody else is writing the same key just now."""


class OriginUnsupportedError(OriginError):
    """The store knows no such operation, or not one of its headers."""


class OriginRegionError(OriginError):
    """The bucket is in another region, ``region`` if the store says which, else empty."""

    def __init__(self, message: str, region: str = "") -> None:
        super().__init__(message)
        self.region = region


class OriginRefusedError(OriginError):
    """The origin wants other credentials."""


class OriginUnsignedError(OriginRefusedError):
    """This node has no credentials, and no tracker of the room signs URLs for it."""


class OriginMissingError(OriginError):
    """The origin has no such bucket or key."""


class OriginNoBucketError(OriginMissingError):
    """The bucket is gone, or never was."""


class OriginUnchangedError(OriginError):
    """The key is still as the reader knows it."""


class OriginRangeError(OriginError):
    """The origin's copy is shorter than what was asked of it."""


_NO_CREDENTIALS = (
    "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) "
    "in the environment of dreamerd"
)
_REFUSED_HELP = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and that the bucket's policy allows "
    "ListBucket, GetObject and PutObject"
)
_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408
# S3 gives these with status 400 or 403, though they are about the moment or the clock.
_BUSY_CODES = ("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable")
# AWS and MinIO name a checksum that does not fit each in their own way; rclone as AWS does.
_DAMAGED_CODES = ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")
# Of credentials that were lent; AWS gives these with 400.
_EXPIRED_CODES = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_CONFLICT_STATUSES = (409, 412)
# Of an upload that lacks a part it was thought to have; like a conflict, it is begun again.
_CONFLICT_CODES = ("InvalidPart", "InvalidPartOrder")
# What stores say to a header they don't know or don't want, with status 400.
_HEADER_CODES = ("InvalidRequest", "InvalidArgument", "NotImplemented", "XNotImplemented")
_UNSUPPORTED_STATUSES = (405, 501)
_REGION_CODES = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "IllegalLocationConstraint",
)
_REGION_HELP = "set AWS_DEFAULT_REGION to its region where credentials are set"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what boto3 raises while it deals with ``what`` into one of our errors."""
    # Here, for importing botocore costs a node without an origin 40 MB and a third of a second.
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise OriginRefusedError(f"{what}: {_NO_CREDENTIALS}") from error
    except ClientError as error:
        raise _from_answer(what, error.response) from error
    except RecursionError:
        # botocore asks where a bucket is that redirects, and of one that answers with no more than
        # another redirection, again and again.
        raise OriginRegionError(f"{what}: redirected, to nowhere; {_REGION_HELP}") from None
    except BotoCoreError as error:
        raise OriginBusyError(
            f"{what}: can't be reached ({error}); check the endpoint URL and the network"
        ) from error


def _from_answer(what: str, response: dict[str, Any]) -> OriginError:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = response.get("Error", {})
    code = str(said.get("Code", status))
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or str(said.get("Region", ""))
    later_s = retry_after_s(headers.get("retry-after", ""))
    return fault(what, status, code, _REFUSED_HELP, later_s, region)


def fault(
    what: str, status: int, code: str, refused_help: str, later_s: float = 0.0, region: str = ""
) -> OriginError:
    """Return the error that an answer stands for; ``refused_help`` says what to do about 403.

    ``later_s`` is how long the origin asks to be left in peace, ``region`` where it says that the
    bucket is.
    """
    if (special := _special(what, status, code, region)) is not None:
        return special
    # Asked before the others: S3 puts SlowDown under 503 and a slow upload under 400.
    if status >= 500 or status in (_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT) or code in _BUSY_CODES:
        return OriginBusyError(f"{what}: busy ({status} {code}); try again later", later_s)
    if status in (401, 403):
        return OriginRefusedError(f"{what}: refused ({code}); {refused_help}")
    if status == 404:
        return OriginMissingError(f"{what}: not there ({code}); check the bucket and the prefix")
    if status == 416:
        return OriginRangeError(f"{what}: shorter than it should be; push the model again")
    return OriginError(f"{what}: unexpected answer {status} {code}; check the endpoint URL")


def _special(what: str, status: int, code: str, region: str) -> OriginError | None:
    """Return the error of an answer that some part of the origin can do something about."""
    # Before all others, for their status is of those that mean something else, too.
    if code in _EXPIRED_CODES:
        return OriginRefusedError(
            f"{what}: the credentials are good no longer ({code}); renew them"
        )
    if code in _DAMAGED_CODES:
        return OriginDamagedError(f"{what}: damaged on its way ({code}); it is sent again")
    if status in _UNSUPPORTED_STATUSES or (status == 400 and code in _HEADER_CODES):
        return OriginUnsupportedError(f"{what}: the store can't do that ({status} {code})")
    if status == 304:
        return OriginUnchangedError(f"{what}: unchanged")
    if code == "NoSuchBucket":
        return OriginNoBucketError(f"{what}: the bucket isn't there; check its name, or make it")
    if status in _CONFLICT_STATUSES or code in _CONFLICT_CODES:
        return OriginConflictError(f"{what}: changed meanwhile ({status} {code}); try again")
    if code in _REGION_CODES or (region and status in (301, 307, 400)):
        where = f" in {region}" if region else ""
        return OriginRegionError(f"{what}: the bucket is elsewhere{where}; {_REGION_HELP}", region)
    return None
