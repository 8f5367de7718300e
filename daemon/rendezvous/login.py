"""Opening a tracker's ``/room`` and proving who we are."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from dreamer.daemon.rendezvous import messages
from dreamer.daemon.rendezvous.messages import Challenge, Refused, Welcome
from dreamer.protocol.errors import ForbiddenError, RemoteError, RemoteProtocolError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import Chain
from dreamer.protocol.tracker_limits import (
    TRACKER_CONNECT_TIMEOUT_S,
    TRACKER_HEARTBEAT_S,
    TRACKER_ROOM_MESSAGE_MAX_BYTES,
    TRACKER_STOP_TIMEOUT_S,
)

_PASSING_CODES = ("full",)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

Socket = aiohttp.ClientWebSocketResponse


class TrackerRefusedError(ForbiddenError):
    """The tracker turns this node away. ``passing``: trying again soon may help."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.passing = refused.code in _PASSING_CODES


def dialled(url: str) -> str:
    """Return what the ``Host`` header says of a tracker at this base URL: HOST:PORT.

    Without the port where it is the scheme's own. The login is signed over it, so that a tracker
    that passes our login on to another of the room's trackers is found out there.
    """
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme])


async def log_in(
    http: aiohttp.ClientSession, url: str, room_id: RoomId, key: SigningKey, chain: Chain
) -> tuple[Socket, Welcome]:
    """Return an open websocket on which the tracker has said welcome; the caller closes it.

    Raises:
        TrackerRefusedError: it refuses this node.
        RemoteError: it can't be reached, is too slow, or isn't a tracker.
    """
    try:
        async with asyncio.timeout(TRACKER_CONNECT_TIMEOUT_S):
            socket = await http.ws_connect(
                f"{url}/room",
                # Said as it is signed: others may write the same name in another way.
                headers={"Host": dialled(url)},
                heartbeat=TRACKER_HEARTBEAT_S,
                max_msg_size=TRACKER_ROOM_MESSAGE_MAX_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=TRACKER_STOP_TIMEOUT_S),
            )
            try:
                return socket, await _prove(socket, dialled(url), room_id, key, chain)
            except BaseException:
                await socket.close()
                raise
    # Each reason is told apart, for a person has to find out which it is.
    except aiohttp.WSServerHandshakeError as error:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise RemoteError("too many nodes log in from this address: waiting a while") from error
        raise RemoteError(f"it answers HTTP {error.status}: is it a dreamer-tracker?") from error
    except TimeoutError as error:
        raise RemoteError(f"no welcome within {TRACKER_CONNECT_TIMEOUT_S:.0f} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise RemoteError(str(error) or type(error).__name__) from error


async def _prove(
    socket: Socket, tracker: str, room_id: RoomId, key: SigningKey, chain: Chain
) -> Welcome:
    challenge = messages.parse((await socket.receive()).data)
    if not isinstance(challenge, Challenge):
        raise RemoteProtocolError("it speaks another protocol: is it a dreamer-tracker?")
    await socket.send_str(messages.login(tracker, room_id, key, chain, challenge.nonce))
    said = messages.parse((await socket.receive()).data)
    match said:
        case Welcome():
            return said
        case Refused():
            raise TrackerRefusedError(said)
    raise RemoteProtocolError("it closed or said something else at the login")
