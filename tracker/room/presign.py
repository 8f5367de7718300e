"""Presigned S3 URLs for members, so that nodes need no credentials of their own.

``POST /rooms/<room>/presign``; ``protocol/presign.py`` has the form. The owner of the tracker says
which bucket and prefix belong to a room; members can only name content in there. Signing asks
nobody: it is computed here (AWS Signature Version 4, in the query).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.garbage.keys import check_member_key
from dreamer.protocol.ids import RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import ORIGIN_UPLOADS_LOOKED_AT, PRESIGN_REGIONS_MAX
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest, parse_requests
from dreamer.protocol.rooms.certificate import REGISTRY_WRITERS, Role
from dreamer.protocol.rooms.membership import Member
from dreamer.protocol.tracker_limits import (
    PRESIGN_BODY_MAX_BYTES,
    PRESIGN_URLS_BURST,
    PRESIGN_URLS_PER_S,
    PRESIGNED_URL_TTL_S,
    PRESIGNED_WRITE_TTL_S,
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
    Operation.LIST_UPLOADS: "list_multipart_uploads",
    Operation.READ_REGISTRY: "get_object",
    Operation.WRITE_REGISTRY: "put_object",
}

_SIGNED_HEADERS = {
    "If-Match": "IfMatch",
    "If-None-Match": "IfNoneMatch",
    "Content-MD5": "ContentMD5",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-checksum-type": "ChecksumType",
}
"""Headers that a URL can be bound to, and what boto3 calls them."""


class Signer:
    """Signs for one bucket, with credentials from where boto3 looks for them. Thread-safe."""

    def __init__(self, address: OriginAddress) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._made: dict[str | None, Any] = {}

    def sign(self, requests: tuple[UrlRequest, ...], ttl_s: int) -> SignedUrls:
        """Return URLs that are good for ``ttl_s`` seconds. Blocks while credentials are found.

        Raises:
            LocalError: this machine has no credentials.
        """
        from botocore.exceptions import BotoCoreError

        try:
            urls = [self._url(self._client(each.region), each, ttl_s) for each in requests]
        except BotoCoreError as error:
            raise LocalError(
                f"can't sign for {self.address} ({type(error).__name__}): give the tracker "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
            ) from error
        return SignedUrls(tuple(urls), ttl_s)

    def _url(self, client: Any, request: UrlRequest, ttl_s: int) -> str:
        params: dict[str, object] = {"Bucket": self.address.bucket}
        if request.operation is Operation.LIST_UPLOADS:
            # Of the bucket as a whole, but bound to what begins with this one key.
            params |= {"Prefix": request.key, "MaxUploads": ORIGIN_UPLOADS_LOOKED_AT}
        else:
            params["Key"] = request.key
        if request.upload is not None:
            params["UploadId"] = request.upload
        if request.part is not None:
            listing = request.operation is Operation.LIST_PARTS
            params["PartNumberMarker" if listing else "PartNumber"] = request.part
        # Headers that are given here are signed: without them, or with others, the URL is no good.
        params |= {_SIGNED_HEADERS[name]: value for name, value in request.headers.items()}
        if request.length is not None:
            params["ContentLength"] = request.length
        method = _CLIENT_METHODS[request.operation]
        url: str = client.generate_presigned_url(method, Params=params, ExpiresIn=ttl_s)
        return url

    def _client(self, region: str | None) -> Any:
        # boto3 clients may be shared by threads; making one may not.
        with self._lock:
            if region not in self._made:
                # A member may name any: there are fewer regions than this at any one provider.
                if len(self._made) >= PRESIGN_REGIONS_MAX:
                    self._made.clear()
                self._made[region] = self._make(region)
            return self._made[region]

    def _make(self, region: str | None) -> Any:
        # Here: a tracker that signs nothing is spared 40 MB.
        import boto3
        from botocore.config import Config

        endpoint_url = self.address.endpoint_url
        # Stores of one's own rarely have a DNS name for each bucket. At AWS, "auto" means the host
        # of all regions, which redirects: of no use once it is known which region it is.
        style = "path" if endpoint_url else "auto" if region is None else "virtual"
        session = boto3.session.Session()
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            # Else the URL would demand a checksum header that not every store knows.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region or session.region_name or _DEFAULT_REGION,
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
        requests = await _asked(request, signer.address, session.room_id)
        # A body may come slowly, and its sender may have been removed from the room meanwhile.
        session = self._auth.session(request)
        _check_rights(session.member, requests)
        # Every URL costs a token: a thousand in ten requests are no cheaper than in a thousand.
        whose, now = (session.room_id, session.member.node_id), self._auth.steady()
        if not all(self._paces.allows(whose, now) for _ in requests):
            raise web.HTTPTooManyRequests(text="too many URLs: slow down")
        # Who may write changes sooner than who may read content, which is named by its hash.
        brief = any(each.operation is Operation.WRITE_REGISTRY for each in requests)
        longest_s = PRESIGNED_WRITE_TTL_S if brief else PRESIGNED_URL_TTL_S
        ttl_s = int(max(1.0, min(longest_s, self._auth.lasts_s(session))))
        try:
            signed = await asyncio.to_thread(signer.sign, requests, ttl_s)
        except LocalError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response(signed.to_json(), headers={"Cache-Control": "no-store"})


def _check_rights(member: Member, requests: Sequence[UrlRequest]) -> None:
    if not member.may(*REGISTRY_WRITERS) and any(
        each.operation is Operation.WRITE_REGISTRY for each in requests
    ):
        raise web.HTTPForbidden(
            text="only publishers, workers and admins may write to the registry"
        )
    content = [each.operation for each in requests if not each.operation.of_registry]
    if not all(each.reads for each in content) and not member.may(Role.PUBLISHER, Role.ADMIN):
        raise web.HTTPForbidden(text="only publishers and admins may write to the origin")


async def _asked(
    request: web.Request, address: OriginAddress, room: RoomId
) -> tuple[UrlRequest, ...]:
    # Before reading, and of what was read: a length that is declared is only a word.
    if (request.content_length or 0) > PRESIGN_BODY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(PRESIGN_BODY_MAX_BYTES, request.content_length or 0)
    body = await request.read()
    if len(body) > PRESIGN_BODY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(PRESIGN_BODY_MAX_BYTES, len(body))
    try:
        requests = parse_requests(canonical.loads_lenient(body))
        for each in requests:
            if each.operation.of_registry:
                address.check_registry_key(each.key, room)
            else:
                check_member_key(address, room, each.key, reads=each.operation.reads)
    except InputError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    return requests
