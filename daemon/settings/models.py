"""Settings of the models that a node has before it is ready."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.settings.key import key
from dreamer.protocol.cache_limits import PRELOAD_MAX_MODELS


def models_to_preload(refs: tuple[str, ...]) -> str | None:
    """Check references to models, each given once."""
    good = all(refs) and len(set(refs)) == len(refs) <= PRELOAD_MAX_MODELS
    return None if good else f"a list of at most {PRELOAD_MAX_MODELS} models, none of them twice"


@dataclass(frozen=True)
class ModelsSection:
    """Models that are fetched at the start, and loaded if this node can run them."""

    preload: tuple[str, ...] = key(
        (),
        "Models by alias, id or tag:NAME. GET /ready, `dreamer ready` and systemd hear that the "
        "node is ready once all of them are here.",
        models_to_preload,
    )
    follow: bool = key(
        False,
        "When an alias moves, fetch and load what it means now, then let the earlier model go. "
        "While both are loaded there is one model more in memory than max_models allows.",
    )
    room: str = key("", "The room they are in. Empty: whichever of this node's rooms has them.")
