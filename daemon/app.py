"""Runs a node: takes hold of its home, starts its parts in their order, ends them in the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from dreamer.daemon.assembly import Assembly
from dreamer.daemon.config import Config
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.embedded_tracker import embedded_tracker
from dreamer.daemon.node import DreamerNode
from dreamer.daemon.places import Places
from dreamer.daemon.process_lock import ProcessLock
from dreamer.daemon.rest.app import OPEN_INFERENCE, make_app
from dreamer.daemon.rest.serve import load_token, probing, serving
from dreamer.daemon.setting_checks import split_address
from dreamer.daemon.worker.starting import Starting
from dreamer.protocol.errors import LocalError

log = logging.getLogger(__name__)


async def _direct(config: Config) -> DirectEndpoint | None:
    network = config.network
    address = split_address(network.direct_listen)
    # With relay = "only" no address of this node may be told to anybody.
    if address is None or network.relay == "only":
        return None
    return await DirectEndpoint.open(*address, network.direct_addresses)


@asynccontextmanager
async def running_node(
    config: Config, places: Places, with_tracker: bool, starting: Starting | None = None
) -> AsyncIterator[DreamerNode]:
    """Run a node while the context lasts; it accepts on its socket once this yields.

    ``starting``: as what it is started; by default as a persistent node that was given nothing.

    Raises:
        LocalError: another daemon holds the home or the store, or a port is taken.
    """
    async with AsyncExitStack() as stack:
        lock = _hold_home(places)
        stack.callback(lock.close)
        tracker_url = None
        if with_tracker:
            beside = embedded_tracker(config.tracker, places)
            tracker_url = await stack.enter_async_context(beside)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        parts = Assembly(config, places, http, starting or Starting())
        # Last of all: links that close still tell what relays have carried for them.
        stack.callback(parts.state.close)
        stack.callback(parts.costs.close)
        # The group ends the node if the transport ends by a bug of ours.
        group = await stack.enter_async_context(asyncio.TaskGroup())
        transport = group.create_task(parts.transport.run())
        stack.push_async_callback(_cancelled, transport)
        parts.direct = await _direct(config)
        if parts.direct is not None:
            stack.push_async_callback(parts.direct.close)
        stack.push_async_callback(parts.close)
        # The first command may be to offer a link, which can't wait for a process to start.
        await parts.transport.ready.wait()
        parts.keeper.start()
        parts.costs.start(parts.tasks)
        parts.tasks.start(parts.pace.run())
        parts.tasks.start(parts.loop_lag.run())
        parts.tasks.start(parts.caches.run())
        parts.tasks.start(parts.link_rates.run())
        node = parts.node(tracker_url)
        await _serve(stack, config, places, node)
        parts.tasks.start(node.readiness.run())
        yield node


async def _serve(stack: AsyncExitStack, config: Config, places: Places, node: DreamerNode) -> None:
    """Accept on the Unix socket, and wherever else the settings ask for it."""
    api = config.api
    rest, grpc = split_address(api.listen), split_address(api.grpc_listen)
    token = load_token(_token_file(config, places)) if rest or grpc else None
    mode = int(api.socket_mode, 8)
    app = make_app(node, token if rest else None, places.blobs)
    await stack.enter_async_context(serving(app, places.socket, socket_mode=mode, tcp=rest))
    if api.grpc_listen:
        # Not loaded where nobody asks for it: grpcio takes 100 ms and some 20 MiB.
        from dreamer.daemon.grpc_api.serving import serving_grpc

        at = places.grpc_socket
        served = serving_grpc(
            app[OPEN_INFERENCE], node.readiness, at, socket_mode=mode, tcp=grpc, token=token
        )
        await stack.enter_async_context(served)
    if api.probe_listen:
        await stack.enter_async_context(probing(node.readiness, api.probe_listen))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _token_file(config: Config, places: Places) -> Path:
    return Path(config.api.token_file) if config.api.token_file else places.api_token


def _hold_home(places: Places) -> ProcessLock:
    refusal = (
        f"the home {places.home} is in use by dreamerd with process id {{pid}}: stop that one "
        "first, or choose another --home"
    )
    try:
        places.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ProcessLock(places.lock, refusal)
    except OSError as error:
        raise LocalError(f"can't use the home {places.home}: {error}") from error
