"""Where to run a request: here, or on a peer that serves models for others.

A pure choice over what is known at the moment. Asked for one place, only that place will do;
asked for ``auto``, a model that is here runs here, and otherwise the nearest peer is tried first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import NodeId

Where = Literal["auto", "local", "peer"]


@dataclass(frozen=True)
class Runner:
    """A peer that serves the model; ``rtt_s`` is None until it has been measured."""

    node: NodeId
    rtt_s: float | None


@dataclass(frozen=True)
class Plan:
    """Where to try, in order; ``local`` means: here and nowhere else."""

    local: bool
    peers: tuple[NodeId, ...] = ()


def plan(where: Where, held_here: bool, runners: Sequence[Runner], model: str) -> Plan:
    """Return where to run ``model`` (its name, for the error).

    Raises:
        RemoteError: nobody can run it as asked.
    """
    if where != "peer" and held_here:
        return Plan(local=True)
    if where == "local":
        raise RemoteError(
            f"{model} is not on this node: pull it first, or run it with --where peer"
        )
    if not runners:
        hint = "set inference.serve_peers = true on a node that has it"
        raise RemoteError(
            f"no node that is online serves {model}: {hint}"
            + ("" if where == "peer" else ", or pull it and run it here")
        )
    ordered = sorted(runners, key=lambda r: (r.rtt_s is None, r.rtt_s or 0.0, r.node))
    return Plan(local=False, peers=tuple(runner.node for runner in ordered))
