"""Other people's clients, each in a process of its own, and the tracker that they meet at.

All children speak JSON, a line each: commands in, events out. Whatever a test waits for has a
deadline, and says what was heard instead.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import libtorrent as lt
import pytest

HERE = Path(__file__).resolve().parent
FILE_BYTES = 4 << 20
DEADLINE_S = 90.0
END_S = 30.0

LIBTORRENT = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_tcp": False,
    "enable_outgoing_tcp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "webtorrent_stun_server": "",
    # Only because everything here is on loopback.
    "ssrf_mitigation": False,
    "alert_mask": lt.alert.category_t.tracker_notification
    | lt.alert.category_t.status_notification,
}

CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No resolver of .local names runs here: candidates must have addresses.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
]


CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript"}


class Heard:
    """Events of one client, in order; ``until`` passes over those that nobody waits for."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._queue: queue.Queue[dict] = queue.Queue()
        self.passed: list[dict] = []

    def add(self, event: dict) -> None:
        self._queue.put(event)

    def until(self, name: str, **wanted: object) -> dict:
        """Return the next event of that name in which every wanted field has its value."""
        ends = time.monotonic() + DEADLINE_S
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                event = {"event": "nothing more"}
            if event["event"] == name and wanted.items() <= event.items():
                return event
            self.passed.append(event)
            if event["event"] in ("nothing more", "ended"):
                pytest.fail(f"{self._who}: no {name} {wanted}, only {self.passed}")


