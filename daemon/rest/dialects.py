"""How each API tells of an error: its own clients read nothing else.

Which API was asked is seen from the path alone, so that a refusal before any handler, or of a path
that nobody serves, is in the right form as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dreamer.protocol.canonical import Json
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


@dataclass(frozen=True)
class Failure:
    """What went wrong, for any API. ``code`` is ours; ``param`` names the field at fault."""

    status: int
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True)
class Dialect:
    """``body`` is the JSON of a failure; ``status`` has what differs from our own statuses."""

    body: Callable[[Failure], Json]
    status: dict[type[DreamerError], int]


_STATUS: dict[type[DreamerError], int] = {
    NoMatchError: 404,
    AmbiguousError: 409,
    InputError: 400,
    ForbiddenError: 403,
    LocalProtocolError: 500,
    LocalError: 503,
    ConflictError: 409,
    RemoteError: 502,
    DreamerError: 500,
}


def _ours(failure: Failure) -> Json:
    return {"error": {"code": failure.code, "message": failure.message}}


def _text(failure: Failure) -> Json:
    # Ollama's and the Open Inference Protocol's alike.
    return {"error": failure.message}


_OPENAI_CODES = {"no_match": "model_not_found", "http_401": "invalid_api_key"}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error"}


def _openai(failure: Failure) -> Json:
    theirs = "invalid_request_error" if failure.status < 500 else "server_error"
    return {
        "error": {
            "message": failure.message,
            "type": _OPENAI_TYPES.get(failure.status, theirs),
            "param": "model" if failure.code == "no_match" else failure.param,
            "code": _OPENAI_CODES.get(failure.code, failure.code),
        }
    }


# Their clients ask again after a 409, which would never help here.
_AS_BAD_INPUT: dict[type[DreamerError], int] = {AmbiguousError: 400}

OURS = Dialect(_ours, {})
OPENAI = Dialect(_openai, _AS_BAD_INPUT)
OLLAMA = Dialect(_text, _AS_BAD_INPUT)
OPEN_INFERENCE = Dialect(_text, _AS_BAD_INPUT)

# Ollama answers at the root as well.
_BY_PREFIX = {"v1": OPENAI, "api": OLLAMA, "": OLLAMA, "v2": OPEN_INFERENCE}


def dialect_of(path: str) -> Dialect:
    """Return how the API at ``path`` tells of errors."""
    return _BY_PREFIX.get(path.lstrip("/").partition("/")[0], OURS)


def failure_of(error: DreamerError, dialect: Dialect = OURS) -> Failure:
    """Return an error as ``dialect`` numbers it, by its nearest class."""
    kinds = type(error).__mro__
    statuses = {**_STATUS, **dialect.status}
    status = next(statuses[kind] for kind in kinds if kind in statuses)
    return Failure(status, error.code, str(error), getattr(error, "param", None) or None)


def error_headers(error: DreamerError) -> dict[str, str]:
    """Return what the headers say beside the status: when to ask again."""
    if isinstance(error, BusyError):
        # Whole seconds (RFC 9110), and never 0: that would be no pause.
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {}


def error_body(error: DreamerError, path: str) -> dict[str, Any]:
    """Return the JSON of an error for whoever asked at ``path``, inside a stream for one."""
    dialect = dialect_of(path)
    return dialect.body(failure_of(error, dialect))
