"""A network segment: a switch that hosts and routers are plugged into, by cables good or bad."""

from __future__ import annotations

import itertools
import sys
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from dreamer.simulations.loopback import Process
from dreamer.simulations.netlab.namespace import Namespace
from dreamer.simulations.netlab.weather import Weather

BRIDGE = "lan"
# As much as a packet that the kernel has not cut yet (64 KiB), or tbf throttles by it.
SHAPE_BURST = "128kb"
SHAPE_LATENCY = "50ms"

_CUT = """
table bridge cut {
  set ports { type ifname; }
  chain through {
    type filter hook forward priority filter; policy accept;
    iifname @ports drop
    oifname @ports drop
  }
  chain in {
    type filter hook input priority filter; policy accept;
    iifname @ports drop
  }
  chain out {
    type filter hook output priority filter; policy accept;
    oifname @ports drop
  }
}
"""


class Segment:
    """A bridge in a namespace. ``gateway`` is where its hosts send what is not for it."""

    def __init__(
        self, space: Namespace, network: IPv4Network, logs: Path, stack: ExitStack
    ) -> None:
        self.space = space
        self.network = network
        self.gateway: str | None = None
        self._logs = logs
        self._stack = stack
        self._numbers = itertools.count(1)
        space.ip("link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        space.ip("link", "set", BRIDGE, "up")
        space.nft(_CUT)

    def make_gateway(self) -> None:
        """Let its namespace be where hosts that come now send what is for elsewhere."""
        self.gateway = str(self.network[1])
        address = f"{self.gateway}/{self.network.prefixlen}"
        self.space.ip("address", "add", address, "dev", BRIDGE)

    def plug(self, guest: Namespace, device: str, weather: Weather | None = None) -> Plug:
        """Lay a cable to a namespace, where it appears as ``device``."""
        port = f"port{next(self._numbers)}"
        if weather is None:
            peer = ("peer", "name", device, "netns", guest.name)
            self.space.ip("link", "add", port, "type", "veth", *peer)
        else:
            self._stack.enter_context(self._wire(guest, device, port, weather))
        self.space.ip("link", "set", port, "master", BRIDGE, "up")
        return Plug(self, port, guest, device)

    def _wire(self, guest: Namespace, device: str, port: str, weather: Weather) -> Process:
        ends = (guest.name, device, self.space.name, port)
        argv = [sys.executable, "-m", "dreamer.simulations.netlab.wire", *ends, weather.to_json()]
        process = Process(argv, self._logs / f"wire-{guest.name}.log")
        process.start(r"wire is up")
        return process


class Plug:
    """Where a namespace is plugged in: its address, and what can be done to the cable."""

    def __init__(self, segment: Segment, port: str, guest: Namespace, device: str) -> None:
        self._segment = segment
        self._port = port
        self._guest = guest
        self._device = device
        guest.ip("link", "set", device, "up")

    def give_address(self, address: str) -> None:
        """Take this address in place of any other, and the segment's gateway as the way out."""
        interface = IPv4Interface(f"{address}/{self._segment.network.prefixlen}")
        self._guest.ip("address", "flush", "dev", self._device)
        self._guest.ip("address", "add", str(interface), "dev", self._device)
        if self._segment.gateway is not None:
            self._guest.ip("route", "replace", "default", "via", self._segment.gateway)

    def silence(self) -> None:
        """Pass nothing on in either direction; neither end is told."""
        self._cut("add")

    def heal(self) -> None:
        """Pass everything on again."""
        self._cut("delete")

    def shape(self, mbit: float) -> None:
        """Limit both directions to ``mbit`` Mbit/s."""
        rate = ("root", "tbf", "rate", f"{mbit}mbit", "burst", SHAPE_BURST)
        for space, device in ((self._guest, self._device), (self._segment.space, self._port)):
            space.run("tc", "qdisc", "replace", "dev", device, *rate, "latency", SHAPE_LATENCY)

    def _cut(self, how: str) -> None:
        self._segment.space.nft(f"{how} element bridge cut ports {{ {self._port} }}")
