"""What TURN servers have given and nobody uses is given back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from aioice import Connection as IceConnection
from aioice import stun

from dreamer.daemon.transport import turn_servers
from dreamer.daemon.transport.connection import Connection, configuration
from dreamer.daemon.transport.turn_servers import TurnServer, use_first_that_answers

DEADLINE_S = 10.0


class Relay:
    """An address at a relay, which can be closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.transport = self
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Servers:
    """TURN servers that give their addresses when the test says so."""

    def __init__(self, *names: str) -> None:
        self.relays = {name: Relay(name) for name in names}
        self.answers = {name: asyncio.Future() for name in names}
        self.asked = asyncio.Event()

    async def allocate(self, ice, component, server):
        if server.username == list(self.relays)[-1]:
            self.asked.set()
        return await self.answers[server.username]

    def answer(self, *names: str) -> None:
        for name in names:
            self.answers[name].set_result((name, self.relays[name]))

    @property
    def left_open(self) -> list[str]:
        return [relay.name for relay in self.relays.values() if not relay.closed]


@pytest.fixture
def gathering(monkeypatch):
    """Return a function that begins to gather from servers by name."""

    def begin(*names: str) -> tuple[Servers, IceConnection, asyncio.Task]:
        servers = Servers(*names)
        monkeypatch.setattr(turn_servers, "_allocate", servers.allocate)
        monkeypatch.setattr(turn_servers, "TURN_HEAD_START_S", 0.0)
        ice = IceConnection(ice_controlling=True)
        listed = [TurnServer(("192.0.2.1", 1), "udp", False, name, "") for name in names]
        use_first_that_answers(ice, listed)
        return servers, ice, asyncio.create_task(ice.get_component_candidates(1, []))

    return begin


async def settled(task: asyncio.Task) -> object:
    async with asyncio.timeout(DEADLINE_S):
        result = await task
    # What is given back is so in callbacks of the same turn.
    await asyncio.sleep(0)
    return result


async def test_of_relays_that_come_at_once_one_is_used_and_the_others_given_back(gathering):
    servers, ice, task = gathering("first", "second", "third")
    await servers.asked.wait()
    servers.answer("first", "second", "third")
    (used,) = await settled(task)
    assert servers.left_open == [used]
    assert ice._protocols == [servers.relays[used]]


class OpenServer(asyncio.DatagramProtocol):
    """A TURN server without credentials that gives addresses when told, and notes what it has."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.freed = asyncio.Event()
        self.waiting: list[tuple[stun.Message, tuple[str, int]]] = []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        asked = stun.parse_message(data)
        if asked.message_method is stun.Method.ALLOCATE:
            self.waiting.append((asked, addr))
            self.asked.set()
        elif asked.attributes.get("LIFETIME") == 0:
            self.freed.set()
            self.answer(asked, addr)

    def give(self) -> None:
        for asked, addr in self.waiting:
            self.answer(asked, addr)

    def answer(self, asked: stun.Message, addr: tuple[str, int]) -> None:
        said = stun.Message(asked.message_method, stun.Class.RESPONSE, asked.transaction_id)
        said.attributes["LIFETIME"] = 600
        said.attributes["XOR-MAPPED-ADDRESS"] = addr
        said.attributes["XOR-RELAYED-ADDRESS"] = ("192.0.2.1", 5000)
        self.transport.sendto(bytes(said), addr)


@pytest.mark.parametrize("others", [0, 1])
async def test_connection_closed_while_it_gathers_leaves_nothing_at_the_relay(others):
    listening, server = await asyncio.get_running_loop().create_datagram_endpoint(
        OpenServer, local_addr=("127.0.0.1", 0)
    )
    port = listening.get_extra_info("sockname")[1]
    known = {"urls": f"turn:127.0.0.1:{port}?transport=udp", "username": "a", "credential": "b"}
    ice_servers = [known] * (1 + others)
    with ThreadPoolExecutor(1) as writers:
        connection = Connection(
            *(1, configuration(ice_servers, True), writers, lambda event: None),
            turn_servers.turn_servers(ice_servers),
        )
        offering = asyncio.create_task(connection.offer())
        async with asyncio.timeout(DEADLINE_S):
            await server.asked.wait()
            await connection.close()
            server.give()
            await asyncio.gather(offering, return_exceptions=True)
            await server.freed.wait()
    listening.close()
