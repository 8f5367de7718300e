"""How much memory a model's process may take, so that one can't have the machine swap or kill."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dreamer.protocol.limits import MIB

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What a container may use, in bytes, or the word ``max`` (cgroup v2)."""


def worker_memory_bytes(max_worker_memory_mib: int) -> int:
    """Return the bound of one worker; 0 MiB means three quarters of what there is.

    The result is 0, no bound, where the system doesn't say what there is.
    """
    return max_worker_memory_mib * MIB or machine_bytes() * 3 // 4


def machine_bytes(container_limit: Path = _CONTAINER_LIMIT) -> int:
    """Return the memory of this machine or container; 0 where the system doesn't say."""
    # A worker's bound is an rlimit, which Windows has not.
    if sys.platform == "win32":
        return 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        allowed = container_limit.read_text().strip()
    except OSError:
        return total
    return min(total, int(allowed)) if allowed.isdecimal() else total


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory, 0 where the system has no /proc to tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, 0 where there is no /proc to tell."""
    try:
        # The second field, the program's name in brackets, may hold blanks (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
