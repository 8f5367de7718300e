"""What Debian 12 has, which can't read hybrid torrents: aria2 1.36 and transmission 3.00.

They use a model's v1 torrent. Transmission dials nobody on loopback, so it meets our node and
tracker in a network namespace, at an address that isn't.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from dreamer.simulations.loopback import LoopbackError, Process, free_port, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

APART = "10.77.0.1"
# Transmission takes all that is at one address for one peer.
CLIENTS = ("10.77.0.2", "10.77.0.3")
DEADLINE_S = 60.0

Result = TypeVar("Result")


class Apart:
    """A network of its own with one address that isn't loopback: transmission dials no other."""

    address = APART

    def __init__(self) -> None:
        prepared = "ip link set lo up && "
        for each in (APART, *CLIENTS):
            prepared += f"ip address add {each}/32 dev lo && "
        prepared += "echo ready && cat"
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", prepared],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout.readline() == "ready\n"

    def inside(self, *argv: str) -> list[str]:
        """Return the command that runs this one there."""
        return ["nsenter", f"--target={self._keeper.pid}", "--net", *argv]

    def do(self, work: Callable[[], Result]) -> Result:
        """Do something whose connections begin there: in a thread that has moved over."""
        with ThreadPoolExecutor(1, initializer=self._enter) as threads:
            return threads.submit(work).result()

    def _enter(self) -> None:
        # Python has setns() from 3.12 on.
        with Path(f"/proc/{self._keeper.pid}/ns/net").open() as network:
            assert ctypes.CDLL(None).setns(network.fileno(), 0) == 0

    def end(self) -> None:
        # Its input ends, and with it the process that keeps the network.
        self._keeper.communicate(timeout=DEADLINE_S)


class Transmission:
    """transmission-daemon, and transmission-remote to tell it what to do."""

    def __init__(self, daemon: str, remote: str, home: Path, apart: Apart, address: str) -> None:
        self._apart = apart
        self._remote = remote
        self._port = free_port()
        self.folder = home / "files"
        self.folder.mkdir(parents=True)
        argv = [
            *(daemon, "--foreground", "--config-dir", str(home / "config"), "--no-auth"),
            *("--port", str(self._port), "--allowed", "127.0.0.1", "--no-incomplete-dir"),
            *("--peerport", str(free_port()), "--bind-address-ipv4", address, "--no-utp"),
            *("--no-dht", "--no-lpd", "--no-portmap", "--download-dir", str(self.folder)),
        ]
        self.process = Process(apart.inside(*argv), home / "log")

    def tell(self, *words: str) -> str:
        argv = self._apart.inside(self._remote, f"127.0.0.1:{self._port}", *words)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S)
        return done.stdout + done.stderr

    def take(self, named: str) -> None:
        """Fetch a torrent or magnet link, or seed it when its files are there."""
        until(lambda: "success" in self.tell("--add", named), f"adding {named}", DEADLINE_S)

    def finish(self) -> None:
        """Wait until it has all."""
        try:
            until(self._finished, "the end of a download", DEADLINE_S)
        except LoopbackError:
            pytest.fail(self.tell("--torrent", "1", "--info", "--info-trackers", "--info-peers"))

    def _finished(self) -> bool:
        return "Percent Done: 100%" in self.tell("--torrent", "1", "--info")


@pytest.fixture
def older_aria2(program, tmp_path, aria2_at):
    """Debian's: of Debian 12 it is 1.36."""
    return aria2_at(program("/usr/bin/aria2c"), tmp_path / "aria2.log")


@pytest.fixture(scope="module")
def apart(program) -> Iterator[Apart]:
    program("ip")
    network = Apart()
    yield network
    network.end()


@pytest.fixture
def transmissions(program, tmp_path, apart) -> Iterator[list[Transmission]]:
    """One at each address for clients in the network ``apart``."""
    programs = program("transmission-daemon"), program("transmission-remote")
    with ExitStack() as stack:
        started = []
        for address in CLIENTS:
            one = Transmission(*programs, tmp_path / address, apart, address)
            stack.enter_context(one.process).start("Serving RPC")
            started.append(one)
        yield started


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_older_aria2_fetches_from_our_node(older_aria2, published, same_files, tmp_path, how):
    older_aria2.fetch(str(getattr(published.older, how)), tmp_path)
    same_files(published.folder, tmp_path / published.older.name)


@pytest.fixture
def lab_apart(apart, lab_at, tmp_path):
    with ExitStack() as stack:
        root = tmp_path / "lab"
        root.mkdir()
        yield lab_at(root, apart, stack)


@pytest.mark.root
def test_transmission_fetches_from_our_node(transmissions, lab_apart, same_files):
    """One has the torrent, another the magnet link."""
    published = lab_apart.publish(lab_apart.node("A"))
    # Both hashes of the hybrid torrent, and that of the v1 one.
    lab_apart.until(tcp_seeders=3)
    older = published.older
    for one, named in zip(transmissions, (older.torrent, older.magnet), strict=True):
        one.take(str(named))
    for one in transmissions:
        one.finish()
        same_files(older.folder, one.folder / older.name)


@pytest.mark.root
def test_transmission_can_not_read_hybrid_torrents(transmissions, torrent_file):
    """When this fails, a newer one is here, and models need no second torrent for its sake."""
    said = transmissions[0].tell("--add", str(torrent_file))
    assert "Error: invalid or corrupt torrent file" in said
