"""Presigned URLs: who gets them, for which keys, how long they last. No S3 server is asked."""

from __future__ import annotations

import json
import logging
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from dreamer.protocol.origin import parse_origin
from dreamer.protocol.rooms.certificate import Certificate, Kind, parse_roles
from dreamer.protocol.tracker_limits import (
    PRESIGN_BODY_MAX_BYTES,
    PRESIGN_MAX_PER_REQUEST,
    PRESIGN_URLS_BURST,
    PRESIGNED_URL_TTL_S,
    PRESIGNED_WRITE_TTL_S,
)
from dreamer.tracker.room.lends import Lends

HEX = "ab" * 32
KEY = f"lab/files/{HEX}"
ORIGIN = parse_origin("s3://models/lab", "https://minio.lab:9000")
READS = ({"operation": "get", "key": KEY}, {"operation": "head", "key": KEY})
WRITES = (
    {"operation": "put", "key": KEY},
    {"operation": "create-upload", "key": KEY},
    {"operation": "put-part", "key": KEY, "upload": "u/1", "part": 3},
    {"operation": "list-parts", "key": KEY, "upload": "u/1"},
    {"operation": "complete-upload", "key": KEY, "upload": "u/1"},
    {"operation": "abort-upload", "key": KEY, "upload": "u/1"},
    {"operation": "put", "key": f"{KEY}.zst"},
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path, descriptions_read_once):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def signing(documents, serving, insiders):
    lends = Lends(origins={insiders[0].room_id: ORIGIN})
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, lends=lends) as running,
    ):
        yield running


class Asker:
    """A member's HTTP side."""

    def __init__(self, running, insider, session: str) -> None:
        self.path = f"{running.url}/rooms/{insider.room_id.hex()}/presign"
        self._http = running.http
        self.bearer = {"Authorization": f"Bearer {session}"}

    @classmethod
    async def enter(cls, running, insider) -> Asker:
        _, welcome = await insider.enter(running)
        return cls(running, insider, welcome["session"])

    async def post(self, body: bytes) -> tuple[int, str, dict]:
        async with self._http.post(self.path, data=body, headers=self.bearer) as response:
            return response.status, await response.text(), response.headers.copy()

    async def ask(self, *requests: dict) -> tuple[int, str]:
        status, text, _ = await self.post(json.dumps({"requests": requests}).encode())
        return status, text

    async def urls(self, *requests: dict) -> list[str]:
        status, text = await self.ask(*requests)
        assert status == 200, text
        return json.loads(text)["urls"]


async def test_member_gets_a_url_for_each_request_in_order(signing, insiders):
    asker = await Asker.enter(signing, insiders[0])
    status, text, headers = await asker.post(json.dumps({"requests": READS + WRITES}).encode())
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    said = json.loads(text)
    assert said["ttl"] == PRESIGNED_URL_TTL_S
    assert len(set(said["urls"])) == len(READS + WRITES)
    for url in said["urls"]:
        parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
        assert (parts.scheme, parts.netloc) == ("https", "minio.lab:9000")
        assert parts.path.removesuffix(".zst") == f"/models/{KEY}"
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == [str(PRESIGNED_URL_TTL_S)]
        assert query["X-Amz-SignedHeaders"] == ["host"]
        assert "sesame" not in url
    assert "partNumber=3" in said["urls"][4]
    assert "uploadId=u%2F1" in said["urls"][4]


async def test_bucket_at_amazon_is_signed_for_by_its_own_name(documents, serving, insiders):
    lends = Lends(origins={insiders[0].room_id: parse_origin("s3://models/lab", None)})
    async with aiohttp.ClientSession() as http, serving(documents, http, lends=lends) as running:
        asker = await Asker.enter(running, insiders[0])
        (url,) = await asker.urls(READS[0])
    assert url.startswith(f"https://models.s3.amazonaws.com/{KEY}?")


async def test_reads_are_for_every_member_and_writes_for_those_who_publish(signing, insider_of):
    member = await Asker.enter(signing, insider_of(1).invited(("member",), invite=1))
    publisher = insider_of(2).invited(("member", "publisher"), invite=2)
    assert len(await member.urls(*READS)) == 2
    for write in WRITES:
        status, text = await member.ask(*READS, write)
        assert status == 403
        assert "publishers" in text
    assert len(await (await Asker.enter(signing, publisher)).urls(*WRITES)) == len(WRITES)


def registry_key(insider) -> str:
    return f"lab/rooms/{insider.room_id.hex()}/manifest.json"


