"""What peers of earlier versions understand of a request.

They leave out what they don't know. Without its tools, or with thoughts in it, an answer would be
another one, so such requests don't go there; a bound of the context is left out, and a long answer
ends earlier.
"""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.protocol.link.offload_messages import OFFLOAD_LEAST_VERSION, OFFLOAD_VERSION
from dreamer.protocol.offload_limits import OFFLOAD_FIRST_ANSWER_MAX_TOKENS


def least_version(request: GenerateRequest) -> int:
    """Return the version of offloading that a peer must speak to answer this as it is meant."""
    needed = request.about_tools or request.thinking is not None
    return OFFLOAD_VERSION if needed else OFFLOAD_LEAST_VERSION


def understood(request: GenerateRequest, version: int) -> GenerateRequest:
    """Return a request as a peer of this version takes it."""
    if version >= OFFLOAD_VERSION:
        return request
    return replace(request, max_tokens=min(request.max_tokens, OFFLOAD_FIRST_ANSWER_MAX_TOKENS))
