"""One client that behaves badly, as a process of its own, so that it costs the measuring nothing.

Usage: python -m dreamer.simulations.bench.tracker_load.neighbour KIND URL INFO_HASH

INFO_HASH is a JSON string; the client joins that swarm, so that others' offers go to it too. If the
tracker hangs up it comes back, until it is ended. It says ``ready`` once it has begun.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from random import Random

from dreamer.simulations.bench.tracker_load.client import Address, upgrade_request
from dreamer.simulations.bench.tracker_load.messages import Names, Phrases, name, names

PREPARED_ANNOUNCES = 200
BACK_AFTER_S = 0.2
TALK_S = 0.05
READ_BYTES = 1 << 16


class Kind(Enum):
    """How it misbehaves."""

    FLOODS = "floods"
    STALLS = "stalls within a frame"
    DEAF = "never reads"


def main() -> None:
    """Misbehave until somebody ends this process."""
    kind, url, swarm = Kind(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    phrases, address = Phrases(rng := Random()), Address.of(url)
    misbehave = {Kind.FLOODS: _flood, Kind.STALLS: _stall, Kind.DEAF: _talk}[kind]
    print("ready", flush=True)
    while True:
        who = names(swarm, f"-BAD001-{name(rng, 12)}")
        with contextlib.suppress(OSError), _join(address, phrases, who) as connection:
            misbehave(connection, partial(_an_announce, phrases, who))
        time.sleep(BACK_AFTER_S)


def _join(address: Address, phrases: Phrases, who: Names) -> socket.socket:
    connection = socket.create_connection((address.host, address.port))
    connection.sendall(upgrade_request(address))
    connection.recv(READ_BYTES)
    connection.sendall(phrases.started(who))
    return connection


def _an_announce(phrases: Phrases, who: Names) -> bytes:
    return phrases.announce(who)[0]


def _flood(connection: socket.socket, announce: Callable[[], bytes]) -> None:
    """Announce as fast as the tracker reads; what it says is read and thrown away."""
    threading.Thread(target=_discard, args=[connection], daemon=True).start()
    prepared = b"".join(announce() for _ in range(PREPARED_ANNOUNCES))
    while True:
        connection.sendall(prepared)


def _discard(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(READ_BYTES):
            pass


def _stall(connection: socket.socket, announce: Callable[[], bytes]) -> None:
    """Send half an announce, and then nothing until the tracker hangs up."""
    frame = announce()
    connection.sendall(frame[: len(frame) // 2])
    _discard(connection)


def _talk(connection: socket.socket, announce: Callable[[], bytes]) -> None:
    """Announce now and then, and read nothing, neither replies nor others' offers."""
    while True:
        connection.sendall(announce())
        time.sleep(TALK_S)


if __name__ == "__main__":
    main()