async def test_write_of_the_registry_is_signed_with_its_condition(signing, insiders):
    asker, key = await Asker.enter(signing, insiders[0]), registry_key(insiders[0])
    first = {"operation": "write-registry", "key": key}
    (url,) = await asker.urls(first)
    query = parse_qs(urlsplit(url).query)
    assert urlsplit(url).path == f"/models/{key}"
    assert query["X-Amz-SignedHeaders"] == ["host;if-none-match"]
    assert query["X-Amz-Expires"] == [str(PRESIGNED_WRITE_TTL_S)]
    (url,) = await asker.urls({**first, "etag": '"abc"'})
    assert parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"] == ["host;if-match"]
    (other,) = await asker.urls({**first, "etag": '"abd"'})
    assert url.partition("Signature=")[2] != other.partition("Signature=")[2]


async def test_registry_is_read_by_all_and_written_by_who_has_something_to_say(signing, insider_of):
    member = insider_of(1).invited(("member",), invite=1)
    key = registry_key(member)
    read, write = ({"operation": f"{verb}-registry", "key": key} for verb in ("read", "write"))
    asker = await Asker.enter(signing, member)
    assert len(await asker.urls(read)) == 1
    status, text = await asker.ask(read, write)
    assert (status, text) == (403, "only publishers, workers and admins may write to the registry")
    worker = await Asker.enter(signing, insider_of(2).invited(("member", "worker"), invite=2))
    assert len(await worker.urls(read, write)) == 2
    # Content is another matter.
    assert (await worker.ask(write, WRITES[0]))[0] == 403


@pytest.mark.parametrize("operation", ["read-registry", "write-registry"])
@pytest.mark.parametrize(
    "key",
    [
        KEY,
        f"lab/rooms/{'00' * 32}/manifest.json",
        "lab/rooms/manifest.json",
        "rooms/{room}/manifest.json",
        "lab/rooms/{room}/manifest.json/",
        "lab/rooms/{room}/probe-0000",
        "lab/rooms/{room}/../{room}/manifest.json",
    ],
)
async def test_registry_of_another_room_is_signed_for_nobody(signing, insiders, operation, key):
    asker = await Asker.enter(signing, insiders[0])
    named = key.replace("{room}", insiders[0].room_id.hex())
    status, text = await asker.ask({"operation": operation, "key": named})
    assert (status, "the registry of this room is" in text) == (400, True)


@pytest.mark.parametrize("operation", ["get", "put", "head", "create-upload"])
async def test_registry_is_never_signed_for_without_a_condition(signing, insiders, operation):
    asker = await Asker.enter(signing, insiders[0])
    asked = {"operation": operation, "key": registry_key(insiders[0])}
    assert (await asker.ask(asked))[0] == 400


@pytest.mark.parametrize(
    "more",
    [
        {"operation": "write-registry", "etag": ""},
        {"operation": "write-registry", "etag": "a\r\nx-amz-acl: public-read"},
        {"operation": "write-registry", "etag": '"a", "b"'},
        {"operation": "write-registry", "etag": '"a","b"'},
        {"operation": "write-registry", "etag": "*"},
        {"operation": "write-registry", "etag": "x" * 200},
        {"operation": "write-registry", "etag": 7},
        {"operation": "write-registry", "upload": "u"},
        {"operation": "read-registry", "etag": '"a"'},
    ],
)
async def test_malformed_request_for_the_registry_is_refused(signing, insiders, more):
    asker = await Asker.enter(signing, insiders[0])
    assert (await asker.ask({"key": registry_key(insiders[0]), **more}))[0] == 400


@pytest.mark.parametrize(
    "key",
    [
        "",
        "lab",
        "files/" + HEX,
        "lab2/files/" + HEX,
        "lab/../other/files/" + HEX,
        "lab/x/files/" + HEX,
        "/lab/files/" + HEX,
        "lab/files/" + HEX.upper(),
        "lab/files/" + HEX + "/",
        "lab/files/" + HEX[:-1],
        "lab/secrets/" + HEX,
        "lab/files/" + HEX + "?x",
        "lab//files/" + HEX,
    ],
)
async def test_key_that_names_no_content_of_the_room_is_refused(signing, insiders, key):
    asker = await Asker.enter(signing, insiders[0])
    status, text = await asker.ask({"operation": "get", "key": key})
    assert status == 400
    assert "keys of this room" in text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"requests": []}',
        b'{"requests": [1]}',
        b'{"requests": [{"operation": "delete", "key": "k"}]}',
        b'{"requests": [{"operation": "get"}]}',
        b'{"requests": [{"operation": "get", "key": 1}]}',
        b'{"requests": [{"operation": "get", "key": "k", "bucket": "b"}]}',
        b'{"requests": [{"operation": "get", "key": "k", "upload": "u"}]}',
        b'{"requests": [{"operation": "put", "key": "k", "part": 1}]}',
        b'{"requests": [{"operation": "put-part", "key": "k", "upload": "u"}]}',
        b'{"requests": [{"operation": "put-part", "key": "k", "upload": "u", "part": 0}]}',
        b'{"requests": [{"operation": "put-part", "key": "k", "upload": "u", "part": 10001}]}',
        b'{"requests": [{"operation": "put-part", "key": "k", "upload": "", "part": 1}]}',
        b'{"requests": [{"operation": "abort-upload", "key": "k"}]}',
    ],
)
async def test_request_of_another_form_is_refused(signing, insiders, body):
    asker = await Asker.enter(signing, insiders[0])
    assert (await asker.post(body))[0] == 400


