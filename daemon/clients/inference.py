"""The Python client's view of the models that a node runs."""

from __future__ import annotations

from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.inference import InferenceReport


class InferenceClient:
    """``Dreamer().inference``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def report(self) -> InferenceReport:
        """Return the models that are or were loaded, their workers, the GPUs."""
        return from_json(InferenceReport, self._caller.request("GET", "/inference"))
