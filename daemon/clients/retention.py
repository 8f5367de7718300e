"""The Python client's view of what rooms keep: rules, garbage, temporary uploads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from dreamer.daemon.ports import Progress, PushEvent, PushReceipt
from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.retention import (
    GarbageReport,
    KeepRules,
    PolicyInfo,
    RetentionReport,
)
from dreamer.protocol.errors import LocalError
from dreamer.protocol.origin_limits import GARBAGE_GRACE_S, TEMPORARY_DEFAULT_TTL_S

_ONLY_ROOM = "-"


class RetentionClient:
    """``Dreamer().retention``; see ``surfaces.retention.Retention``. No room: the only one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def policy(self, room: str | None = None) -> PolicyInfo:
        """Return a room's rules."""
        return from_json(PolicyInfo, self._caller.request("GET", _path(room, "policy")))

    def set_policy(self, rules: KeepRules, room: str | None = None) -> PolicyInfo:
        """Set a room's rules, all of them; ``KeepRules()`` keeps everything. For admins."""
        found = self._caller.request("PUT", _path(room, "policy"), asdict(rules))
        return from_json(PolicyInfo, found)

    def retain(self, room: str | None = None, apply: bool = False) -> RetentionReport:
        """Return what the rules keep and what goes; ``apply``: withdraw what goes."""
        found = self._caller.request("POST", _path(room, "retain"), {"apply": apply})
        return from_json(RetentionReport, found)

    def collect(
        self, room: str | None = None, apply: bool = False, grace_s: float = GARBAGE_GRACE_S
    ) -> GarbageReport:
        """Return what of the origin nobody names; ``apply``: remove it."""
        body = {"apply": apply, "grace_s": grace_s}
        return from_json(GarbageReport, self._caller.request("POST", _path(room, "gc"), body))

    def upload(
        self,
        path: str | Path,
        ttl_s: float = TEMPORARY_DEFAULT_TTL_S,
        room: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        progress: Callable[[Progress], None] | None = None,
        allow_pickle: bool = False,
    ) -> PushReceipt:
        """Upload a file or directory that the room has for ``ttl_s`` seconds, and wait for it.

        Any member pulls it by the receipt's ``manifest_id``, or by the start of it.
        """
        events = self.upload_events(path, ttl_s, room, tags, name, allow_pickle)
        with closing(events):
            for event in events:
                if not isinstance(event, Progress):
                    return event
                if progress is not None:
                    progress(event)
        raise LocalError("dreamerd ended its work without a receipt: see its log")

    def upload_events(
        self,
        path: str | Path,
        ttl_s: float = TEMPORARY_DEFAULT_TTL_S,
        room: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        allow_pickle: bool = False,
    ) -> Generator[PushEvent, None, None]:
        """Upload, yielding progress and at last the receipt; closing it cancels the work."""
        body = {
            # The daemon has a working directory of its own.
            "path": str(Path(path).expanduser().absolute()),
            "room": room,
            "ttl_s": ttl_s,
            "tags": list(tags),
            "name": name,
            "allow_pickle": allow_pickle,
        }
        kinds = {"progress": Progress, "receipt": PushReceipt}
        return self._caller.events("/upload", body, kinds)


def _path(room: str | None, what: str) -> str:
    return f"/rooms/{quote(room or _ONLY_ROOM, safe='')}/{what}"
