"""Who may talk to the API: everything here runs before a handler sees the request.

A web page in the user's own browser can send requests to loopback. It is kept out by the ``Host``
allow-list (DNS rebinding), the ``Origin`` check and the JSON content type (CSRF); no CORS header
is ever sent. A program of another user is kept out by the socket's mode and, on TCP, by a token.
"""

from __future__ import annotations

import hmac
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dreamer.daemon.rest.dialects import Failure, dialect_of, error_headers, failure_of
from dreamer.protocol.errors import DreamerError, ForbiddenError, InputError

log = logging.getLogger(__name__)

HOSTS = ("localhost", "127.0.0.1", "::1", "dreamerd")
"""Names by which the API may be addressed, with any port."""

OPEN_PATHS = ("/health", "/ready")
"""What whoever starts and stops this daemon may ask with no token."""

_APIS = "the APIs are below /dreamer/v1, /v1 (OpenAI), /api (Ollama) and /v2 (Open Inference)"
_WRITES = ("POST", "PUT", "PATCH")

JSON_TYPE = "application/json"
ANY_TYPE = "*/*"
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])


def takes(*content_types: str) -> Callable[[H], H]:
    """Declare what types of body a handler takes, ``ANY_TYPE`` for all; undeclared: JSON only.

    Another site's page can send some of them: only its ``Origin`` keeps it out then.
    """

    def declare(handler: H) -> H:
        handler.content_types = content_types  # type: ignore[attr-defined]
        return handler

    return declare


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure as JSON, in the form of the API that was asked."""
    dialect = dialect_of(request.path)
    try:
        return await handler(request)
    except DreamerError as error:
        failure, headers = failure_of(error, dialect), error_headers(error)
    except web.HTTPException as error:
        # Redirects are exceptions too.
        if error.status < 400:
            raise
        failure = Failure(error.status, f"http_{error.status}", _said(error, request))
        headers = _allow(error)
    except web.RequestPayloadError as error:
        # Not compressed as it says, say.
        unreadable = InputError(f"the body can't be read: {error.__cause__ or error}")
        failure, headers = failure_of(unreadable, dialect), {}
    except ConnectionError:
        raise
    except Exception:
        if request.writer.output_size > 0:
            # Its status is on its way already: whoever serves cuts the connection.
            raise
        log.exception("%s %s failed by a bug of ours", request.method, request.path)
        failure = Failure(500, "bug", "the daemon failed by a bug of its own: see its log")
        headers = {}
    return web.json_response(dialect.body(failure), status=failure.status, headers=headers)


def _said(error: web.HTTPException, request: web.Request) -> str:
    if error.status == 404:
        return f"there is no {request.path!r:.200} here; {_APIS}"
    return error.text or error.reason


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


@web.middleware
async def known_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests that were addressed to another name, or sent by another site's page."""
    host = request.headers.get("Host", "")
    if _host_name(host) not in HOSTS:
        raise ForbiddenError(f"host {host!r:.80} is not served here; use localhost or dreamerd")
    origin = request.headers.get("Origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise ForbiddenError(f"pages of {origin!r:.80} may not use this API")
    return await handler(request)


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where the port is no number
    except ValueError:
        return None
    # Equal only if the header is nothing but a name and a port.
    return parts.hostname if parts.netloc == host and "@" not in host else None


@web.middleware
async def declared_types(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse bodies of types that the handler doesn't take: a form in a browser can't send JSON."""
    # A path that nobody serves, or not so, is refused for that.
    if request.method in _WRITES and request.match_info.http_exception is None:
        taken = getattr(request.match_info.handler, "content_types", (JSON_TYPE,))
        if request.content_type not in taken and ANY_TYPE not in taken:
            raise web.HTTPUnsupportedMediaType(text=f"send Content-Type: {' or '.join(taken)}")
    return await handler(request)


def bearer_token(token: str | None) -> Middleware:
    """Return the middleware that demands ``token`` of whoever comes by TCP.

    Without a token nobody may come by TCP.
    """

    @web.middleware
    async def demand(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS and not may_read(request, token):
            raise web.HTTPUnauthorized(
                text="send Authorization: Bearer with the token from the api-token file"
            )
        return await handler(request)

    return demand


def may_read(request: web.Request, token: str | None) -> bool:
    """Return whether who asks may read the whole API, and not only what is on an open path."""
    return _by_unix_socket(request) or _carries(request, token)


def _by_unix_socket(request: web.Request) -> bool:
    end = request.transport.get_extra_info("socket") if request.transport else None
    return end is not None and end.family == socket.AF_UNIX


def _carries(request: web.Request, token: str | None) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    # In constant time: how long a refusal takes must not tell how much was right.
    return hmac.compare_digest(given.strip().encode(errors="replace"), token.encode())
