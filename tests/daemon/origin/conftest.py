"""S3 servers, another that misbehaves as told, and the stores of a pusher and a puller.

What an origin does is tested twice: with credentials of its own, and by URLs that a tracker's
signer made. Of the servers, moto checks no signatures, rclone checks them, s3rver that they last.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.urls import UrlSource
from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES, ORIGIN_MULTIPART_OVER_BYTES
from dreamer.protocol.origin import OriginAddress, parse_origin
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest
from dreamer.simulations.loopback import Process, free_port
from dreamer.tracker.room.presign import Signer

BUCKET = "team"
CONTENTS = {
    "config.json": b"{}",
    "empty": b"",
    "large": b"".join(
        bytes([number]) * BLOCK_BYTES
        for number in range(ORIGIN_MULTIPART_OVER_BYTES // BLOCK_BYTES)
    )
    + b"and a tail",
    # No text: it goes as it is.
    "sub/weights": b"\0w" * BLOCK_BYTES + b"end",
    "words.csv": "".join(f"{number},word\n" for number in range(250_000)).encode(),
}


# By way of ``store_url`` a test gets one of them that its list of fixtures doesn't tell.
SERVERS = {"s3_url", "rclone_url", "s3rver_url", "server", "store_url"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks a real S3 server: that takes too long for the unit tests."""
    for item in items:
        here = Path(__file__).parent in item.path.parents
        if here and SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(autouse=True)
def credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, descriptions_read_once: None
) -> None:
    """Let boto3 see these keys and nothing of the machine it runs on."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in (
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_url: str) -> Iterator[Any]:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture
def s3(s3_client: Any) -> Iterator[Any]:
    """Return a plain client of an empty bucket."""
    yield s3_client
    for item in s3_client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3_client.delete_object(Bucket=BUCKET, Key=item["Key"])
    for begun in s3_client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        named = {"Key": begun["Key"], "UploadId": begun["UploadId"]}
        s3_client.abort_multipart_upload(Bucket=BUCKET, **named)


class Signing:
    """The tracker's signer as the node's source of URLs.

    ``ttl_s`` is how long URLs are good, ``claims_s`` how long the node is told.
    """

    def __init__(self, address: OriginAddress) -> None:
        self.address = address
        self.asked: list[list[UrlRequest]] = []
        self.ttl_s = self.claims_s = 900
        self.signer = Signer(address)
        # Now, while there are credentials; for the other region that tests know of, too.
        key = address.file_key(Digest(bytes(32)))
        regions = (None, "eu-central-1")
        self.sign([UrlRequest(Operation.GET, key, region=region) for region in regions])
        self.asked.clear()

    def sign(self, requests: Sequence[UrlRequest]) -> SignedUrls:
        self.asked.append(list(requests))
        return SignedUrls(self.signer.sign(tuple(requests), self.ttl_s).urls, self.claims_s)

    def url(self, operation: Operation, key: str, *more: Any, **rest: Any) -> str:
        """Return one URL, as a member would get it."""
        (url,) = self.sign([UrlRequest(operation, key, *more, **rest)]).urls
        return url


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Signing]:
    """Make the signer for an origin, and take the credentials away from whoever comes after."""

    def make(url: str, endpoint_url: str) -> Signing:
        made = Signing(parse_origin(url, endpoint_url))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        return made

    return make


@pytest.fixture(params=["credentials", "urls"])
def source(request: Any, signing: Any) -> Callable[[str, str], UrlSource | None]:
    """Return what signs for an origin: nothing for a node that has credentials."""
    return signing if request.param == "urls" else lambda url, endpoint_url: None


@pytest.fixture
def origin(s3: Any, s3_url: str, source: Any) -> Iterator[Origin]:
    url = f"s3://{BUCKET}/some/prefix"
    origin = Origin(url, s3_url, retry_base_s=0.001, source=source(url, s3_url))
    yield origin
    origin.close()


@contextmanager
def rclone_server(binary: str, root: Path) -> Iterator[str]:
    """Run rclone's S3 server over a folder; yields its URL."""
    (root / "data" / BUCKET).mkdir(parents=True)
    keys = ("--auth-key", "key,secret")
    argv = [binary, "serve", "s3", str(root / "data"), "--addr", "127.0.0.1:0", *keys]
    with Process(argv, root / "rclone.log", {"RCLONE_CONFIG": str(root / "none")}) as process:
        yield process.start(r"Starting s3 server on \[(http://\S+?)/?\]").group(1)


@contextmanager
def s3rver_server(node: str, package: Path, root: Path) -> Iterator[str]:
    """Run s3rver, which knows one pair of keys (S3RVER, S3RVER); yields its URL."""
    program = str(package / "bin" / "s3rver.js")
    options = ("-d", str(root), "-a", "127.0.0.1", "-p", str(free_port()))
    argv = [node, program, *options, "--configure-bucket", BUCKET]
    with Process(argv, root / "s3rver.log") as process:
        address = process.start(r"listening on (127\.0\.0\.1:\d+)").group(1)
        yield f"http://{address}"


