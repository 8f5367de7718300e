"""As what a node is started, and with what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.daemon.worker.kind import Worker
from dreamer.daemon.worker.secrets_given import Invitation

EPHEMERAL = "ephemeral"
"""The capability by which an ephemeral worker tells the room that it gives nothing."""


@dataclass(frozen=True)
class Starting:
    """``preload_only``: it is to fetch its models and end, so it loads none into memory."""

    worker: Worker = field(default_factory=Worker)
    invitation: Invitation = field(default_factory=lambda: Invitation("", {}))
    preload_only: bool = False
