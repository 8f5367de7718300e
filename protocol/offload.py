"""Where to run a request: here, or on a peer that serves models for others.

A pure choice over what is known at the moment: for every node that could, seconds to the first
token and to the end are estimated from what was measured there (rates, load time, queue), the
round trip to it and the length of the prompt. What was never measured is assumed from the size of
the model, since each token that is decoded reads all of its weights once.

Asked for one place, only that place will do. Asked for ``auto``, a model that is here runs here
unless a peer would be much sooner: a request that stays leaves nobody something to see. What comes
after the first choice is where the request goes on if that one fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.errors import DreamerError, NoMatchError, RemoteError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload_limits import (
    OFFLOAD_ASSUMED_CPU_BYTES_S,
    OFFLOAD_ASSUMED_DECODE_MAX_TOKENS_S,
    OFFLOAD_ASSUMED_GPU_BYTES_S,
    OFFLOAD_ASSUMED_LOAD_BYTES_S,
    OFFLOAD_ASSUMED_LOAD_S,
    OFFLOAD_ASSUMED_PREFILL_FACTOR,
    OFFLOAD_ASSUMED_RTT_S,
    OFFLOAD_GAIN_RATIO,
    OFFLOAD_GAIN_S,
)

Prefer = Literal["auto", "local", "peer", "fastest"]
Asking = Literal["never", "on-request", "auto"]
"""Whether a node asks peers: not at all, only for requests that say so, or where it is best."""


@dataclass(frozen=True)
class Runner:
    """A node that could run the model, and what is known of it; None: was never measured.

    ``rtt_s`` is 0 for this node. ``load_s`` is how long loading took. At most ``slots`` requests
    run at once, ``queued`` wait. Rates are tokens a second of one request.
    """

    node: NodeId
    rtt_s: float | None = None
    gpu: bool = False
    loaded: bool = False
    load_s: float | None = None
    running: int = 0
    queued: int = 0
    slots: int = 1
    prefill_tokens_s: float | None = None
    decode_tokens_s: float | None = None


@dataclass(frozen=True)
class Work:
    """What a request takes: tokens to read and to write, of a model of ``size_bytes``.

    ``replayed_tokens`` another runner wrote already: they are written once more, one by one.
    """

    prompt_tokens: int = 1
    answer_tokens: int = 1
    size_bytes: int = 0
    replayed_tokens: int = 0


@dataclass(frozen=True)
class Estimate:
    """Seconds until the first token is here, and until the last; and what they are made of."""

    first_token_s: float
    total_s: float
    rtt_s: float
    queue_s: float
    load_s: float
    prefill_s: float
    replay_s: float = 0.0


@dataclass(frozen=True)
class Choice:
    """A node to try; ``local`` is this one."""

    node: NodeId
    local: bool
    estimate: Estimate


@dataclass(frozen=True)
class Plan:
    """Where to try, in order. The first two are started at once, to keep the first to answer, if
    it is to ``race``.
    """

    choices: tuple[Choice, ...]
    race: bool = False


def estimate(runner: Runner, work: Work) -> Estimate:
    """Return how long a request would take on a node."""
    rtt_s = OFFLOAD_ASSUMED_RTT_S if runner.rtt_s is None else runner.rtt_s
    decode = runner.decode_tokens_s or _assumed_decode_tokens_s(runner, work)
    prefill = runner.prefill_tokens_s or decode * OFFLOAD_ASSUMED_PREFILL_FACTOR
    prefill_s = work.prompt_tokens / prefill
    load_s = 0.0 if runner.loaded else _load_s(runner, work)
    # Others are taken to ask for as much as this request does.
    one_s = prefill_s + work.answer_tokens / decode
    slots = max(1, runner.slots)
    ahead = max(0, runner.running + runner.queued + 1 - slots)
    queue_s = ahead * one_s / slots
    replay_s = work.replayed_tokens / decode
    first_s = rtt_s + queue_s + load_s + prefill_s + replay_s + 1 / decode
    total_s = first_s + max(0, work.answer_tokens - 1) / decode
    return Estimate(first_s, total_s, rtt_s, queue_s, load_s, prefill_s, replay_s)


def plan(
    prefer: Prefer,
    here: Runner | None,
    peers: Sequence[Runner],
    model: str,
    work: Work | None = None,
    asking: Asking = "auto",
) -> Plan:
    """Return where to run ``model`` (its name, for the error); ``here`` is None where it is not.

    Raises:
        RemoteError: nobody can run it as asked; the message says what would help.
        NoMatchError: it is not here, and peers are not to be asked.
    """
    work = work or Work()
    mine = None if here is None else Choice(here.node, True, estimate(here, work))
    if mine is not None and not peers and prefer != "peer":
        return Plan((mine,))
    allowed = may_ask(prefer, asking)
    others = [Choice(peer.node, False, estimate(peer, work)) for peer in peers if allowed]
    if prefer == "fastest":
        everyone = sorted([*others, *([mine] if mine else [])], key=_first_token)
        if not everyone:
            raise _nobody(prefer, model, asking)
        return Plan(tuple(everyone), race=len(everyone) > 1)
    others.sort(key=_total)
    if prefer == "peer":
        mine = None
    order = _with_here(mine, others)
    if not order:
        raise _nobody(prefer, model, asking)
    return Plan(tuple(order))


def may_ask(prefer: Prefer, asking: Asking) -> bool:
    """Return whether a request may leave this node."""
    if prefer == "local" or asking == "never":
        return False
    return asking == "auto" or prefer != "auto"


def _with_here(mine: Choice | None, others: list[Choice]) -> list[Choice]:
    """Return the order to try: here first, but for a peer that is much sooner."""
    if mine is None:
        return others
    if not others:
        return [mine]
    here_s, there_s = mine.estimate.total_s, others[0].estimate.total_s
    sooner = here_s > there_s * OFFLOAD_GAIN_RATIO and here_s > there_s + OFFLOAD_GAIN_S
    return [others[0], mine, *others[1:]] if sooner else [mine, *others]


def _assumed_decode_tokens_s(runner: Runner, work: Work) -> float:
    reads_bytes_s = OFFLOAD_ASSUMED_GPU_BYTES_S if runner.gpu else OFFLOAD_ASSUMED_CPU_BYTES_S
    fastest = OFFLOAD_ASSUMED_DECODE_MAX_TOKENS_S
    return fastest if work.size_bytes <= 0 else min(fastest, reads_bytes_s / work.size_bytes)


def _load_s(runner: Runner, work: Work) -> float:
    if runner.load_s is not None:
        return runner.load_s
    return OFFLOAD_ASSUMED_LOAD_S + work.size_bytes / OFFLOAD_ASSUMED_LOAD_BYTES_S


def _total(choice: Choice) -> tuple[float, NodeId]:
    return choice.estimate.total_s, choice.node


def _first_token(choice: Choice) -> tuple[float, bool, NodeId]:
    return choice.estimate.first_token_s, not choice.local, choice.node


def _nobody(prefer: Prefer, model: str, asking: Asking) -> DreamerError:
    if not may_ask(prefer, asking):
        return NoMatchError(_not_here(prefer, model, asking))
    hint = "set inference.serve_peers = true on a node that has it"
    return RemoteError(
        f"no node that is online serves {model}: {hint}"
        + ("" if prefer == "peer" else ", or pull it and run it here")
    )


def _not_here(prefer: Prefer, model: str, asking: Asking) -> str:
    if prefer == "local":
        return f"{model} is not on this node: pull it first, or run it with --where peer"
    if asking == "never":
        return f"{model} is not on this node, which asks no peers ([offload] ask): pull it first"
    return (
        f"{model} is not on this node: pull it first, run it with --where peer, or set "
        "[offload] ask = auto to have peers run what is not here"
    )
