"""Renewed TURN credentials against a server that judges every request, unlike coturn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aioice import stun
from aioice.turn import create_turn_endpoint, make_integrity_key

from dreamer.daemon.transport.turn_renewal import client_of, renew

REALM, NONCE = "lab", b"nonce"
PASSWORDS = {"old": "old password", "new": "new password", "newest": "newest password"}


class Socket(asyncio.DatagramProtocol):
    """One end, which can be waited for until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.closed.set()


class StrictServer(Socket):
    """Takes the user names in ``valid`` and no others, whatever was allocated before."""

    def __init__(self) -> None:
        super().__init__()
        self.valid = {"old"}
        self.taken: list[tuple[str, str]] = []

    def datagram_received(self, data, addr):
        asked = stun.parse_message(data)
        name = asked.attributes.get("USERNAME")
        kind = stun.Class.RESPONSE if name in self.valid else stun.Class.ERROR
        answer = stun.Message(asked.message_method, kind, asked.transaction_id)
        if name not in self.valid:
            answer.attributes["ERROR-CODE"] = (401, "Unauthorized")
            answer.attributes["REALM"], answer.attributes["NONCE"] = REALM, NONCE
            answer.add_fingerprint()
        else:
            self.taken.append((asked.message_method.name, name))
            answer.attributes["LIFETIME"] = 600
            if asked.message_method is stun.Method.ALLOCATE:
                answer.attributes["XOR-MAPPED-ADDRESS"] = addr
                answer.attributes["XOR-RELAYED-ADDRESS"] = ("192.0.2.1", 5000)
            answer.add_message_integrity(make_integrity_key(name, REALM, PASSWORDS[name]))
        self.transport.sendto(bytes(answer), addr)


@asynccontextmanager
async def allocation():
    loop = asyncio.get_running_loop()
    listening, server = await loop.create_datagram_endpoint(
        StrictServer, local_addr=("127.0.0.1", 0)
    )
    address = listening.get_extra_info("sockname")
    _, protocol = await create_turn_endpoint(Socket, address, "old", PASSWORDS["old"])
    try:
        yield server, protocol
    finally:
        server.valid = set(PASSWORDS)
        await client_of(protocol.transport).delete()
        listening.close()
        for end in (protocol, server):
            await end.closed.wait()


class Ice:
    """As much of an ICE connection as renewing looks at."""

    def __init__(self, protocol) -> None:
        self._protocols = [protocol]


def credentials(server, name: str, port: int | None = None) -> dict[str, str]:
    host, own = server.transport.get_extra_info("sockname")
    url = f"turn:{host}:{port or own}?transport=udp"
    return {"urls": url, "username": name, "credential": PASSWORDS[name]}


async def refresh(protocol) -> stun.Message:
    request = stun.Message(stun.Method.REFRESH, stun.Class.REQUEST)
    request.attributes["LIFETIME"] = 600
    answer, _ = await client_of(protocol.transport).request_with_retry(request)
    return answer


async def test_new_name_is_used_once_the_old_one_is_refused():
    async with allocation() as (server, protocol):
        renew(Ice(protocol), [credentials(server, "new")])
        await refresh(protocol)
        server.valid = {"new"}
        assert (await refresh(protocol)).attributes["LIFETIME"] == 600
        await refresh(protocol)
        assert server.taken == [
            *(("ALLOCATE", "old"), ("REFRESH", "old")),
            *(("REFRESH", "new"), ("REFRESH", "new")),
        ]


async def test_newest_of_several_renewals_counts():
    async with allocation() as (server, protocol):
        renew(Ice(protocol), [credentials(server, "new")])
        renew(Ice(protocol), [credentials(server, "newest")])
        server.valid = {"newest"}
        await refresh(protocol)
        assert server.taken[-1] == ("REFRESH", "newest")


async def test_credentials_of_another_server_are_not_used():
    async with allocation() as (server, protocol):
        renew(Ice(protocol), [credentials(server, "new", port=9)])
        server.valid = {"new"}
        with pytest.raises(stun.TransactionFailed, match="401"):
            await refresh(protocol)


async def test_refusal_of_both_names_is_an_error_and_no_loop():
    async with allocation() as (server, protocol):
        renew(Ice(protocol), [credentials(server, "new")])
        server.valid = set()
        with pytest.raises(stun.TransactionFailed, match="401"):
            await refresh(protocol)
