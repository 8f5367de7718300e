"""Errors as gRPC has them: a status code, and when to ask again where that helps."""

from __future__ import annotations

from typing import Any

import grpc

from dreamer.daemon.grpc_api.messages import message
from dreamer.protocol.errors import (
    AmbiguousError,
    BusyError,
    ConflictError,
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    LocalProtocolError,
    NoMatchError,
    RemoteError,
)
from dreamer.protocol.inference_limits import GRPC_RETRY_S

_CODES: dict[type[DreamerError], grpc.StatusCode] = {
    NoMatchError: grpc.StatusCode.NOT_FOUND,
    AmbiguousError: grpc.StatusCode.INVALID_ARGUMENT,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    LocalProtocolError: grpc.StatusCode.INTERNAL,
    LocalError: grpc.StatusCode.UNAVAILABLE,
    ConflictError: grpc.StatusCode.ABORTED,
    RemoteError: grpc.StatusCode.UNAVAILABLE,
    DreamerError: grpc.StatusCode.INTERNAL,
}

_TYPE_URL = "type.googleapis.com/google.rpc.RetryInfo"


def status_code(error: DreamerError) -> grpc.StatusCode:
    """Return the code of an error, by its nearest class."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def trailers(error: DreamerError) -> tuple[tuple[str, str | bytes], ...]:
    """Return what follows the status: how long to wait before asking again, where that helps.

    In both forms that clients know: gRPC's own pushback of its retries, and google.rpc.RetryInfo.
    """
    code = status_code(error)
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ()
    wait_s = error.retry_after_s if isinstance(error, BusyError) else GRPC_RETRY_S
    return (
        ("grpc-retry-pushback-ms", str(round(wait_s * 1000))),
        ("grpc-status-details-bin", _details(code, str(error), wait_s)),
    )


def _details(code: grpc.StatusCode, said: str, wait_s: float) -> bytes:
    seconds, rest = divmod(wait_s, 1)
    delay = message("Duration")(seconds=int(seconds), nanos=round(rest * 1e9))
    info = message("RetryInfo")(retry_delay=delay)
    detail = message("Any")(type_url=_TYPE_URL, value=info.SerializeToString())
    status: Any = message("Status")(code=code.value[0], message=said, details=[detail])
    return bytes(status.SerializeToString())
