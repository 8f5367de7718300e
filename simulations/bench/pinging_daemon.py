"""A ``dreamerd`` that pings over its links ten times a second and writes down each round trip.

Usage: python -m dreamer.simulations.bench.pinging_daemon --home DIR FILE

Everything but the pings is the daemon's own: a ping passes our loop, our transport process, the
control channel beside the bulk that runs, and the same again at the peer. FILE gets a line
``monotonic-seconds round-trip-seconds`` for each answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path

from dreamer.daemon.app import running_node
from dreamer.daemon.config_file import load_config
from dreamer.daemon.links.link import Link
from dreamer.daemon.node import DreamerNode
from dreamer.daemon.places import find_places
from dreamer.protocol.link.messages import Ping

INTERVAL_S = 0.1


class Notes:
    """Appends each round trip that any link learns to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)

    def watch(self) -> None:
        """Note what becomes of ``Link.rtt_s`` from now on, whoever sets it."""
        plain = Link.__setattr__

        def noting(link: Link, name: str, value: object) -> None:
            if name == "rtt_s" and value is not None:
                self._file.write(f"{time.monotonic()} {value}\n")
            plain(link, name, value)

        setattr(Link, "__setattr__", noting)  # noqa: B010 - mypy knows methods to be constant


async def _ping(node: DreamerNode) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        # At fixed times: whoever waits for the answer would measure least while it is slow.
        due = max(due + INTERVAL_S, loop.time() - 1)
        await asyncio.sleep(due - loop.time())
        for session in node.rooms_kept.sessions:
            for link in session.links.links:
                link.send(Ping(int(time.monotonic() * 1e6)))


async def _serve(home: Path, notes: Path) -> None:
    Notes(notes).watch()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = load_config(home / "config.toml", os.environ, must_exist=False)
    places = find_places(home, config.node.models_dir)
    async with running_node(config, places, with_tracker=False) as node:
        print(f"dreamerd is ready: {places.socket}", flush=True)
        pinging = asyncio.create_task(_ping(node))
        await stop.wait()
        pinging.cancel()


def main() -> None:
    """Run the daemon until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("notes", type=Path)
    given = parser.parse_args()
    asyncio.run(_serve(given.home, given.notes))


if __name__ == "__main__":
    main()
