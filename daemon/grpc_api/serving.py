"""Listens for gRPC: on a Unix socket with no token, on loopback TCP with the API's token."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from dreamer.daemon.grpc_api.service import MethodHandlers, refusing
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.surfaces.readiness import Readiness
from dreamer.protocol.errors import LocalError
from dreamer.protocol.inference_limits import (
    GRPC_DRAIN_S,
    GRPC_KEEPALIVE_S,
    GRPC_MAX_CALLS,
    OIP_BODY_MAX_BYTES,
)
from dreamer.protocol.limits import UNIX_PATH_MAX_BYTES

_OPTIONS = (
    ("grpc.max_receive_message_length", OIP_BODY_MAX_BYTES),
    ("grpc.max_send_message_length", OIP_BODY_MAX_BYTES),
    # Without this, a second daemon could listen at the same port and take every other call.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", round(GRPC_KEEPALIVE_S * 1000)),
)


@asynccontextmanager
async def serving_grpc(
    oip: OpenInference,
    readiness: Readiness,
    socket: Path,
    *,
    socket_mode: int = 0o600,
    tcp: tuple[str, int] | None = None,
    token: str | None = None,
    drain_s: float = GRPC_DRAIN_S,
) -> AsyncIterator[tuple[str, int] | None]:
    """Serve while the context lasts; yields the TCP address in use, None without TCP.

    Raises:
        LocalError: the socket or the port can't be had.
    """
    assert tcp is None or token, "TCP is never open to whoever comes"
    handlers = MethodHandlers(oip, readiness)
    servers = [_server(handlers, ())]
    address = None
    try:
        _bind_socket(servers[0], socket, socket_mode)
        if tcp is not None and token is not None:
            servers.append(_server(handlers, [_Bearer(token)]))
            address = tcp[0], _bind_tcp(servers[1], *tcp)
        for server in servers:
            await server.start()
        yield address
    finally:
        # No new call is accepted; those under way get this long before they are cancelled.
        await asyncio.gather(*(server.stop(drain_s) for server in servers))
        await asyncio.to_thread(socket.unlink, missing_ok=True)


def _server(handlers: MethodHandlers, interceptors: Sequence[Any]) -> Any:
    server = grpc.aio.server(
        interceptors=interceptors, options=_OPTIONS, maximum_concurrent_rpcs=GRPC_MAX_CALLS
    )
    server.add_generic_rpc_handlers((handlers,))
    return server


class _Bearer(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Demands the token before anything of a request is read."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._refuse = refusing(
            "send metadata 'authorization: Bearer …' with the token from the api-token file",
            grpc.StatusCode.UNAUTHENTICATED,
        )

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler, or the refusal of whoever has no token."""
        for key, value in handler_call_details.invocation_metadata:
            if key == "authorization" and self._is_right(value):
                return await continuation(handler_call_details)
        return self._refuse

    def _is_right(self, value: str | bytes) -> bool:
        text = value if isinstance(value, str) else value.decode(errors="replace")
        scheme, _, given = text.partition(" ")
        # In constant time: how long a refusal takes must not tell how much was right.
        same = hmac.compare_digest(given.strip().encode(errors="replace"), self._token)
        return same and scheme.lower() == "bearer"


def _bind_socket(server: Any, path: Path, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        raise LocalError(f"the path {path} is too long for a socket: choose a shorter --home")
    # The directory keeps others out until the socket has its own mode.
    if not mode & 0o070:
        path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    try:
        server.add_insecure_port(f"unix:{path}")
        path.chmod(mode)
    except (RuntimeError, OSError) as error:
        raise LocalError(f"can't listen on {path}: {error}; choose another --home") from error


def _bind_tcp(server: Any, host: str, port: int) -> int:
    name = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{name}:{port}")
    except RuntimeError as error:
        raise LocalError(
            f"can't listen on {host}:{port}: the port is taken; change [api] grpc_listen"
        ) from error
    return int(bound)
