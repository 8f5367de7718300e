"""A wire between two namespaces in a process of its own: two TAP devices, and weather between.

Usage: python -m dreamer.simulations.netlab.wire NS1 DEVICE1 NS2 DEVICE2 WEATHER_JSON

Says ``wire is up`` when both devices are there; they go when the process ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import sys
import time
from random import Random
from types import FrameType

from dreamer.simulations.netlab.namespace import PLACE
from dreamer.simulations.netlab.weather import Line, Weather

# From linux/if_tun.h and linux/sched.h; Python has os.setns only from 3.12.
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000
FRAME_MAX_BYTES = 2048
READS_PER_TURN = 256


def enter(namespace: str) -> None:
    """Move this process into a network namespace; devices that it has opened stay where they are.

    Raises:
        OSError: there is no such namespace, or this process may not.
    """
    descriptor = os.open(PLACE / namespace, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"can't enter {namespace}")
    finally:
        os.close(descriptor)


def tap(namespace: str, device: str) -> int:
    """Make a TAP device in a namespace; return its descriptor, one frame to a read or write."""
    enter(namespace)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    return descriptor


class Wire:
    """Both directions between two descriptors."""

    def __init__(self, one: int, other: int, weather: Weather) -> None:
        rng = Random(weather.seed)
        self._lines = {one: (Line(weather, rng), other), other: (Line(weather, rng), one)}

    def run(self) -> None:
        """Pass frames on for ever."""
        poll = select.epoll()
        for descriptor in self._lines:
            poll.register(descriptor, select.EPOLLIN)
        while True:
            for descriptor, _ in poll.poll(self._pause_s()):
                self._read(descriptor)
            self._write()

    def _pause_s(self) -> float | None:
        due = [line.next_due for line, _ in self._lines.values() if line.next_due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _read(self, descriptor: int) -> None:
        line, _ = self._lines[descriptor]
        now = time.monotonic()
        for _ in range(READS_PER_TURN):
            try:
                line.take(os.read(descriptor, FRAME_MAX_BYTES), now)
            except BlockingIOError:
                return
            except OSError:
                # The device is down for the moment.
                return

    def _write(self) -> None:
        now = time.monotonic()
        for line, out in self._lines.values():
            for frame in line.due(now):
                try:
                    os.write(out, frame)
                except OSError:
                    # Its other end is down or takes no more: a wire loses what it can't deliver.
                    line.lost += 1

    def __str__(self) -> str:
        taken = sum(line.taken for line, _ in self._lines.values())
        lost = sum(line.lost for line, _ in self._lines.values())
        return f"{taken} frames, {lost} lost"


def main() -> None:
    """Run a wire until a signal ends it."""
    one_space, one, other_space, other, weather = sys.argv[1:]
    wire = Wire(tap(one_space, one), tap(other_space, other), Weather(**json.loads(weather)))

    def end(number: int, frame: FrameType | None) -> None:
        print(wire, flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    print("wire is up", flush=True)
    wire.run()


if __name__ == "__main__":
    main()
