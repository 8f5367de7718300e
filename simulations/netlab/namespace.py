"""A network namespace that is gone, with every process in it, when its context closes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer.simulations.netlab.iproute import LabError, command, ip

PREFIX = "dreamer"
PLACE = Path("/run/netns")
_numbers = itertools.count(1)


class Namespace:
    """One namespace by its name; everything in it runs behind ``within``."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before a command line; ``ip`` replaces itself, so the process id stays."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program in it to its end; return what it said."""
        return command(*self.within, *argv, stdin=stdin)

    def ip(self, *args: str) -> str:
        """Run ``ip`` on its devices, addresses and routes."""
        return ip("-n", self.name, *args)

    def nft(self, rules: str) -> None:
        """Load nft rules."""
        self.run("nft", "-f", "-", stdin=rules)

    def set(self, key: str, value: int) -> None:
        """Write a setting below ``/proc/sys/net``, which every namespace has its own of."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/{key}")

    def delete(self) -> None:
        """End what runs in it and take it away, with all devices that are in it."""
        # A process that outlives its test keeps the namespace alive, though its name is gone.
        for pid in ip("netns", "pids", self.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "delete", self.name)


@contextmanager
def namespace(what: str) -> Iterator[Namespace]:
    """Make a namespace whose name no other test, and no other run, has."""
    name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}-{what}"
    ip("netns", "add", name)
    made = Namespace(name)
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        made.delete()


def sweep() -> None:
    """Take away what killed runs have left: a namespace's name says which process made it."""
    for place in PLACE.glob(f"{PREFIX}-*"):
        maker = re.match(rf"{PREFIX}-(\d+)-\d+-", place.name)
        if maker and not Path("/proc", maker.group(1)).exists():
            # Two runs may sweep at once; whoever is second finds nothing.
            with contextlib.suppress(LabError):
                Namespace(place.name).delete()
