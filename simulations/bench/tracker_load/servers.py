"""The trackers that are measured: ours and npm's as processes of the bench, or one that runs."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from dreamer.simulations.bench.tracker_load.client import Address
from dreamer.simulations.loopback import LoopbackError, Process, program

OURS, NPM = "dreamer-tracker", "bittorrent-tracker (npm)"

# The package as it comes: only the servers that WebTorrent doesn't use are off.
_NPM_SERVER = """
import { pathToFileURL } from 'node:url'
const { default: Server } = await import(pathToFileURL(process.argv[1] + '/server.js'))
const server = new Server({ http: false, udp: false, ws: true, stats: false })
server.on('error', error => { console.error(error); process.exit(1) })
server.listen(0, '127.0.0.1', () => console.log(`ws://127.0.0.1:${server.http.address().port}`))
"""


@dataclass(frozen=True)
class Server:
    """A tracker that runs. ``pid`` is None where it runs on another machine."""

    name: str
    address: Address
    pid: int | None


# Starts a fresh one, or leads to the one that is there.
Source = Callable[[], AbstractContextManager[Server]]


@contextmanager
def ours() -> Iterator[Server]:
    """Run ``dreamer-tracker`` with an empty store."""
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        argv = [program("dreamer-tracker"), "--listen", "127.0.0.1:0"]
        argv += ["--data", f"{scratch}/data", *_without_limits(argv[0])]
        with Process(argv, Path(scratch) / "log") as process:
            url = process.start(r"(?m)^(https?://\S+)$").group(1)
            yield Server(OURS, Address.of(url), process.pid)


def npm(packages: Path) -> Source:
    """Return how to run bittorrent-tracker's server from a ``node_modules`` folder.

    Raises:
        LoopbackError: it isn't installed there.
    """
    package = packages.resolve() / "bittorrent-tracker"
    if not package.is_dir():
        raise LoopbackError(f"there is no {package}: run 'make outside'")

    @contextmanager
    def start() -> Iterator[Server]:
        argv = ["node", "--input-type=module", "-e", _NPM_SERVER, str(package)]
        with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
            process = Process(argv, Path(scratch) / "log")
            try:
                url = process.start(r"(?m)^(ws://\S+)$").group(1)
                yield Server(NPM, Address.of(url), process.pid)
            finally:
                # It closes only when its last client has gone.
                process.kill()

    return start


def against(url: str, pid: int | None) -> Source:
    """Return how to reach a tracker that runs already; its process is found by its port."""
    address = Address.of(url)
    found = pid if pid is not None else _listener(address)

    @contextmanager
    def reach() -> Iterator[Server]:
        yield Server(url, address, found)

    return reach


def _without_limits(command: str) -> list[str]:
    # All clients of the bench come from one address, which no tracker takes for many users.
    told = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    return ["--sockets-per-address", "0"] if "--sockets-per-address" in told else []


def _listener(address: Address) -> int | None:
    try:
        host = socket.gethostbyname(address.host)
        connections = psutil.net_connections("tcp")
    except (OSError, psutil.AccessDenied):
        return None
    if not host.startswith("127.") and host not in _own_addresses():
        return None
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr.port == address.port:
            return int(each.pid) if each.pid else None
    return None


def _own_addresses() -> set[str]:
    return {each.address for nic in psutil.net_if_addrs().values() for each in nic}
