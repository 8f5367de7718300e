"""A room's registry document at a tracker, read and written over HTTP under its ETag."""

from __future__ import annotations

import io

import aiohttp

from dreamer.daemon.rendezvous import messages
from dreamer.daemon.rendezvous.services import TrackerBusyError
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError, RemoteError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.tracker_limits import (
    TRACKER_ETAG_MAX_CHARS,
    TRACKER_REGISTRY_MAX_BYTES,
    TRACKER_REQUEST_TIMEOUT_S,
)

_EXPLANATION_MAX_BYTES = 300


class TrackerRegistry:
    """The document of one room at one tracker; remembers the last copy to spare fetching it."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, room_id: RoomId) -> None:
        self._http = http
        self._base_url = base_url
        self._url = f"{base_url}/rooms/{room_id.hex()}/registry"
        self._timeout = aiohttp.ClientTimeout(total=TRACKER_REQUEST_TIMEOUT_S)
        self._known: tuple[bytes, str] | None = None

    async def read(self, bearer: str) -> tuple[bytes, str] | None:
        """Return the document and its ETag; None when the room has none yet.

        Raises:
            TrackerBusyError: it wants to be asked more slowly.
            RemoteError: the tracker can't be reached or answers something else.
            ForbiddenError: it doesn't let us.
        """
        headers = {"Authorization": f"Bearer {bearer}"}
        if self._known is not None:
            headers["If-None-Match"] = self._known[1]
        try:
            async with self._http.get(
                self._url, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status == 404:
                    return None
                if response.status != 304:
                    self._known = await self._document(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        return self._known

    async def write(self, bearer: str, body: bytes, etag: str | None) -> str:
        """Replace the document that has ``etag``, or make the first one (None); return its ETag.

        Raises:
            ConflictError: the document is another by now; nothing was written.
            TrackerBusyError: it wants to be asked more slowly; nothing was written.
            ForbiddenError: this node may not publish.
            InputError: the document is too large or no JSON object.
            RemoteError: the tracker can't be reached; the document may have been written.
        """
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        headers = {"Authorization": f"Bearer {bearer}", **condition}
        try:
            async with self._http.put(
                self._url,
                data=io.BytesIO(body),  # read piece by piece: a registry may be megabytes
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 201, 204):
                    raise await self._problem(response)
                written = self._etag(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        self._known = (body, written)
        return written

    async def _document(self, response: aiohttp.ClientResponse) -> tuple[bytes, str]:
        if response.status != 200:
            raise await self._problem(response)
        # Counted as it comes: the length that a server declares is only its word.
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > TRACKER_REGISTRY_MAX_BYTES:
                raise RemoteError(f"the registry at {self._base_url} is too large to be one")
        return bytes(body), self._etag(response)

    def _etag(self, response: aiohttp.ClientResponse) -> str:
        etag = response.headers.get("ETag", "")
        # It goes into headers of ours, where other characters raise what nobody expects.
        sound = etag.isascii() and etag.isprintable() and len(etag) <= TRACKER_ETAG_MAX_CHARS
        if not etag or not sound:
            raise RemoteError(f"{self._base_url} sends no usable ETag: is it a dreamer-tracker?")
        return etag

    async def _problem(self, response: aiohttp.ClientResponse) -> Exception:
        sent = await response.content.read(_EXPLANATION_MAX_BYTES)
        said = messages.shown(sent.decode(errors="replace"))
        match response.status:
            case 409 | 412:
                return ConflictError("the registry was changed by another node: read it again")
            case 403:
                return ForbiddenError(f"the tracker refuses: {said}")
            case 400 | 413:
                return InputError(f"the tracker can't take this registry: {said}")
            case 429:
                return TrackerBusyError(f"tracker {self._base_url} is busy: {said}")
            case 507:
                return RemoteError(f"tracker {self._base_url} refuses: {said}")
            case 401:
                return RemoteError(f"logged out at tracker {self._base_url}: try again in a moment")
        return RemoteError(f"tracker {self._base_url} answered HTTP {response.status}: {said}")

    def _unreachable(self, error: Exception) -> RemoteError:
        why = str(error) or type(error).__name__
        return RemoteError(
            f"can't reach tracker {self._base_url}: {why}; check that dreamer-tracker runs there"
        )
