"""How a tracker process gets its part in a cluster; Redis' client is loaded only then."""

from __future__ import annotations

from random import Random

from dreamer.protocol.errors import InputError
from dreamer.tracker.cluster.exchange import Exchange


def join(url: str, rng: Random) -> Exchange:
    """Return this process' part in the cluster whose Redis is at ``url``; its ``run`` connects.

    Raises:
        InputError: the URL isn't one of Redis, or the client for it isn't installed.
    """
    try:
        from dreamer.tracker.cluster.redis_bus import RedisBus
    except ImportError as error:
        raise InputError(
            "sharing swarms through Redis needs its client: pip install 'dreamer[cluster]'"
        ) from error
    return Exchange(RedisBus(url), rng)
