"""Settings of the store: how much it may keep, and for how long what is not used."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.daemon.setting_checks import between
from dreamer.daemon.settings.key import key
from dreamer.protocol.cache_limits import STORE_GRACE_S, STORE_QUOTA_MAX_GIB


@dataclass(frozen=True)
class StoreSection:
    """What models may take on the disk (docs/store.md)."""

    quota_gib: float = key(
        0.0,
        "GiB that models may take, those on their way included. When one more does not fit, those "
        "that were used least recently go; never what is pinned, in use, or was pushed from here "
        "and is not known to be elsewhere. Daemons that share a store need the same. 0: no bound.",
        between(0, STORE_QUOTA_MAX_GIB),
    )
    min_free_gib: float = key(
        0.0,
        "GiB of the disk that stay free: models go for this, too. 0: a few MiB, and without a "
        "quota no model ever goes by itself.",
        between(0, STORE_QUOTA_MAX_GIB),
    )
    grace_s: float = key(
        STORE_GRACE_S,
        "Seconds after its last use in which a model does not go.",
        between(0, 86_400 * 365),
    )
