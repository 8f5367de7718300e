"""How much memory a model's process may take, so that one can't have the machine swap or kill."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dreamer.protocol.limits import MIB

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What a container may use, in bytes, or the word ``max`` (cgroup v2)."""


def worker_memory_bytes(max_memory_mib: int) -> int:
    """Return the bound of one worker; 0 MiB means three quarters of what there is.

    The result is 0, no bound, where the system doesn't say what there is.
    """
    return max_memory_mib * MIB or machine_bytes() * 3 // 4


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
