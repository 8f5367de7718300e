"""The Python client's view of whether a node is ready."""

from __future__ import annotations

import time

from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.readiness import ReadyInfo
from dreamer.protocol.cache_limits import READY_POLL_S
from dreamer.protocol.errors import LocalError


class ReadinessClient:
    """``Dreamer().readiness``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def info(self) -> ReadyInfo:
        """Return how it stands now.

        Raises:
            LocalError: no daemon runs.
        """
        return from_json(ReadyInfo, self._caller.request("GET", "/readiness"))

    def wait(self, timeout_s: float) -> ReadyInfo:
        """Wait until the node is ready, also for its daemon to start; return how it stands then.

        Raises:
            LocalError: no daemon runs at the end of the time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self.info()
                if found.ready or time.monotonic() >= deadline:
                    return found
            except LocalError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(min(READY_POLL_S, max(deadline - time.monotonic(), 0.0)))
