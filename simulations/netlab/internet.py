"""The public segment with what a team runs there: tracker, STUN and TURN server, S3 server."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from dreamer.simulations.netlab.lab import Host, Lab, Router
from dreamer.simulations.netlab.nat import Nat
from dreamer.simulations.netlab.services import Origin, Relay, Service, Tracker
from dreamer.simulations.netlab.weather import Weather

S = TypeVar("S", bound=Service)

# TEST-NET-3 (RFC 5737): nobody's, so nothing real is meant by mistake.
PUBLIC = "203.0.113.0/24"
HOME = "192.168.1.0/24"


class Internet:
    """Hands out public addresses; services that tests kill are made again at the same ones."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._stack = ExitStack()
        self._numbers = itertools.count(10)
        self._names = itertools.count(1)

    def __enter__(self) -> Internet:
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.lab = self._stack.enter_context(Lab(self.scratch))
        self.segment = self.lab.segment("internet", PUBLIC)
        # Its gateway swallows what is for private addresses, as providers' routers do. With no
        # route at all a relay would hear of an error at once, and coturn then ends the session.
        self.segment.make_gateway()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def address(self) -> str:
        """Return a public address that nobody has had."""
        return str(self.segment.network[next(self._numbers)])

    def host(self, name: str, weather: Weather | None = None) -> Host:
        """Make a machine with a public address."""
        return self.lab.host(name, self.segment, self.address(), weather)

    def home(self, name: str, kind: Nat, network: str = HOME) -> Router:
        """Make a NAT; all homes have the same private addresses, as in life."""
        return self.lab.router(name, self.segment, self.address(), network, kind)

    def behind(self, name: str, kind: Nat, weather: Weather | None = None) -> Host:
        """Make a machine alone behind a NAT of that kind."""
        inside = self.home(f"{name}-nat", kind).inside
        return self.lab.host(name, inside, str(inside.network[2]), weather)

    def tracker(self, *turns: str) -> Tracker:
        """Start a tracker on a host of its own, which lends those TURN servers."""
        return self._running(Tracker(self.host("tracker"), self.scratch / self._name("t"), turns))

    def relay(self) -> Relay:
        """Start a STUN and TURN server on a host of its own."""
        host = self.host("relay")
        # A second address, by which a client can tell what kind of NAT it is behind (RFC 5780).
        other = self.address()
        host.space.ip("address", "add", f"{other}/24", "dev", "eth0")
        return self._running(Relay(host, other, self.scratch / f"{self._name('relay')}.log"))

    def origin(self) -> Origin:
        """Start an S3 server on a host of its own, with an empty bucket."""
        log = self.scratch / f"{self._name('origin')}.log"
        return self._running(Origin(self.host("origin"), log))

    def _name(self, what: str) -> str:
        return f"{what}{next(self._names)}"

    def _running(self, service: S) -> S:
        self._stack.callback(service.kill)
        service.start()
        return service
