"""Presigned S3 URLs for members, so that nodes need no credentials of their own.

``POST /rooms/<room>/presign``; ``protocol/presign.py`` has the form. The owner of the tracker says
which bucket and prefix belong to a room; members can only name content in there. Signing asks
nobody: it is computed here (AWS Signature Version 4, in the query).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest, parse_requests
from dreamer.protocol.rooms.certificate import Role
from dreamer.protocol.tracker_limits import (
    PRESIGN_BODY_MAX_BYTES,
    PRESIGN_URLS_BURST,
    PRESIGN_URLS_PER_S,
    PRESIGNED_URL_TTL_S,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room.session_auth import SessionAuth

# It would log every signature, should somebody have everything logged.
logging.getLogger("botocore").setLevel(logging.WARNING)

_DEFAULT_REGION = "us-east-1"
_CLIENT_METHODS = {
    Operation.GET: "get_object",
    Operation.HEAD: "head_object",
    Operation.PUT: "put_object",
    Operation.CREATE_UPLOAD: "create_multipart_upload",
    Operation.PUT_PART: "upload_part",
    Operation.LIST_PARTS: "list_parts",
    Operation.COMPLETE_UPLOAD: "complete_multipart_upload",
    Operation.ABORT_UPLOAD: "abort_multipart_upload",
}


class Signer:
    """Signs for one bucket, with credentials from where boto3 looks for them. Thread-safe."""

    def __init__(self, address: OriginAddress) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._made: Any = None

    def sign(self, requests: tuple[UrlRequest, ...], ttl_s: int) -> SignedUrls:
        """Return URLs that are good for ``ttl_s`` seconds. Blocks while credentials are found.

        Raises:
            LocalError: this machine has no credentials.
        """
        from botocore.exceptions import BotoCoreError

        try:
            client = self._client()
            urls = [self._url(client, request, ttl_s) for request in requests]
        except BotoCoreError as error:
            raise LocalError(
                f"can't sign for {self.address} ({type(error).__name__}): give the tracker "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
            ) from error
        return SignedUrls(tuple(urls), ttl_s)

    def _url(self, client: Any, request: UrlRequest, ttl_s: int) -> str:
        params: dict[str, object] = {"Bucket": self.address.bucket, "Key": request.key}
        if request.upload is not None:
            params["UploadId"] = request.upload
        if request.part is not None:
            listing = request.operation is Operation.LIST_PARTS
            params["PartNumberMarker" if listing else "PartNumber"] = request.part
        method = _CLIENT_METHODS[request.operation]
        url: str = client.generate_presigned_url(method, Params=params, ExpiresIn=ttl_s)
        return url

    def _client(self) -> Any:
        # boto3 clients may be shared by threads; making one may not.
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Any:
        # Here: a tracker that signs nothing is spared 40 MB.
        import boto3
        from botocore.config import Config

        endpoint_url = self.address.endpoint_url
        session = boto3.session.Session()
        config = Config(
            signature_version="s3v4",
            # Stores of one's own rarely have a DNS name for each bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # Else the URL would demand a checksum header that not every store knows.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=session.region_name or _DEFAULT_REGION,
            config=config,
        )


class PresignHandler:
    """Answers members of the rooms that ``origins`` names."""

    def __init__(self, auth: SessionAuth, origins: Mapping[RoomId, OriginAddress]) -> None:
        self._auth = auth
        self._signers = {room: Signer(address) for room, address in origins.items()}
        self._paces = Paces(PRESIGN_URLS_PER_S, PRESIGN_URLS_BURST)

    async def post(self, request: web.Request) -> web.Response:
        """Hand out URLs."""
        session = self._auth.session(request)
        signer = self._signers.get(session.room_id)
        if signer is None:
            raise web.HTTPNotFound(
                text="this tracker signs no URLs for this room: its owner can add the room to "
                "[tracker.origins]"
            )
        requests = await _asked(request, signer.address)
        # A body may come slowly, and its sender may have been removed from the room meanwhile.
        session = self._auth.session(request)
        writes = any(not each.operation.reads for each in requests)
        if writes and not session.member.may(Role.PUBLISHER, Role.ADMIN):
            raise web.HTTPForbidden(text="only publishers and admins may write to the origin")
        # Every URL costs a token: a thousand in ten requests are no cheaper than in a thousand.
        whose, now = (session.room_id, session.member.node_id), self._auth.steady()
        if not all(self._paces.allows(whose, now) for _ in requests):
            raise web.HTTPTooManyRequests(text="too many URLs: slow down")
        ttl_s = int(max(1.0, min(PRESIGNED_URL_TTL_S, self._auth.lasts_s(session))))
        try:
            signed = await asyncio.to_thread(signer.sign, requests, ttl_s)
        except LocalError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response(signed.to_json(), headers={"Cache-Control": "no-store"})


async def _asked(request: web.Request, address: OriginAddress) -> tuple[UrlRequest, ...]:
    # Before reading, and of what was read: a length that is declared is only a word.
    if (request.content_length or 0) > PRESIGN_BODY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(PRESIGN_BODY_MAX_BYTES, request.content_length or 0)
    body = await request.read()
    if len(body) > PRESIGN_BODY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(PRESIGN_BODY_MAX_BYTES, len(body))
    try:
        requests = parse_requests(canonical.loads_lenient(body))
        for each in requests:
            address.check_key(each.key)
    except InputError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    return requests