@pytest.fixture
def rclone_url(program: Any, tmp_path: Path) -> Iterator[str]:
    with rclone_server(program("rclone"), tmp_path / "rclone") as url:
        yield url


@pytest.fixture
def s3rver_url(
    program: Any, npm_package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
    (tmp_path / "s3rver").mkdir()
    with s3rver_server(program("node"), npm_package("s3rver"), tmp_path / "s3rver") as url:
        yield url


@pytest.fixture(
    params=[
        "s3_url",
        pytest.param("rclone_url", marks=pytest.mark.interop),
        pytest.param("s3rver_url", marks=pytest.mark.interop),
    ]
)
def store_url(request: Any) -> str:
    """Each of the S3 servers in turn."""
    if request.param == "s3_url":
        request.getfixturevalue("s3")
    url: str = request.getfixturevalue(request.param)
    return url


@dataclass
class Node:
    """A node's store, and the model that it holds or is to hold."""

    store: Store
    manifest: Manifest
    outboard: Outboard

    def open(self) -> Download:
        return self.store.open_download(
            self.manifest, self.outboard, lambda done, total: None, threading.Event()
        )


@pytest.fixture
def pusher(tmp_path: Path) -> Iterator[Node]:
    for path, data in CONTENTS.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(data)
    state = State(tmp_path / "a.db")
    store = Store(tmp_path / "a", state)
    _, manifest = store.ingest(tmp_path / "source", lambda done, total: None, threading.Event())
    outboard = store.outboard(manifest)
    assert outboard is not None
    yield Node(store, manifest, outboard)
    store.close()
    state.close()


@pytest.fixture
def puller(tmp_path: Path, pusher: Node) -> Iterator[Node]:
    state = State(tmp_path / "b.db")
    store = Store(tmp_path / "b", state)
    yield Node(store, pusher.manifest, pusher.outboard)
    store.close()
    state.close()


@dataclass
class Misbehaviour:
    """A server of one file, whose answers follow ``script`` and then are good.

    Words: a status code, ``cut:N`` (N bytes of the body, then the connection ends), ``whole`` (the
    range is ignored), ``reset`` (no answer at all), ``wrong`` (bytes that aren't the file's),
    ``all`` (the file, to a request that has no range), ``all:N`` (N bytes of it), ``hang:N`` (N
    bytes of the body, then silence), ``other`` (a range that was not asked for), ``429:LATER`` (a
    status code, and what its Retry-After says).
    """

    url: str
    content: bytes = b""
    etag: str = ""
    script: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    awake: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            self.answer(handler)
        finally:
            with self.lock:
                self.open -= 1

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.requests.append(asked)
        self.headers.append(dict(handler.headers))
        self.paths.append(handler.path)
        self.times.append(time.monotonic())
        word = self.script.pop(0) if self.script else "good"
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = self.content[int(first or 0) : int(last or 0) + 1]
        if word == "reset":
            handler.close_connection = True
        elif word[:3].isdigit():
            status, _, later = word.partition(":")
            self._send(handler, int(status), b"", None, later=later)
        elif word.startswith("hang:"):
            self._send(handler, 206, part, asked, int(word[5:]))
            self.awake.wait(10)
        elif word == "other":
            self._send(handler, 206, part, "bytes=7-8")
        elif word.startswith("all:"):
            self._send(handler, 200, self.content, None, int(word[4:]))
        elif word in ("whole", "all"):
            self._send(handler, 200, self.content, None)
        elif word.startswith("cut:"):
            self._send(handler, 206, part, asked, int(word[4:]))
        else:
            body = bytes(len(part)) if word == "wrong" else part
            self._send(handler, 206, body, asked)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        asked: str | None,
        cut: int | None = None,
        later: str = "",
    ) -> None:
        handler.send_response(status)
        if later:
            handler.send_header("Retry-After", later)
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            handler.send_header("Location", f"{self.url}/elsewhere")
        if asked is not None:
            handler.send_header("Content-Range", f"bytes {asked[6:]}/{len(self.content)}")
        handler.end_headers()
        handler.wfile.write(body if cut is None else body[:cut])
        handler.close_connection = cut is not None


@pytest.fixture
def misbehaviour() -> Iterator[Misbehaviour]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            behaviour.serve(self)

        do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # A client that gives up in the midst of an answer is what is tested.
    server.handle_error = lambda request, address: None
    behaviour = Misbehaviour(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield behaviour
    behaviour.awake.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def bad_origin(misbehaviour: Misbehaviour, source: Any) -> Iterator[Origin]:
    url = f"s3://{BUCKET}/p"
    made = source(url, misbehaviour.url)
    with closing(Origin(url, misbehaviour.url, retry_base_s=0.001, source=made)) as origin:
        yield origin


@pytest.fixture
def contents() -> dict[str, bytes]:
    return CONTENTS


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()
