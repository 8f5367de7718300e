"""Two ends of a transfer as processes, and what they cost: the same measure for everybody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KIB_PER_MIB = 1024
MIB = 1024 * 1024
WAIT_S = 600.0


class MissingError(RuntimeError):
    """A contender can't be run here; the text says what is missing."""


@dataclass(frozen=True)
class Usage:
    """What one end took: CPU seconds, user and system, and its largest resident memory in MiB."""

    cpu_s: float
    resident_mib: float


@dataclass(frozen=True)
class Run:
    """One transfer: seconds from its begin to verified bytes on disk, and the cost of both ends."""

    seconds: float
    giver: Usage
    taker: Usage


class Contender(Protocol):
    """Something that moves one file from a process to another over 127.0.0.1."""

    name: str

    def run(self, source: Path, scratch: Path) -> Run:
        """Move ``source`` once to somewhere below ``scratch``, which is empty.

        Raises:
            MissingError: it is not installed.
        """
        ...


def usage(process: subprocess.Popen[str]) -> Usage:
    """Wait for the end of a process and return what it, and those it waited for, took."""
    _, status, taken = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(taken.ru_utime + taken.ru_stime, taken.ru_maxrss / KIB_PER_MIB)


@contextmanager
def started(
    argv: Sequence[str], pass_fds: Sequence[int] = (), log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program with pipes; one that still runs at the end is killed by its id."""
    with (log or Path(os.devnull)).open("w") as errors:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=pass_fds,
            text=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None and process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
