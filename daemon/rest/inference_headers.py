"""Headers of the APIs that run models: who ran it and how long its parts took; where it should run.

``Server-Timing`` is the W3C's: ``queue;dur=1.2, load;dur=0.0, …``, in milliseconds. A stream's
headers leave with its first piece, so it tells of that one only.
"""

from __future__ import annotations

from typing import cast, get_args

from aiohttp import web

from dreamer.daemon.surfaces.inference import Prefer, Ran, RunEnded, RunOptions, RunStarted
from dreamer.protocol.errors import InputError

NODE_HEADER = "X-Dreamer-Node"
WHERE_HEADER = "X-Dreamer-Where"
MODEL_HEADER = "X-Dreamer-Model"
PREFER_HEADER = "X-Dreamer-Prefer"
TIMING_HEADER = "Server-Timing"


def run_options(request: web.Request, keep_alive_s: float | None = None) -> RunOptions:
    """Return how the client wants it run.

    Raises:
        InputError: the header asks for something else than there is.
    """
    given = request.headers.get(PREFER_HEADER, "auto").strip().lower()
    known = get_args(Prefer)
    if given not in known:
        raise InputError(f"{PREFER_HEADER} must be one of {', '.join(known)}, not {given!r:.80}")
    return RunOptions(cast(Prefer, given), keep_alive_s)


def who_headers(started: RunStarted) -> dict[str, str]:
    """Return who runs it: the node's id, ``local`` or ``peer``, and the manifest's id."""
    return {
        NODE_HEADER: started.node,
        WHERE_HEADER: started.where,
        MODEL_HEADER: started.manifest_id,
    }


def timing_headers(**seconds: float) -> dict[str, str]:
    """Return the durations given by their names, such as ``queue=0.01``, in seconds."""
    told = (f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())
    return {TIMING_HEADER: ", ".join(told)}


def generated_headers(started: RunStarted, ended: RunEnded) -> dict[str, str]:
    """Return the headers of a generation that is over."""
    timings = timing_headers(
        queue=ended.queue_s,
        load=ended.load_s,
        prefill=ended.prefill_s,
        first_token=ended.first_token_s,
        decode=ended.decode_s,
        total=ended.seconds,
    )
    return {**who_headers(started), **timings}


def ran_headers(ran: Ran) -> dict[str, str]:
    """Return the headers of tensors or embeddings that were computed."""
    answer = ran.answer
    timings = timing_headers(queue=answer.queue_s, load=answer.load_s, compute=answer.compute_s)
    return {**who_headers(ran.started), **timings}
