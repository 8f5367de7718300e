"""Settings of having peers run models, and of running them for peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.setting_checks import between
from dreamer.daemon.settings.key import key
from dreamer.protocol.offload_limits import (
    OFFLOAD_FIRST_TOKEN_TIMEOUT_MAX_S,
    OFFLOAD_FIRST_TOKEN_TIMEOUT_S,
)
from dreamer.protocol.rooms.certificate import ALL_ROLES


def _role_names(values: tuple[str, ...]) -> str | None:
    return None if all(value in ALL_ROLES for value in values) else " or ".join(ALL_ROLES)


@dataclass(frozen=True)
class OffloadSection:
    """Running models on peers; [inference] serve_peers runs them for peers."""

    ask: Literal["never", "on-request", "auto"] = key(
        "on-request",
        "Whether prompts may leave this machine for a member that serves the model, who sees all "
        "of them: never, only for requests that ask for a peer (or the fastest), or auto: "
        "wherever the answer is there soonest.",
    )
    serve_roles: tuple[str, ...] = key(
        (),
        "With serve_peers: only for members with one of these roles. Empty: all whom the room's "
        "own rules let.",
        _role_names,
    )
    first_token_timeout_s: float = key(
        OFFLOAD_FIRST_TOKEN_TIMEOUT_S,
        "Seconds a peer has for the first token, and for each further one, before another node is "
        "asked, if there is one.",
        between(0.1, OFFLOAD_FIRST_TOKEN_TIMEOUT_MAX_S),
    )
