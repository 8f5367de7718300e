"""libtorrent, one session on every host, tuned for throughput."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.bench.fanout_clients.torrent import seconds_until, write_torrent
from dreamer.simulations.loopback import Process
from dreamer.simulations.netlab.lab import Host


def libtorrent(star: Star) -> list[float]:
    """Return the seconds after which each node had every piece.

    Raises:
        LoopbackError: a node got stuck.
    """
    torrent, go = write_torrent(star), star.scratch / "go"
    signs = [star.scratch / f"done-{number}" for number, _ in enumerate(star.nodes)]

    def process(host: Host, folder: Path, role: str, sign: Path) -> Process:
        folder.mkdir(exist_ok=True)
        module = "dreamer.simulations.bench.fanout_clients.libtorrent_node"
        said = (str(torrent), str(folder), host.address, role, str(go), str(sign))
        log = star.scratch / f"libtorrent-{sign.name}.log"
        return Process([*host.within, sys.executable, "-m", module, *said], log)

    all_of_them = [process(star.seed, star.source, "seed", star.scratch / "none")] + [
        process(host, star.scratch / f"lt-{sign.name}", "fetch", sign)
        for host, sign in zip(star.nodes, signs, strict=True)
    ]
    with ExitStack() as stack:
        for one in all_of_them:
            stack.callback(one.kill)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: one.start("ready"), all_of_them))
        began = time.monotonic()
        go.touch()
        return seconds_until(signs, began, star.timeout_s)
