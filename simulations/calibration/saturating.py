"""Fills the lines of one host, in company: what TCP leaves of a shaped line when all are busy.

Usage (inside a host): python -m dreamer.simulations.calibration.saturating OWN SECONDS OTHER…

One connection to each of the other hosts and one from each, as many as a swarm has, and nothing but
zeros on them; beside them now and then a small datagram that the other host sends back, as messages
of the swarm pass beside its blocks. Prints ``ready``; then, once all are there, what was measured.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import threading
import time
from statistics import median

PORT = 9977
PIECE = bytes(64 * 1024)
WARM_UP = 0.3
"""So much of the time is not counted: windows have to open first."""
CONNECT_WITHIN_S = 20.0
PROBE_EVERY_S = 0.05
PROBE_LOST_S = 1.0


class Count:
    """Bytes that came in; connections count side by side."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        """Count some more."""
        with self._lock:
            self.bytes += size_bytes


def _send(address: str, until: float) -> None:
    with _connected(address) as sock, contextlib.suppress(OSError):
        while time.monotonic() < until:
            sock.sendall(PIECE)


def _connected(address: str) -> socket.socket:
    deadline = time.monotonic() + CONNECT_WITHIN_S
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=CONNECT_WITHIN_S)
        except OSError:
            # The others are starting, too.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _receive(sock: socket.socket, count: Count) -> None:
    with sock, contextlib.suppress(OSError):
        while data := sock.recv(1 << 18):
            count.add(len(data))


def _accept(server: socket.socket, count: Count) -> None:
    while True:
        try:
            sock, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_receive, args=(sock, count), daemon=True).start()


def _echo(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data, address = sock.recvfrom(64)
            sock.sendto(data, address)


def _probe(others: list[str], until: float, rtts: list[float]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PROBE_LOST_S)
        for number in itertools.count():
            if time.monotonic() >= until:
                return
            sent = time.monotonic()
            with contextlib.suppress(OSError):
                sock.sendto(b"%d" % number, (others[number % len(others)], PORT))
                # An answer to an earlier one came too late to count.
                while sock.recv(64) != b"%d" % number:
                    pass
                rtts.append(time.monotonic() - sent)
            time.sleep(PROBE_EVERY_S)


def saturate(own: str, seconds: float, others: list[str]) -> dict[str, float]:
    """Return the bytes a second that came in from the others, once windows were open, and the
    median round trip of a datagram beside them, in seconds.
    """
    count, rtts = Count(), list[float]()
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind((own, PORT))
    threading.Thread(target=_echo, args=(echo,), daemon=True).start()
    with socket.create_server((own, PORT), backlog=64) as server:
        threading.Thread(target=_accept, args=(server, count), daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        # Whoever started all of them says when.
        sys.stdin.readline()
        began = time.monotonic()
        for address in others:
            work = (address, began + seconds)
            threading.Thread(target=_send, args=work, daemon=True).start()
        time.sleep(seconds * WARM_UP)
        work_left = (others, began + seconds, rtts)
        threading.Thread(target=_probe, args=work_left, daemon=True).start()
        before, since = count.bytes, time.monotonic()
        time.sleep(seconds * (1 - WARM_UP))
        rate = (count.bytes - before) / (time.monotonic() - since)
        return {"bytes_s": rate, "rtt_s": median(rtts) if rtts else 0.0}


def main() -> None:
    """Do it, and say what came of it."""
    own, seconds, *others = sys.argv[1:]
    sys.stdout.write(json.dumps(saturate(own, float(seconds), others)) + "\n")


if __name__ == "__main__":
    main()
