"""The Python client's view of what models cost."""

from __future__ import annotations

from urllib.parse import urlencode

from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.costs import CostReport


class CostsClient:
    """``Dreamer().costs``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def read(self, month: str | None = None, room: str | None = None) -> CostReport:
        """Return what was moved and paid in ``month`` (``YYYY-MM``, UTC), or in all on record."""
        asked = {key: value for key, value in (("month", month), ("room", room)) if value}
        query = f"?{urlencode(asked)}" if asked else ""
        return from_json(CostReport, self._caller.request("GET", f"/cost{query}"))
