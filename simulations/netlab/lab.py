"""Builds a network from segments, routers and hosts, and takes all of it down again.

::

    with Lab(logs) as lab:
        internet = lab.segment("internet", "203.0.113.0/24")
        home = lab.router("home", internet, "203.0.113.10", "192.168.1.0/24", Nat.SYMMETRIC)
        laptop = lab.host("laptop", home.inside, "192.168.1.2")
        laptop.run("ping", "-c1", "203.0.113.1")
"""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType

from dreamer.simulations.netlab.iproute import LabError, missing
from dreamer.simulations.netlab.namespace import Namespace, namespace, sweep
from dreamer.simulations.netlab.nat import NO_UDP, Nat, rules
from dreamer.simulations.netlab.segment import Plug, Segment
from dreamer.simulations.netlab.weather import Weather

_MAPPED = """
table ip mapped_{port} {{
  chain in {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "wan" tcp dport {port} dnat to {host}
  }}
}}
"""


class Host:
    """A machine with one address, plugged into one segment."""

    def __init__(self, space: Namespace, plug: Plug, address: str) -> None:
        self.space = space
        self.plug = plug
        self.address = address
        plug.give_address(address)

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before the command line of a program that shall run there."""
        return self.space.within

    def run(self, *argv: str) -> str:
        """Run a program there to its end; return what it said."""
        return self.space.run(*argv)

    def move(self, address: str) -> None:
        """Have another address from now on."""
        self.plug.give_address(address)
        self.address = address


class Router:
    """A NAT between an outer segment and the one ``inside``."""

    def __init__(self, space: Namespace, outside: Plug, address: str, inside: Segment) -> None:
        self.space = space
        self.outside = outside
        self.address = address
        self.inside = inside
        outside.give_address(address)

    def block_udp(self) -> None:
        """Let no UDP through, neither way."""
        self.space.nft(NO_UDP)

    def map_port(self, port: int, host: str) -> None:
        """Forward a TCP port of the outer address to the same port of a host inside."""
        self.space.nft(_MAPPED.format(port=port, host=host))

    def forget(self) -> None:
        """Forget all mappings, as a router that is restarted does."""
        self.space.run("conntrack", "-F")


class Lab:
    """Everything made here is gone when the context closes, whatever happened in it."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        if reason := missing():
            raise LabError(reason)
        sweep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def segment(self, name: str, network: str) -> Segment:
        """Make a segment."""
        return self._segment(self._space(name), network)

    def router(self, name: str, outer: Segment, address: str, network: str, kind: Nat) -> Router:
        """Make a NAT of that kind, at ``address`` of the outer segment, with ``network`` inside."""
        space = self._space(name)
        outside = outer.plug(space, "wan")
        inside = self._segment(space, network)
        inside.make_gateway()
        space.set("ipv4/ip_forward", 1)
        space.nft(rules(kind))
        return Router(space, outside, address, inside)

    def host(
        self, name: str, segment: Segment, address: str, weather: Weather | None = None
    ) -> Host:
        """Make a host at ``address`` of a segment, by a cable with that weather."""
        space = self._space(name)
        return Host(space, segment.plug(space, "eth0", weather), address)

    def _space(self, name: str) -> Namespace:
        return self._stack.enter_context(namespace(name))

    def _segment(self, space: Namespace, network: str) -> Segment:
        return Segment(space, IPv4Network(network), self._logs, self._stack)
