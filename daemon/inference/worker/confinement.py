"""Gives up, in a worker process, what running a model doesn't need: the network, core dumps,
memory past a bound. All of it is best effort: what the kernel or container doesn't allow is
skipped, since a worker reads only a model that was verified and looked over.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def confine() -> None:
    """Drop the network and core dumps.

    Call it before any thread starts: a process with threads can't enter a user namespace.
    """
    if sys.platform == "win32":
        return
    import resource

    _leave_network()
    _bound(resource.RLIMIT_CORE, 0)


def bound_memory(memory_bytes: int) -> None:
    """Bound private memory from here on; 0 leaves it unbounded."""
    if sys.platform == "win32" or not memory_bytes:
        return
    import resource

    # RLIMIT_DATA counts private writable memory; mapped weights are not in it.
    _bound(resource.RLIMIT_DATA, memory_bytes)


def _leave_network() -> None:
    if sys.platform != "linux":
        return
    # An unprivileged process may make a network namespace only inside its own user namespace.
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET
    ctypes.CDLL(None, use_errno=True).unshare(flags)


def _bound(kind: int, value: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
