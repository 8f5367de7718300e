"""New TURN credentials for an allocation that stands, without a break.

aioice refreshes an allocation with the credentials that made it, which may have expired since. How
servers take that differs (RFC 8656, 7.2 and 9.1):

- coturn 4.6 looks at the time in a user name only when it meets it first. Refreshes go on under
  the old name for as long as the link lives, and another name for the same allocation is refused.
- A server that judges every request refuses the old name with 401.

So the old name is kept until it is refused, and only then the new one is used.
"""

from __future__ import annotations

from aioice import Connection as IceConnection
from aioice import stun
from aioice.turn import TurnClientMixin, TurnTransport, make_integrity_key
from aioice.utils import random_transaction_id

from dreamer.daemon.transport.relay_meter import CountedTransport
from dreamer.daemon.transport.turn_servers import TurnServer, turn_servers

UNAUTHORIZED = 401

Answer = tuple[stun.Message, tuple[str, int]]


def renew(ice: IceConnection, ice_servers: list[dict[str, str]]) -> None:
    """Have every allocation of a connection fall back on new credentials of its own server."""
    servers = turn_servers(ice_servers)
    for protocol in ice._protocols:
        transport: object = protocol.transport
        if isinstance(transport, CountedTransport):
            transport = transport.inner
        if isinstance(transport, TurnTransport):
            client = client_of(transport)
            for server in servers:
                if server.address == client.server:
                    _fall_back(client, server)
                    break


def client_of(transport: TurnTransport) -> TurnClientMixin:
    """Return what speaks to the TURN server; aioice keeps it to itself."""
    client: TurnClientMixin = vars(transport)["_TurnTransport__inner_protocol"]
    return client


def _fall_back(client: TurnClientMixin, server: TurnServer) -> None:
    async def request_with_retry(request: stun.Message) -> Answer:
        try:
            return await TurnClientMixin.request_with_retry(client, request)
        except stun.TransactionFailed as error:
            refused = error.response.error_code == UNAUTHORIZED
            if not refused or client.username == server.username or client.realm is None:
                raise
        name, password = server.username or "", server.password or ""
        client.username, client.password = name, password
        client.integrity_key = make_integrity_key(name, client.realm, password)
        request.transaction_id = random_transaction_id()
        return await TurnClientMixin.request_with_retry(client, request)

    vars(client).update(request_with_retry=request_with_retry)
