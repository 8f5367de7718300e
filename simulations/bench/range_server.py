"""An HTTP server that does nothing but send ranges of a store's files, as fast as the kernel can.

Usage: python -m dreamer.simulations.bench.range_server MODELS_DIR

Its keys are those of an origin, ``/BUCKET/PREFIX/files/HEX`` and ``…/objects/HEX``; signatures are
not looked at. It prints its URL and serves until it is ended.
"""

from __future__ import annotations

import re
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

_KEY = re.compile(r"/(files|objects)/([0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class RangeServer(socketserver.ThreadingTCPServer):
    """Serves one store, a thread for each connection."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, models_dir: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.inner = models_dir / ".dreamer"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """GET with or without a range, and HEAD; connections stay open."""

    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_GET(self) -> None:
        """Send a range of a file, or all of it."""
        path = self._path()
        if path is None:
            # Of the bucket itself a node asks only whether it is there.
            self._begin(200 if self.path.strip("/").count("/") == 0 else 404, 0)
            return
        size = path.stat().st_size
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (int(found[1]), min(int(found[2]), size - 1)) if found else (0, size - 1)
        self._begin(206 if found else 200, last - first + 1, f"bytes {first}-{last}/{size}")
        if self.command == "GET":
            self.wfile.flush()
            with path.open("rb") as file:
                self.connection.sendfile(file, first, last - first + 1)

    do_HEAD = do_GET  # noqa: N815

    def _path(self) -> Path | None:
        found = _KEY.search(self.path)
        path = self.server.inner / found[1] / found[2] if found else None
        return path if path is not None and path.is_file() else None

    def _begin(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of each request."""


def main() -> None:
    """Serve the store that the command line names."""
    with RangeServer(Path(sys.argv[1])) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
