"""The JSON form of what a node returns, and the way back for the Python client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from dreamer.daemon.ports import (
    Progress,
    PullEvent,
    PullReceipt,
    PushEvent,
    PushReceipt,
    TorrentFileEvent,
    TorrentReceipt,
)
from dreamer.daemon.surfaces.caches import VerifyReceipt
from dreamer.daemon.surfaces.catalogue import ModelList
from dreamer.daemon.surfaces.inference import RunEnded, RunEvent, RunStarted, RunText
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError, LocalProtocolError

V = TypeVar("V")
Event = PushEvent | PullEvent | TorrentFileEvent | RunEvent | ModelList | VerifyReceipt

EVENT_NAMES: dict[type[Any], str] = {
    Progress: "progress",
    PushReceipt: "receipt",
    PullReceipt: "receipt",
    TorrentReceipt: "receipt",
    ModelList: "models",
    VerifyReceipt: "receipt",
    RunStarted: "started",
    RunText: "text",
    RunEnded: "ended",
}
"""The ``event:`` field of Server-Sent Events by the class of what happened."""


def to_json(value: Any) -> Json:
    """Return a dataclass of ``ports`` as a JSON object, field by field."""
    return asdict(value)


def from_json(kind: type[V], value: Json) -> V:
    """Return the dataclass ``kind`` from its JSON form; fields it does not know are left out."""
    # JSON has no tuples, and the daemon may be newer than this client.
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: _field(hints[name], value[name]) for name in known if name in value})


def _field(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return from_json(hint, value)
    if get_origin(hint) is not tuple:
        return value
    each = get_args(hint)[0]
    if isinstance(each, type) and is_dataclass(each):
        return tuple(from_json(each, one) for one in value)
    return tuple(value)


def error_json(error: DreamerError) -> Json:
    """Return the body of a failed request."""
    return {"error": {"code": error.code, "message": str(error)}}


def run_json(events: Iterable[RunEvent]) -> Json:
    """Return a whole generation as one object.

    Raises:
        LocalProtocolError: the generation did not begin or did not end.
    """
    summary: Json = {}
    pieces: list[str] = []
    for event in events:
        if isinstance(event, RunText):
            pieces.append(event.text)
        else:
            summary.update(to_json(event))
    if "where" not in summary or "finish_reason" not in summary:
        raise LocalProtocolError("the daemon ended a run without saying how: see its log")
    return {"text": "".join(pieces), **summary}
