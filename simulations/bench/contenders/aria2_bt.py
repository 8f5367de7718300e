"""aria2 as a BitTorrent seed and downloader, without encryption, tracker or discovery."""

from __future__ import annotations

import shutil
import signal
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import libtorrent as lt

from dreamer.simulations.bench.contenders.ends import MissingError, Run, started, usage
from dreamer.simulations.bench.contenders.libtorrent_tcp import PIECE_BYTES
from dreamer.simulations.loopback import free_port

SETTLE_S = 30.0
QUIET = [
    *("--enable-dht=false", "--enable-dht6=false", "--enable-peer-exchange=false"),
    *("--bt-enable-lpd=false", "--console-log-level=warn", "--summary-interval=0"),
    *("--bt-max-peers=0", "--file-allocation=falloc", "--disk-cache=64M"),
]


class Announcing(BaseHTTPRequestHandler):
    """A tracker that knows one seed: aria2 takes peers from nowhere else."""

    port: ClassVar[int]

    def do_GET(self) -> None:
        """Answer an announce."""
        peer = bytes([127, 0, 0, 1]) + self.port.to_bytes(2, "big")
        body = b"d8:intervali600e5:peers6:" + peer + b"e"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


class Aria2Bt:
    """The contender."""

    name = "aria2 BT"

    def run(self, source: Path, scratch: Path) -> Run:
        """Move a file; from the start of the downloading process to its end.

        Raises:
            MissingError: aria2 is not installed.
        """
        program = shutil.which("aria2c")
        if program is None:
            raise MissingError("aria2 is not installed (Debian package aria2)")
        port = free_port()
        handler = type("Known", (Announcing,), {"port": port})
        with HTTPServer(("127.0.0.1", 0), handler) as tracker:
            Thread(target=tracker.serve_forever, daemon=True).start()
            torrent = _torrent(source, scratch / "aria2.torrent", tracker.server_port)
            target = scratch / "target"
            target.mkdir()
            seeding = [
                *(f"--listen-port={port}", f"--dir={source.parent}", "--seed-ratio=0.0"),
                *("--check-integrity=true", "--bt-hash-check-seed=true", str(torrent)),
            ]
            taking = [
                *(f"--listen-port={free_port()}", f"--dir={target}", "--seed-time=0"),
                str(torrent),
            ]
            try:
                with started([program, *QUIET, *seeding]) as giver:
                    _await_seed(giver.pid)
                    begun = time.monotonic()
                    with started([program, *QUIET, *taking]) as taker:
                        taken = usage(taker)
                    seconds = time.monotonic() - begun
                    if taker.returncode:
                        raise RuntimeError(f"aria2 ended with status {taker.returncode}")
                    giver.send_signal(signal.SIGINT)
                    return Run(seconds, usage(giver), taken)
            finally:
                tracker.shutdown()


def _torrent(source: Path, place: Path, tracker_port: int) -> Path:
    files = lt.file_storage()
    lt.add_files(files, str(source))
    made = lt.create_torrent(files, piece_size=PIECE_BYTES, flags=lt.create_torrent.v1_only)
    made.add_tracker(f"http://127.0.0.1:{tracker_port}/announce")
    lt.set_piece_hashes(made, str(source.parent))
    place.write_bytes(lt.bencode(made.generate()))
    return place


def _await_seed(pid: int) -> None:
    """Wait until the seed has checked its file: it takes no more CPU then."""
    import psutil

    process = psutil.Process(pid)
    before, quiet = -1.0, 0
    deadline = time.monotonic() + SETTLE_S
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
        now = sum(process.cpu_times()[:2])
        quiet = quiet + 1 if now - before < 0.01 else 0
        before = now
