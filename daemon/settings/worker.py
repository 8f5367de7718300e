"""Settings of what kind of worker a node is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.setting_checks import between
from dreamer.daemon.settings.key import key
from dreamer.protocol.cache_limits import WORKER_GRACE_MAX_S, WORKER_GRACE_S


@dataclass(frozen=True)
class WorkerSection:
    """Which kind of worker this node is (docs/workers.md)."""

    kind: Literal["auto", "persistent", "ephemeral"] = key(
        "auto",
        "A persistent node keeps what it has and gives it to others. An ephemeral one gives "
        "nothing to others, and sends off what it has to upload before it ends. auto: ephemeral "
        "in Kubernetes or Run:ai with a home that can't be written or goes with the pod.",
    )
    grace_s: float = key(
        WORKER_GRACE_S,
        "Seconds from SIGTERM to SIGKILL, as the pod has them (terminationGracePeriodSeconds): "
        "as long, less a few seconds, an ephemeral node goes on uploading after SIGTERM.",
        between(0, WORKER_GRACE_MAX_S),
    )
    join_token_file: str = key(
        "",
        "Holds an invitation with which the node joins a room at its start, unless it is a member "
        "already; for pods make one with --uses and --expires. Empty: that in DREAMER_JOIN_TOKEN, "
        "if any.",
    )
