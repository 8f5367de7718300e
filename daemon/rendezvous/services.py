"""What a tracker does for members over HTTP: TURN credentials, presigned S3 URLs, reports."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from dreamer.daemon.rendezvous import messages
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError, RemoteProtocolError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.presign import SignedUrls, UrlRequest, parse_signed, requests_to_json
from dreamer.protocol.registry.handed_in import HandedIn
from dreamer.protocol.tracker_limits import PRESIGN_TIMEOUT_S, TRACKER_SERVICE_ANSWER_MAX_BYTES
from dreamer.protocol.turn import TurnCredentials, parse_credentials

_EXPLANATION_MAX_BYTES = 300


class TrackerBusyError(RemoteError):
    """The tracker wants to be asked more slowly."""


class TrackerServices:
    """The services of one tracker for one room; ``bearer`` is the session's token."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, room_id: RoomId) -> None:
        self._http = http
        self._base_url = base_url
        self._below = f"{base_url}/rooms/{room_id.hex()}"
        self._timeout = aiohttp.ClientTimeout(total=PRESIGN_TIMEOUT_S)

    async def turn(self, bearer: str) -> TurnCredentials | None:
        """Return credentials for the tracker's TURN servers; None when it has none.

        Raises:
            RemoteError: the tracker can't be reached or answers something else.
        """
        answer = await self._ask("GET", "turn", bearer, None)
        try:
            return None if answer is None else parse_credentials(answer)
        except InputError as error:
            raise self._nonsense(error) from error

    async def presign(self, bearer: str, requests: Sequence[UrlRequest]) -> SignedUrls | None:
        """Return the URLs asked for; None when the tracker signs none for this room.

        Raises:
            TrackerBusyError: it wants to be asked more slowly.
            ForbiddenError: this node may not write.
            InputError: it signs for another place than the one asked for.
            RemoteError: the tracker can't be reached or answers something else.
        """
        answer = await self._ask("POST", "presign", bearer, requests_to_json(requests))
        try:
            return None if answer is None else parse_signed(answer, len(requests))
        except InputError as error:
            raise self._nonsense(error) from error

    async def report(self, bearer: str, handed: HandedIn) -> bool:
        """Have a report entered into the registry; False when the tracker has none, or is older.

        Raises:
            TrackerBusyError: it wants to be asked more slowly.
            ForbiddenError: it does not take the report.
            RemoteError: the tracker can't be reached, or can't enter it now.
        """
        return await self._ask("POST", "report", bearer, handed.to_json()) is not None

    async def _ask(self, method: str, service: str, bearer: str, body: Json | None) -> Json | None:
        try:
            async with self._http.request(
                method,
                f"{self._below}/{service}",
                json=body,
                headers={"Authorization": f"Bearer {bearer}"},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise await self._problem(response)
                return await self._json(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise RemoteError(f"can't reach tracker {self._base_url}: {why}") from error

    async def _json(self, response: aiohttp.ClientResponse) -> Json:
        # Counted as it comes: the length that a server declares is only its word.
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > TRACKER_SERVICE_ANSWER_MAX_BYTES:
                raise RemoteProtocolError(f"the answer of tracker {self._base_url} is too large")
        try:
            return canonical.loads_lenient(bytes(body))
        except InputError as error:
            raise self._nonsense(error) from error

    async def _problem(self, response: aiohttp.ClientResponse) -> Exception:
        sent = await response.content.read(_EXPLANATION_MAX_BYTES)
        said = messages.shown(sent.decode(errors="replace"))
        match response.status:
            case 400 | 413:
                return InputError(f"tracker {self._base_url} refuses: {said}")
            case 401:
                return RemoteError(f"logged out at tracker {self._base_url}: try again in a moment")
            case 403:
                return ForbiddenError(f"tracker {self._base_url} refuses: {said}")
            case 429:
                return TrackerBusyError(f"tracker {self._base_url} is busy: {said}")
        return RemoteError(f"tracker {self._base_url} answered HTTP {response.status}: {said}")

    def _nonsense(self, error: InputError) -> RemoteProtocolError:
        return RemoteProtocolError(f"tracker {self._base_url} answers nonsense: {error}")
