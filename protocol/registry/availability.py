"""Where models lie: in the room's bucket, and in the caches of nodes, which say so themselves."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry.names import check_line
from dreamer.protocol.registry.reading import Reader, check_count
from dreamer.protocol.registry_limits import (
    CACHED_ID_BYTES,
    ORIGIN_URL_MAX_CHARS,
    REPORT_MAX_CELLS,
    REPORT_MAX_COUNTERS,
    REPORT_MAX_MODELS,
    REPORT_MAX_MONTHS,
    REPORT_NAME_MAX_CHARS,
)

Usage = Mapping[str, Mapping[str, int]]
"""By month (``YYYY-MM``): what a node counts, such as bytes by lane, by the counter's name."""

# No user, query or fragment: what a person may see must not open the bucket to them.
_ORIGIN_URL = re.compile(r"(https?|s3)://[^\s/?#@]+(/[^\s?#]*)?", re.ASCII)
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
_COUNTER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)


@dataclass(frozen=True)
class Stored:
    """This model is in the bucket at ``origin_url``; with None it is there no more.

    ``size_bytes`` are the model's own, ``stored_bytes`` what it takes there, compressed.
    """

    manifest_id: ManifestId
    origin_url: str | None
    size_bytes: int = 0
    stored_bytes: int = 0

    def __post_init__(self) -> None:
        url = self.origin_url
        if url is not None and not (
            len(url) <= ORIGIN_URL_MAX_CHARS and url.isprintable() and _ORIGIN_URL.fullmatch(url)
        ):
            # Not shown: it may hold a password or a signature.
            raise InputError(
                f"model {short(self.manifest_id)} can't be stored at this URL: use http(s)://… or "
                "s3://… without user, query or fragment"
            )

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return f"storage of model {short(self.manifest_id)}"

    def fields(self) -> Json:
        """Return the JSON fields."""
        counts = {"size_bytes": self.size_bytes, "stored_bytes": self.stored_bytes}
        model = self.manifest_id.hex()
        return {"kind": "stored", "manifest_id": model, "origin": self.origin_url, **counts}


def read_stored(fields: Reader) -> Stored:
    """Read the fields of a statement that a model is stored, or is no more."""
    fields.kind("stored")
    url = fields.any("origin")
    if url is not None and not isinstance(url, str):
        raise InputError("where a model is stored must be a text")
    counts = fields.integer("size_bytes"), fields.integer("stored_bytes")
    return Stored(ManifestId(fields.hex_bytes("manifest_id")), url, *counts)


@dataclass(frozen=True)
class NodeReport:
    """What a node says of itself: the models that it has, and what it moved, month by month.

    ``cached`` has the first ``CACHED_ID_BYTES`` of each model's id (longer ones are cut) and
    whether the node gives it to others. ``usage`` has the latest ``REPORT_MAX_MONTHS`` months, or
    as many as ``REPORT_MAX_CELLS`` allow.
    """

    cached: tuple[tuple[bytes, bool], ...] = ()
    usage: Usage = field(default_factory=dict, hash=False)
    name: str = ""

    def __post_init__(self) -> None:
        cached = {key[:CACHED_ID_BYTES]: serves for key, serves in self.cached}
        if any(len(key) < CACHED_ID_BYTES for key in cached):
            raise InputError(f"a cached model is named by {CACHED_ID_BYTES} bytes of its id")
        if len(cached) > REPORT_MAX_MODELS:
            raise InputError(f"a node reports {REPORT_MAX_MODELS} models at most")
        # One form for one report, whatever order its parts came in: a signature is over it.
        object.__setattr__(self, "cached", tuple(sorted(cached.items())))
        object.__setattr__(self, "usage", _checked_usage(self.usage))
        check_line(self.name, "a node's name", REPORT_NAME_MAX_CHARS)

    @property
    def subject(self) -> str:
        """What the statement is about, for people."""
        return "report of a node"

    def fields(self) -> Json:
        """Return the JSON fields: ids joined to one text, months as rows under their columns."""
        later: Json = {
            "serves": _joined(key for key, serves in self.cached if serves),
            "keeps": _joined(key for key, serves in self.cached if not serves),
            "usage": _usage_json(self.usage) if self.usage else None,
            "name": self.name,
        }
        return {"kind": "node", **{key: value for key, value in later.items() if value}}


def read_report(fields: Reader) -> NodeReport:
    """Read the fields of a node's report."""
    fields.kind("node")
    serves = _parted(fields.text("serves")) if fields.has("serves") else []
    keeps = _parted(fields.text("keeps")) if fields.has("keeps") else []
    return NodeReport(
        cached=(*((key, True) for key in serves), *((key, False) for key in keeps)),
        usage=_read_usage(fields.mapping("usage")) if fields.has("usage") else {},
        name=fields.text("name") if fields.has("name") else "",
    )


def _joined(keys: Iterable[bytes]) -> str:
    return base64.urlsafe_b64encode(b"".join(keys)).decode()


def _parted(text: str) -> list[bytes]:
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InputError(f"the models of a node are no base64: {error}") from error
    if len(data) % CACHED_ID_BYTES:
        raise InputError("the models of a node are cut off")
    return [data[at : at + CACHED_ID_BYTES] for at in range(0, len(data), CACHED_ID_BYTES)]


def _checked_usage(usage: Usage) -> dict[str, dict[str, int]]:
    """Return the latest months, without what is zero.

    Raises:
        InputError: no month, no counter, too many of them, or no count.
    """
    found: dict[str, dict[str, int]] = {}
    for month in sorted(usage)[-REPORT_MAX_MONTHS:]:
        counts = usage[month]
        if not _MONTH.fullmatch(month):
            raise InputError(f"{month!r:.40} is not a month such as 2026-11")
        for lane, count in counts.items():
            if not _COUNTER.fullmatch(lane):
                raise InputError(f"{lane!r:.40} is no name of what a node counts")
            check_count(count, f"{lane} of {month}")
        if moved := {lane: counts[lane] for lane in sorted(counts) if counts[lane]}:
            found[month] = moved
    if len(_columns(found)) > REPORT_MAX_COUNTERS:
        raise InputError(f"a node reports {REPORT_MAX_COUNTERS} counters at most")
    # The more a node counts, the shorter it is remembered here; its own ledger has it all.
    while len(found) * len(_columns(found)) > REPORT_MAX_CELLS:
        del found[min(found)]
    return found


def _columns(usage: Usage) -> list[str]:
    return sorted({lane: None for counts in usage.values() for lane in counts})


def _usage_json(usage: Usage) -> Json:
    columns = _columns(usage)
    rows = {
        month: [counts.get(lane, 0) for lane in columns] for month, counts in sorted(usage.items())
    }
    return {"columns": columns, "months": rows}


def _read_usage(value: Json) -> Usage:
    fields = Reader(value, "a node's usage")
    columns, months = fields.items("columns"), fields.mapping("months")
    fields.nothing_else()
    if not all(isinstance(column, str) for column in columns):
        raise InputError("the lanes of a node's usage must be texts")
    usage: dict[str, dict[str, int]] = {}
    for month, row in months.items():
        if not isinstance(row, list) or len(row) != len(columns):
            raise InputError(f"the usage of {month!r:.40} is no row of {len(columns)} numbers")
        usage[month] = {str(lane): count for lane, count in zip(columns, row, strict=True)}
    return usage