async def test_as_many_urls_at_once_as_the_limit_says(signing, insiders):
    asker = await Asker.enter(signing, insiders[0])
    assert len(await asker.urls(*[READS[0]] * PRESIGN_MAX_PER_REQUEST)) == PRESIGN_MAX_PER_REQUEST
    assert (await asker.ask(*[READS[0]] * (PRESIGN_MAX_PER_REQUEST + 1)))[0] == 400
    assert (await asker.post(b" " * (PRESIGN_BODY_MAX_BYTES + 1)))[0] == 413


async def test_member_that_asks_for_too_much_is_slowed_down_alone(signing, insiders):
    greedy = await Asker.enter(signing, insiders[0])
    other = await Asker.enter(signing, insiders[1])
    signing.tracker._presign._auth.steady = lambda: 1000.0
    for _ in range(int(PRESIGN_URLS_BURST) // PRESIGN_MAX_PER_REQUEST):
        assert (await greedy.ask(*[READS[0]] * PRESIGN_MAX_PER_REQUEST))[0] == 200
    assert (await greedy.ask(READS[0]))[0] == 429
    assert (await other.ask(READS[0]))[0] == 200
    signing.tracker._presign._auth.steady = lambda: 1001.0
    assert (await greedy.ask(READS[0]))[0] == 200


async def test_stranger_gets_the_same_answer_for_every_room(signing, insiders, insider_of):
    foreign = await Asker.enter(signing, insider_of(1, room_seed=101))
    body = json.dumps({"requests": READS}).encode()
    own = foreign.path.rpartition("/rooms/")[0]
    answers = []
    for room in (insiders[0].room_id.hex(), "00" * 32, "x"):
        for bearer in ({}, foreign.bearer):
            foreign.path, headers = f"{own}/rooms/{room}/presign", foreign.bearer
            foreign.bearer = bearer
            answers.append((await foreign.post(body))[:2])
            foreign.bearer = headers
    assert set(answers) == {(401, "log in at /room first")}


async def test_room_without_a_bucket_is_told_so(signing, insider_of):
    foreign = await Asker.enter(signing, insider_of(1, room_seed=101))
    status, text = await foreign.ask(READS[0])
    assert status == 404
    assert "[tracker.origins]" in text


async def test_removed_member_gets_no_more_urls(signing, insiders):
    asker = await Asker.enter(signing, insiders[0])
    signing.tracker._sessions.end(insiders[0].room_id, lambda member: True)
    assert (await asker.ask(READS[0]))[0] == 401


async def test_member_removed_while_its_request_is_under_way_gets_no_urls(signing, insiders):
    asker = await Asker.enter(signing, insiders[0])

    async def slowly():
        yield b'{"requests": '
        # The handler waits for the rest by now: its answer to the next request says so.
        assert (await asker.ask(READS[0]))[0] == 200
        signing.tracker._sessions.end(insiders[0].room_id, lambda member: True)
        yield json.dumps(READS).encode() + b"}"

    assert (await asker.post(slowly()))[0] == 401


async def test_urls_end_with_the_membership(signing, insiders):
    insider, ends = insiders[0], 1_900_000_000
    issuer, roles = insider.room_key, parse_roles(["member"])
    unsigned = Certificate(
        insider.room_id, insider.key.public, Kind.NODE, roles, ends - 10**9, ends, issuer.public
    )
    insider.chain = (unsigned.signed_by(issuer),)
    asker = await Asker.enter(signing, insider)
    signing.tracker._presign._auth.wall = lambda: ends - 70.0
    (url,) = await asker.urls(READS[0])
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["70"]
    signing.tracker._presign._auth.wall = lambda: ends + 1.0
    assert (await asker.ask(READS[0]))[0] == 401


async def test_tracker_without_credentials_says_so(signing, insiders, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    asker = await Asker.enter(signing, insiders[0])
    status, text = await asker.ask(READS[0])
    assert status == 503
    assert "AWS_ACCESS_KEY_ID" in text


async def test_no_url_is_logged_even_when_everything_is(signing, insiders, caplog):
    caplog.set_level(logging.DEBUG)
    asker = await Asker.enter(signing, insiders[0])
    (url,) = await asker.urls(READS[0])
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    assert signature not in caplog.text


MD5 = "md5=" + "A" * 22 + "=="
CRC = "crc32=AAAAAA=="
BOUND = [
    (
        {"operation": "put", "key": KEY, "checksum": MD5, "length": 5},
        "content-length;content-md5;host",
    ),
    (
        {"operation": "put-part", "key": KEY, "upload": "u", "part": 1, "checksum": CRC},
        "host;x-amz-checksum-crc32",
    ),
    (
        {"operation": "create-upload", "key": KEY, "checksum": "crc32"},
        "host;x-amz-checksum-algorithm;x-amz-checksum-type",
    ),
    (
        {"operation": "complete-upload", "key": KEY, "upload": "u", "checksum": CRC},
        "host;x-amz-checksum-crc32;x-amz-checksum-type",
    ),
]


@pytest.mark.parametrize(("asked", "signed"), BOUND)
async def test_url_is_bound_to_the_headers_of_its_body(signing, insiders, asked, signed):
    asker = await Asker.enter(signing, insiders[0])
    (url,) = await asker.urls(asked)
    assert parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"] == [signed]


async def test_uploads_are_listed_of_one_key_and_by_those_who_publish(
    signing, insiders, insider_of
):
    asker = await Asker.enter(signing, insiders[0])
    (url,) = await asker.urls({"operation": "list-uploads", "key": KEY})
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert urlsplit(url).path == "/models"
    assert (query["uploads"], query["prefix"]) == ([""], [KEY])
    member = await Asker.enter(signing, insider_of(1).invited(("member",), invite=1))
    assert (await member.ask({"operation": "list-uploads", "key": KEY}))[0] == 403


async def test_region_that_a_store_named_is_signed_for(signing, insiders):
    asker = await Asker.enter(signing, insiders[0])
    (url,) = await asker.urls({"operation": "get", "key": KEY, "region": "eu-central-1"})
    assert "/eu-central-1/s3/aws4_request" in parse_qs(urlsplit(url).query)["X-Amz-Credential"][0]


@pytest.mark.parametrize(
    "asked",
    [
        {"operation": "put", "key": KEY, "checksum": "md5=short"},
        {"operation": "put", "key": KEY, "checksum": "crc32"},
        {"operation": "put", "key": KEY, "length": -1},
        {"operation": "put", "key": KEY, "length": 2**60},
        {"operation": "get", "key": KEY, "checksum": MD5},
        {"operation": "get", "key": KEY, "length": 5},
        {"operation": "create-upload", "key": KEY, "checksum": MD5},
        {"operation": "complete-upload", "key": KEY, "upload": "u", "checksum": MD5},
        {"operation": "get", "key": KEY, "region": "evil.example/"},
        {"operation": "get", "key": KEY, "region": ""},
        {"operation": "list-uploads", "key": "lab/files"},
        {"operation": "list-uploads", "key": ""},
        {"operation": "get", "key": f"{KEY}.gz"},
        {"operation": "get", "key": f"lab/objects/{HEX}.zst"},
    ],
)
async def test_what_no_url_can_be_bound_to_is_refused(signing, insiders, asked):
    asker = await Asker.enter(signing, insiders[0])
    assert (await asker.ask(asked))[0] == 400


async def test_leases_of_the_own_room_are_signed_and_the_mark_of_a_collection_is_only_read(
    signing, insiders
) -> None:
    asker = await Asker.enter(signing, insiders[0])
    own, other = (f"lab/pushes/{room}/{'01' * 16}" for room in (insiders[0].room_id.hex(), HEX))
    below = f"lab/temporary/7/1800000003/files/{HEX}"
    for request in (
        {"operation": "put", "key": own},
        {"operation": "get", "key": "lab/collection"},
        {"operation": "head", "key": "lab/collection"},
        {"operation": "put", "key": below},
        {"operation": "get", "key": below},
    ):
        assert (await asker.ask(request))[0] == 200, request
    for request in (
        {"operation": "put", "key": other},
        {"operation": "put", "key": "lab/collection"},
        {"operation": "put", "key": f"lab/temporary/7/soon/files/{HEX}"},
        {"operation": "get", "key": "lab/torrents/dreamer-01234567/a"},
    ):
        assert (await asker.ask(request))[0] == 400, request
