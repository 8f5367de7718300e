"""Which TURN server a connection uses: the first of several that gives an address.

aioice knows one. Where UDP is blocked that one may never answer, though the next in the list is
the same relay over TCP. So each has a head start before the next is asked too, and what comes
second is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from aioice import Candidate, TransportPolicy
from aioice import Connection as IceConnection
from aioice.ice import StunProtocol, relayed_candidate
from aiortc.rtcconfiguration import RTCIceServer
from aiortc.rtcicetransport import connection_kwargs

from dreamer.protocol.limits import TURN_GATHER_TIMEOUT_S, TURN_HEAD_START_S

Relay = tuple[Candidate, StunProtocol]


@dataclass(frozen=True)
class TurnServer:
    """A TURN server as aioice dials it; ``transport`` is ``udp`` or ``tcp``."""

    address: tuple[str, int]
    transport: str
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


def turn_servers(ice_servers: list[dict[str, str]]) -> list[TurnServer]:
    """Return the TURN servers of a list that aiortc can use, in its order."""
    each = (connection_kwargs([RTCIceServer(**server)]) for server in ice_servers)
    return [
        TurnServer(
            found["turn_server"],
            found["turn_transport"],
            found["turn_ssl"],
            found["turn_username"],
            found["turn_password"],
        )
        for found in each
        if "turn_server" in found
    ]


def use_first_that_answers(ice: IceConnection, servers: Sequence[TurnServer]) -> None:
    """Have a connection that has not gathered yet try all of these servers."""
    gather = ice.get_component_candidates
    # aioice shall ask none itself.
    ice.turn_server = None

    async def get_component_candidates(component: int, addresses: list[str]) -> list[Candidate]:
        relay, candidates = await asyncio.gather(
            _first_relay(ice, component, servers), gather(component, addresses)
        )
        if relay is None:
            return candidates
        candidate, protocol = relay
        ice._protocols.append(protocol)
        return [*candidates, candidate]

    vars(ice).update(get_component_candidates=get_component_candidates)


async def _first_relay(
    ice: IceConnection, component: int, servers: Sequence[TurnServer]
) -> Relay | None:
    asked: list[asyncio.Task[Relay]] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TURN_GATHER_TIMEOUT_S
    try:
        for server in [*servers, None]:
            if server is not None:
                asked.append(loop.create_task(_allocate(ice, component, server)))
            patience_s = TURN_HEAD_START_S if server is not None else deadline - loop.time()
            if (relay := await _answer(asked, patience_s)) is not None:
                return relay
        return None
    finally:
        for task in asked:
            task.cancel()
            # Several may have succeeded in the same turn of the loop.
            task.add_done_callback(_give_back)


def _give_back(asked: asyncio.Task[Relay]) -> None:
    """Free an address at a relay that nobody will use; else it would be refreshed for ever."""
    if not asked.cancelled() and asked.exception() is None:
        _, protocol = asked.result()
        protocol.transport.close()


async def _answer(asked: list[asyncio.Task[Relay]], patience_s: float) -> Relay | None:
    """Return what the first of them brought that succeeded, if one does so in time."""
    waiting = {task for task in asked if not task.done()}
    ends = asyncio.get_running_loop().time() + patience_s
    while waiting and (left_s := ends - asyncio.get_running_loop().time()) > 0:
        done, waiting = await asyncio.wait(
            waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            if not task.cancelled() and task.exception() is None:
                asked.remove(task)
                return task.result()
    return None


async def _allocate(ice: IceConnection, component: int, server: TurnServer) -> Relay:
    return await relayed_candidate(
        component=component,
        # As aioice does: nothing shall show a host that only a relay may show.
        hide_related_address=ice._transport_policy == TransportPolicy.RELAY,
        protocol_factory=lambda: StunProtocol(ice),
        turn_server=server.address,
        turn_username=server.username,
        turn_password=server.password,
        turn_ssl=server.tls,
        turn_transport=server.transport,
    )
