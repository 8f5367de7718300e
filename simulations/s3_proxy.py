"""A man in the middle of an S3 client and its server: counts what passes, holds it up, damages it.

For tests and measurements on loopback. The client is given the proxy's URL as its endpoint; what it
signed (host name included) is passed on as it is, so servers that check signatures take it.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive", "expect")
_UPSTREAM_TIMEOUT_S = 60.0


@dataclass
class Passed:
    """One request: what came of it is known once it has been answered."""

    method: str
    key: str
    query: dict[str, list[str]]
    body_bytes: int
    headers: dict[str, str] = field(repr=False, default_factory=dict)
    status: int = 0

    @property
    def part(self) -> int | None:
        """The number of the part that is sent, None if none is."""
        said = self.query.get("partNumber")
        return int(said[0]) if said and self.method == "PUT" else None


@dataclass
class S3Proxy:
    """What has passed, and how the next requests fare.

    ``change`` takes a request and its body and returns the body that goes on; it may wait.
    ``answer`` may return a status, headers and a body of its own in place of the server's.
    """

    upstream: str
    url: str = ""
    passed: list[Passed] = field(default_factory=list)
    change: Callable[[Passed, bytes], bytes] = lambda request, body: body
    answer: Callable[[Passed], tuple[int, dict[str, str], bytes] | None] = lambda request: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sent_parts(self, *, good: bool = True) -> list[int]:
        """Return the numbers of the parts that were sent, those that were taken or all."""
        with self.lock:
            return [
                one.part
                for one in self.passed
                if one.part is not None and (one.status == 200 or not good)
            ]

    def sent_bytes(self) -> int:
        """Return the bytes of all bodies that the server took."""
        with self.lock:
            return sum(one.body_bytes for one in self.passed if one.status == 200)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy

    def do_GET(self) -> None:
        """Pass a request on, and its answer back."""
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(split.query, keep_blank_values=True)
        request = Passed(self.command, split.path, query, len(body), dict(self.headers))
        with self.proxy.lock:
            self.proxy.passed.append(request)
        body = self.proxy.change(request, body)
        status, headers, said = self.proxy.answer(request) or self._asked_upstream(body)
        request.status = status
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _asked_upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        place = urlsplit(self.proxy.upstream)
        assert place.hostname is not None, "a URL"
        upstream = http.client.HTTPConnection(
            place.hostname, place.port, timeout=_UPSTREAM_TIMEOUT_S
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            upstream.close()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing: there are better records."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that is killed in the midst of a part is what is tested.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of it."""


@contextmanager
def s3_proxy(upstream: str) -> Iterator[S3Proxy]:
    """Run a proxy in front of an S3 server while the context lasts."""
    proxy = S3Proxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server(("127.0.0.1", 0), handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
