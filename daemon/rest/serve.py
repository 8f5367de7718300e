"""Listens for the API: always on the Unix socket, on loopback TCP if the settings ask for it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from dreamer.daemon.rest.local_socket import listen
from dreamer.daemon.rest.readiness import make_probe_app
from dreamer.daemon.setting_checks import split_address
from dreamer.daemon.surfaces.readiness import Readiness
from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import SHUTDOWN_DRAIN_S

_TOKEN_BYTES = 32


@asynccontextmanager
async def serving(
    app: web.Application,
    socket_path: Path,
    *,
    socket_mode: int = 0o600,
    tcp: tuple[str, int] | None = None,
    drain_s: float = SHUTDOWN_DRAIN_S,
) -> AsyncIterator[tuple[str, int] | None]:
    """Serve ``app`` while the context lasts; yields the TCP address in use, None without TCP.

    On leaving, no new request is accepted and running ones get ``drain_s`` to finish before they
    are cancelled. The socket file is removed.

    Raises:
        LocalError: another daemon has the socket or the port.
    """
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=drain_s, access_log=None
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listen(socket_path, socket_mode)).start()
        try:
            yield None if tcp is None else await _listen_tcp(runner, *tcp)
        finally:
            await asyncio.to_thread(socket_path.unlink, missing_ok=True)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def probing(readiness: Readiness, listen_at: str) -> AsyncIterator[tuple[str, int]]:
    """Answer probes at ``HOST:PORT`` while the context lasts; yields the address in use.

    Raises:
        LocalError: the port is taken.
    """
    address = split_address(listen_at)
    assert address is not None, "the settings were checked"
    app = make_probe_app(readiness)
    runner = web.AppRunner(app, shutdown_timeout=0.0, access_log=None)
    await runner.setup()
    try:
        yield await _listen_tcp(runner, *address, key="probe_listen")
    finally:
        await runner.cleanup()


async def _listen_tcp(
    runner: web.AppRunner, host: str, port: int, key: str = "listen"
) -> tuple[str, int]:
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise LocalError(
            f"can't listen on {host}:{port}: {error.strerror or error}; change [api] {key}"
        ) from error
    bound = runner.addresses[-1]
    return bound[0], bound[1]


def load_token(path: Path) -> str:
    """Return the bearer token in ``path``; a missing one is drawn and kept with mode 0600.

    Raises:
        LocalError: the file can't be read or made, is empty, or others can read it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_token(path)
        if path.stat().st_mode & 0o077:
            raise LocalError(f"others can read the API token: run chmod 600 {path}")
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"the API token {path} can't be used: {error}") from error
    if not token:
        raise LocalError(f"the API token file {path} is empty: delete it and start again")
    return token


def _make_token(path: Path) -> None:
    # Created with its mode, not changed to it: there is no moment in which others can read it.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
