"""What a process has used: CPU time and memory, of it and all that it started."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

import psutil

from dreamer.simulations.loopback import LoopbackError

MIB = 1024 * 1024


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU: in the program itself, and in the kernel on its behalf."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.user_s + self.system_s

    def since(self, earlier: Cpu) -> Cpu:
        """Return what has been used since ``earlier``."""
        return Cpu(self.user_s - earlier.user_s, self.system_s - earlier.system_s)


@dataclass(frozen=True)
class Memory:
    """Resident MiB; ``uss_mib`` is what would be free if the processes ended."""

    rss_mib: float
    uss_mib: float


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu(pid: int) -> Cpu:
    """Return what a process and its children have used."""
    times = [each.cpu_times() for each in _family(pid)]
    return Cpu(sum(each.user for each in times), sum(each.system for each in times))


def own_cpu() -> Cpu:
    """Return what this process has used, without those it started."""
    times = os.times()
    return Cpu(times.user, times.system)


def memory(pid: int) -> Memory:
    """Return the memory of a process and its children."""
    infos = [each.memory_full_info() for each in _family(pid)]
    return Memory(sum(i.rss for i in infos) / MIB, sum(i.uss for i in infos) / MIB)


def allow_files(count: int) -> None:
    """Let this process and those that it starts open so many files.

    Raises:
        LoopbackError: the machine's hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise LoopbackError(f"{count} open files are needed, {hard} allowed: raise 'ulimit -Hn'")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
