"""What a shaped line is like when all are busy: headers, acknowledgements, queues, TCP's temper.

Measured with nothing of Dreamer on the lines, so that nothing of what is compared is in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import mean, median

from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.loopback import LoopbackError
from dreamer.simulations.netlab.lab import Host

SECONDS = 6.0
END_WITHIN_S = 60.0
_MODULE = "dreamer.simulations.calibration.saturating"


@dataclass(frozen=True)
class BusyLines:
    """While every host sends to every other: ``share`` of each line's rate that arrives, and how
    long a message takes one way beside that (``latency_ms``, half the median round trip)."""

    share: float
    latency_ms: float


def busy_lines(star: Star, mbit: float, seconds: float = SECONDS) -> BusyLines:
    """Measure it, for some seconds.

    Raises:
        LoopbackError: a host did not get to send.
    """
    hosts = (star.seed, *star.nodes)
    with ExitStack() as stack:
        running = [stack.enter_context(_started(host, hosts, seconds)) for host in hosts]
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise LoopbackError("a host could not fill its line: see what it said above")
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [_told(process) for process in running]
    rate = mean(one["bytes_s"] for one in told)
    return BusyLines(rate / (mbit * 1e6 / 8), median(one["rtt_s"] for one in told) * 500)


def _started(host: Host, hosts: tuple[Host, ...], seconds: float) -> subprocess.Popen[str]:
    others = [other.address for other in hosts if other is not host]
    argv = [*host.within, sys.executable, "-m", _MODULE, host.address, str(seconds), *others]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _told(process: subprocess.Popen[str]) -> dict[str, float]:
    try:
        said, _ = process.communicate(timeout=END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LoopbackError("a host did not stop filling its line") from None
    found: dict[str, float] = json.loads(said)
    return found
