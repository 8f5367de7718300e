"""The Python client's view of who in a room may have whom run models."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.offload_rules import OffloadRulesInfo

_ONLY_ROOM = "-"


class OffloadRulesClient:
    """``Dreamer().offload_rules``; see ``surfaces.offload_rules``. No room: the only one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def rules(self, room: str | None = None) -> OffloadRulesInfo:
        """Return a room's rules."""
        return from_json(OffloadRulesInfo, self._caller.request("GET", _path(room)))

    def set_rules(self, allow: Sequence[str] | None, room: str | None = None) -> OffloadRulesInfo:
        """Set a room's rules, such as ``member=worker``; None leaves it to each node."""
        body = {"allow": None if allow is None else list(allow)}
        return from_json(OffloadRulesInfo, self._caller.request("PUT", _path(room), body))


def _path(room: str | None) -> str:
    return f"/rooms/{quote(room or _ONLY_ROOM, safe='')}/offload"
