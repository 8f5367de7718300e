"""What can go wrong with an origin, told apart by what to do about it.

::

    RemoteError
    └── OriginError             the origin answers, but not with what it should
        ├── OriginBusyError     5xx, 429, no connection, a body cut short: worth another try
        ├── OriginRefusedError  no credentials, or not these: 401, 403
        │   └── OriginUnsignedError  no credentials, and no tracker that signs URLs
        ├── OriginMissingError  no such bucket or key: 404
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


class OriginRefusedError(OriginError):
    """The origin wants other credentials."""


class OriginUnsignedError(OriginRefusedError):
    """This node has no credentials, and no tracker of the room signs URLs for it."""


class OriginMissingError(OriginError):
    """The origin has no such bucket or key."""


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
    except BotoCoreError as error:
        raise OriginBusyError(
            f"{what}: can't be reached ({error}); check the endpoint URL and the network"
        ) from error


def _from_answer(what: str, response: dict[str, Any]) -> OriginError:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", status))
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return fault(what, status, code, _REFUSED_HELP, retry_after_s(headers.get("retry-after", "")))


def fault(
    what: str, status: int, code: str, refused_help: str, later_s: float = 0.0
) -> OriginError:
    """Return the error that an answer stands for; ``refused_help`` says what to do about 403.

    ``later_s`` is how long the origin asks to be left in peace.
    """
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
