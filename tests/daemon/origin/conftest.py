"""An S3 server, another that misbehaves as told, and the stores of a pusher and a puller."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.limits import BLOCK_BYTES, ORIGIN_MULTIPART_OVER_BYTES

BUCKET = "team"
CONTENTS = {
    "config.json": b"{}",
    "empty": b"",
    "large": b"".join(
        bytes([number]) * BLOCK_BYTES
        for number in range(ORIGIN_MULTIPART_OVER_BYTES // BLOCK_BYTES)
    )
    + b"and a tail",
    "sub/weights": b"w" * (2 * BLOCK_BYTES + 3),
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


@pytest.fixture
def origin(s3: Any, s3_url: str) -> Iterator[Origin]:
    origin = Origin(f"s3://{BUCKET}/some/prefix", s3_url, retry_base_s=0.001)
    yield origin
    origin.close()


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
    range is ignored), ``reset`` (no answer at all), ``wrong`` (bytes that aren't the file's).
    """

    url: str
    content: bytes = b""
    script: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.requests.append(asked)
        word = self.script.pop(0) if self.script else "good"
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = self.content[int(first) : int(last) + 1]
        if word == "reset":
            handler.close_connection = True
        elif word.isdigit():
            self._send(handler, int(word), b"", None)
        elif word == "whole":
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
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
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
            behaviour.answer(self)

        do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    behaviour = Misbehaviour(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield behaviour
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def bad_origin(misbehaviour: Misbehaviour) -> Iterator[Origin]:
    origin = Origin(f"s3://{BUCKET}/p", misbehaviour.url, retry_base_s=0.001)
    yield origin
    origin.close()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()