class Driver:
    """A process that runs somebody's client: commands by ``tell``, what it says in ``heard``."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.heard = Heard(script)
        command = ["node", str(HERE / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def tell(self, command: str, **about: object) -> None:
        self._process.stdin.write(json.dumps({"command": command, **about}) + "\n")
        self._process.stdin.flush()

    def until(self, name: str, **wanted: object) -> dict:
        return self.heard.until(name, **wanted)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=END_S)
        self._reader.join(timeout=END_S)
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            # Programs also print what nobody asked for.
            with contextlib.suppress(ValueError):
                self.heard.add(json.loads(line))
        self.heard.add({"event": "ended"})


class TrackerProcess:
    """Our tracker; after ``restart`` it is a new process at the old address."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.http = ""
        self._start("127.0.0.1:0")

    @property
    def url(self) -> str:
        return self.http.replace("http://", "ws://") + "/announce"

    def restart(self) -> None:
        self.end()
        self._start(self.http.removeprefix("http://"))

    def stats(self) -> dict:
        with urllib.request.urlopen(self.http + "/stats", timeout=DEADLINE_S) as response:
            return json.load(response)

    def until(self, **wanted: int) -> None:
        """Wait until the tracker counts at least that many of each.

        A hybrid torrent is in two swarms: libtorrent announces its v2 hash as well.
        """
        ends = time.monotonic() + DEADLINE_S
        while any((counted := self.stats())[each] < least for each, least in wanted.items()):
            assert time.monotonic() < ends, counted
            # It goes on for as long as the tracker does.
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"the tracker ended with {self._process.wait(timeout=0.05)}")

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=END_S)

    def _start(self, listen: str) -> None:
        command = [sys.executable, "-m", "dreamer.tracker.main"]
        command += ["--listen", listen, "--data", str(self._data)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.http = self._process.stdout.readline().strip()
        assert self.http.startswith("http://"), "the tracker did not start"


class LibtorrentPeer:
    """One libtorrent session with one torrent, over WebRTC and nothing else."""

    def __init__(self, torrent: lt.torrent_info, folder: Path) -> None:
        self._session = lt.session(LIBTORRENT)
        wanted = lt.add_torrent_params()
        wanted.ti = torrent
        wanted.save_path = str(folder)
        # Neither queued nor paused: it begins at once.
        wanted.flags = lt.torrent_flags.update_subscribe
        self._handle = self._session.add_torrent(wanted)
        self._said: list[str] = []

    @property
    def has_all(self) -> bool:
        return self._handle.status().is_seeding

    def wait_until(self, done: Callable[[], bool]) -> None:
        ends = time.monotonic() + DEADLINE_S
        while not done():
            self._said += [str(alert) for alert in self._session.pop_alerts()]
            assert time.monotonic() < ends, "\n".join(self._said)
            self._session.wait_for_alert(50)


class Page:
    """Chromium on a page of ours; what its script reports is in ``heard``."""

    def __init__(self, chromium: str, profile: Path, files: dict[str, Path | bytes]) -> None:
        self.heard = Heard("page")
        handler = functools.partial(_PageHandler, files, self.heard)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self._command = [chromium, *CHROMIUM, f"--user-data-dir={profile}"]
        # Nor does it read or leave anything in the home of whoever runs the tests.
        self._environ = {**os.environ, "HOME": str(profile)}
        self._process: subprocess.Popen | None = None

    def open(self, **query: str) -> None:
        url = f"http://127.0.0.1:{self._server.server_port}/?{urllib.parse.urlencode(query)}"
        # A session of its own: all of the browser's processes can be ended by one number.
        self._process = subprocess.Popen(
            [*self._command, url],
            env=self._environ,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait(timeout=END_S)
        self._server.shutdown()
        self._thread.join(timeout=END_S)
        self._server.server_close()


class _PageHandler(http.server.BaseHTTPRequestHandler):
    def __init__(self, files: dict[str, Path | bytes], heard: Heard, *request) -> None:
        self._files, self._heard = files, heard
        super().__init__(*request)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = self._files.get(path)
        body = found.read_bytes() if isinstance(found, Path) else found
        kind = CONTENT_TYPES.get(found.suffix, "") if isinstance(found, Path) else ""
        self._reply(404 if body is None else 200, body or b"", kind)

    def do_POST(self) -> None:
        self._heard.add(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._reply(200, b"", "")

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_said: object) -> None:
        pass


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def tracker(tmp_path) -> Iterator[TrackerProcess]:
    running = TrackerProcess(tmp_path / "tracker")
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def original(tmp_path) -> Path:
    """A file to move; the only one in its folder."""
    file = tmp_path / "from" / "model.bin"
    file.parent.mkdir()
    file.write_bytes(random.Random(5).randbytes(FILE_BYTES))
    return file


@pytest.fixture
def copy(tmp_path) -> Path:
    """Where the moved file is to appear."""
    folder = tmp_path / "to"
    folder.mkdir()
    return folder / "model.bin"


@pytest.fixture
def same() -> Callable[[Path, Path], None]:
    """``same(original, copy)`` waits until both have one hash.

    Clients say that they are done before the last of their writes are in the file.
    """

    def wait(original: Path, copy: Path) -> None:
        wanted, ends = _sha256(original), time.monotonic() + DEADLINE_S
        while _sha256(copy) != wanted:
            assert time.monotonic() < ends, f"{copy} has other content"

    return wait


@pytest.fixture
def torrent_flags() -> int:
    """Hybrid: libtorrent can't use a v2 torrent over WebRTC. A test's module may say otherwise."""
    return 0


@pytest.fixture
def torrent_file(tracker, original, tmp_path, torrent_flags) -> Path:
    """A torrent of the original."""
    creator = lt.create_torrent(lt.list_files(str(original)), 0, torrent_flags)
    creator.add_tracker(tracker.url)
    lt.set_piece_hashes(creator, str(original.parent))
    file = tmp_path / "content.torrent"
    file.write_bytes(lt.bencode(creator.generate()))
    return file


@pytest.fixture
def torrent(torrent_file) -> lt.torrent_info:
    return lt.torrent_info(torrent_file.read_bytes())


@pytest.fixture
def libtorrent() -> Iterator[Callable[..., LibtorrentPeer]]:
    """``libtorrent(torrent, folder)`` seeds what the folder holds and fetches what it lacks."""
    peers = []

    def start(torrent: lt.torrent_info, folder: Path) -> LibtorrentPeer:
        peers.append(LibtorrentPeer(torrent, folder))
        return peers[-1]

    # Kept until the test is over: a session that nobody refers to ends.
    yield start
    peers.clear()


@pytest.fixture
def driver(program, npm_package) -> Iterator[Callable[..., Driver]]:
    """``driver("socket_client.mjs", "ws", url)`` runs a script with the named npm package."""
    program("node")
    with contextlib.ExitStack() as children:

        def start(script: str, package: str, *arguments: str) -> Driver:
            child = Driver(script, str(npm_package(package)), *arguments)
            children.callback(child.end)
            return child

        yield start


@pytest.fixture
def page(program, npm_package, tmp_path) -> Iterator[Callable[..., Page]]:
    """``page(files)`` serves them beside the page's own; ``open`` starts the browser."""
    own = {
        "/": HERE / "browser_peer.html",
        "/browser_peer.mjs": HERE / "browser_peer.mjs",
        "/webtorrent.min.js": npm_package("webtorrent") / "dist" / "webtorrent.min.js",
    }
    profile = tmp_path / "profile"
    with contextlib.ExitStack() as pages:

        def serve(files: dict[str, Path | bytes]) -> Page:
            served = Page(program("chromium"), profile, {**own, **files})
            pages.callback(shutil.rmtree, profile, ignore_errors=True)
            pages.callback(served.end)
            return served

        yield serve
