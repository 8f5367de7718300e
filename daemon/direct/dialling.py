"""Dials all addresses of a peer at once, as eyeballs do: the first that works is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from dreamer.daemon.direct import greeting
from dreamer.daemon.direct.addresses import ip_of, may_dial
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import DIRECT_ADDRESSES_MAX, DIRECT_DECIDE_S

Taken = Callable[[ssl.SSLSocket, float], bool]
"""Takes a connection that was accepted, in a thread; False: it was closed, for it came too late."""


@dataclass(frozen=True)
class Dialled:
    """Whom to dial: where, what certificate it must show, and what to say there."""

    addresses: list[tuple[str, int]]
    fingerprint: bytes
    token: bytes
    same_host: bool


async def dial_all(
    dialled: Dialled, context: ssl.SSLContext, threads: Executor, taken: Taken
) -> bool:
    """Return True once a connection was taken; False when there was none within the time.

    Connecting costs no thread, so that addresses which never answer cost nothing; the greeting
    does, since it ends in a blocking socket.
    """
    deadline = time.monotonic() + DIRECT_DECIDE_S
    targets = await _targets(dialled, deadline)

    async def attempt(family: int, address: tuple[str, int]) -> bool:
        plain = await _connect(family, address, deadline)
        if plain is None:
            return False
        try:
            greeted = threads.submit(_greet, plain, dialled, context, deadline, taken)
        except RuntimeError:
            # The node is stopping.
            plain.close()
            return False
        try:
            return await asyncio.wrap_future(greeted)
        finally:
            if greeted.cancelled():
                plain.close()

    tasks = [asyncio.create_task(attempt(*target)) for target in targets]
    try:
        return await _first(tasks)
    finally:
        # A greeting in a thread goes on to its deadline and finds that it came too late.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(tasks: list[asyncio.Task[bool]]) -> bool:
    for done in asyncio.as_completed(tasks):
        if await done:
            return True
    return False


async def _targets(dialled: Dialled, deadline: float) -> dict[tuple[int, tuple[str, int]], None]:
    """Return family and address of each that may be dialled; names are looked up."""
    found: dict[tuple[int, tuple[str, int]], None] = {}
    for host, port in dialled.addresses:
        for text in await _resolved(host, deadline):
            ip = ip_of(text)
            if ip is not None and may_dial(ip, dialled.same_host):
                family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
                found[family, (str(ip), port)] = None
    return dict(list(found.items())[:DIRECT_ADDRESSES_MAX])


async def _resolved(host: str, deadline: float) -> list[str]:
    if ip_of(host) is not None:
        return [host]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic()) / 2):
            entries = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in entries]


async def _connect(family: int, address: tuple[str, int], deadline: float) -> socket.socket | None:
    plain = socket.socket(family, socket.SOCK_STREAM)
    plain.setblocking(False)
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            await asyncio.get_running_loop().sock_connect(plain, address)
    except (OSError, TimeoutError):
        plain.close()
        return None
    except asyncio.CancelledError:
        plain.close()
        raise
    return plain


def _greet(
    plain: socket.socket,
    dialled: Dialled,
    context: ssl.SSLContext,
    deadline: float,
    taken: Taken,
) -> bool:
    """Say the token, in a thread; return whether the connection was taken."""
    with contextlib.suppress(OSError):
        sock = greeting.shake_hands(plain, context, False, deadline)
        try:
            greeting.say_token(sock, dialled.fingerprint, dialled.token, deadline)
        except (OSError, RemoteProtocolError):
            sock.close()
            return False
        return taken(sock, deadline)
    return False
