"""Which kind of worker a node is: a decision over facts that were read once, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["persistent", "ephemeral"]

# What a container writes to its own layer, or to memory, is gone with it.
_PASSING_FILE_SYSTEMS = ("tmpfs", "ramfs", "overlay", "fuse-overlayfs", "aufs")


@dataclass(frozen=True)
class Facts:
    """What a node sees of where it runs.

    ``cluster`` names who started it, empty outside of any. ``writable``: its home is. ``fs_type``
    is the home's file system as in /proc/self/mountinfo, empty where that can't be read.
    ``empty_dir``: it lies on a volume that Kubernetes made for this pod alone.
    """

    cluster: str
    writable: bool
    fs_type: str = ""
    empty_dir: bool = False


@dataclass(frozen=True)
class Worker:
    """The kind of a node and why; ``session``: its home can't be written, so it needs another."""

    kind: Kind = "persistent"
    why: str = "nothing says otherwise"
    session: bool = False

    @property
    def ephemeral(self) -> bool:
        """Whether it goes, and all it has with it, once its work is done."""
        return self.kind == "ephemeral"


def decide(wanted: Literal["auto", "persistent", "ephemeral"], facts: Facts) -> Worker:
    """Return the kind of worker for the setting ``wanted``.

    A home that can't be written is replaced only for an ephemeral worker: a persistent one would
    lose its identity without anybody noticing, so it is left to fail.
    """
    if wanted == "persistent":
        return Worker("persistent", "[worker] kind says so")
    if wanted == "ephemeral":
        return Worker("ephemeral", "[worker] kind says so", session=not facts.writable)
    if not facts.cluster:
        return Worker("persistent", "it runs in neither Kubernetes nor Run:ai")
    passing = _passing(facts)
    if not passing:
        return Worker(
            "persistent", f"it runs in {facts.cluster}, and its home is on a disk that stays"
        )
    return Worker(
        "ephemeral", f"it runs in {facts.cluster}, and {passing}", session=not facts.writable
    )


def _passing(facts: Facts) -> str:
    """Return why the home won't outlive the pod; empty: it will."""
    if not facts.writable:
        return "its home can't be written"
    if facts.empty_dir:
        return "its home is on an emptyDir, which goes with the pod"
    if facts.fs_type in _PASSING_FILE_SYSTEMS:
        return f"its home is on {facts.fs_type}, which goes with the container"
    return ""
