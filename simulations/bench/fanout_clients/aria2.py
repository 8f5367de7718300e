"""aria2 by BitTorrent, one on every host."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.bench.fanout_clients.torrent import seconds_until, write_torrent
from dreamer.simulations.loopback import LoopbackError, Process
from dreamer.simulations.netlab.lab import Host

# It finds peers by the tracker alone, shares until it is ended, and takes no file it needn't.
STARTED = "Downloading 1 item"
OPTIONS = (
    *("--no-conf", "--enable-color=false", "--summary-interval=0", "--file-allocation=none"),
    *("--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"),
    *("--seed-ratio=0.0", "--listen-port=6881", "--bt-max-peers=0", "--disable-ipv6=true"),
)


def aria2(star: Star) -> list[float]:
    """Return the seconds after which each node had every piece.

    Raises:
        LoopbackError: it is not installed, or a node got stuck.
    """
    binary = shutil.which("aria2c")
    if binary is None:
        raise LoopbackError("aria2c is missing: install aria2")
    torrent = str(write_torrent(star))

    def process(host: Host, folder: Path, *options: str) -> Process:
        folder.mkdir(exist_ok=True)
        argv = (binary, *OPTIONS, *options, f"--dir={folder}", torrent)
        return Process([*host.within, *argv], star.scratch / f"aria2-{folder.name}.log")

    signs, nodes = [], []
    for number, host in enumerate(star.nodes):
        folder = star.scratch / f"aria2-{number}"
        sign, hook = star.scratch / f"done-{number}", star.scratch / f"hook-{number}"
        hook.write_text(f"#!/bin/sh\n: > {sign}\n")
        hook.chmod(0o755)
        nodes.append(process(host, folder, f"--on-bt-download-complete={hook}"))
        signs.append(sign)
    seed = process(star.seed, star.source, "--bt-seed-unverified=true", "--check-integrity=true")
    with ExitStack() as stack:
        for one in (seed, *nodes):
            stack.callback(one.kill)
        seed.start(STARTED)
        began = time.monotonic()
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda one: one.start(STARTED), nodes))
        return seconds_until(signs, began, star.timeout_s)
