"""Keeps one end of a connection alive while a person carries a text to the other end.

ICE expects both ends within seconds. aioice sends the checks of a pair of addresses for 63 s and
then gives the connection up, and a NAT forgets in as little as 30 s that it may let the other end
in. So two things are done, both within the rules of ICE:

- The answerer is not told that it has heard of all the offerer's addresses (RFC 8838: no end of
  candidates), and then aioice waits for more instead of failing. When the offerer's first check
  comes in, the pair is checked again, whatever had become of it (RFC 8445, 7.3.1.4).
- Until then the answerer goes on sending a check over every pair, which opens its NAT and firewall
  to the offerer. The offerer, which has nobody to check yet, keeps what its NAT remembers by a
  word to the STUN server (RFC 8445, 11) if it uses one; TURN allocations aioice renews itself.

DTLS begins only once ICE has a pair, so none of its timeouts runs meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from aioice import Connection, stun
from aioice.ice import StunProtocol

from dreamer.protocol.limits import CONNECT_CHECK_INTERVAL_S, CONNECT_KEEPALIVE_S

log = logging.getLogger(__name__)

_END_OF_CANDIDATES = "a=end-of-candidates\r\n"


def open_ended(sdp: str) -> str:
    """Return a description without the line that says that no more addresses will come."""
    return sdp.replace(_END_OF_CANDIDATES, "")


async def keep_checking(ice: Connection) -> None:
    """Send a check over every pair now and then, until one of them is to be used."""
    while not ice._nominated:
        await asyncio.sleep(CONNECT_CHECK_INTERVAL_S)
        for pair in list(ice._check_list):
            assert ice.remote_password is not None, "checks begin with the remote description"
            # Nobody waits for the answer: what counts is the check that comes back for it.
            check = ice.build_request(pair, nominate=False)
            check.add_message_integrity(ice.remote_password.encode())
            pair.protocol.send_stun(check, pair.remote_addr)


async def keep_mappings(ice: Connection) -> None:
    """Have the NAT remember every socket of ours, until cancelled."""
    if ice.stun_server is None:
        return
    host, port = ice.stun_server
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except OSError as error:
        log.warning("can't keep NAT mappings: no address of %s: %s", host, error)
        return
    server = found[0][4]
    while True:
        await asyncio.sleep(CONNECT_KEEPALIVE_S)
        for protocol in filter(_behind_nat, ice._protocols):
            # An indication has no answer.
            word = stun.Message(stun.Method.BINDING, stun.Class.INDICATION)
            protocol.send_stun(word, (str(server[0]), int(server[1])))


def _behind_nat(protocol: StunProtocol) -> bool:
    candidate = protocol.local_candidate
    return candidate.type == "host" and "." in candidate.host
