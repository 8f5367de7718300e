"""Settings of the tracker inside this daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.daemon.field_types import TableText
from dreamer.daemon.setting_checks import (
    an_address,
    between,
    room_ids_only,
    with_schemes,
)
from dreamer.daemon.settings.key import key
from dreamer.protocol.tracker_limits import (
    SWEEP_INTERVAL_MAX_S,
    SWEEP_INTERVAL_S,
    TURN_TTL_MAX_S,
    TURN_TTL_MIN_S,
    TURN_TTL_S,
    WORKERS_MAX,
)


@dataclass(frozen=True)
class TrackerSection:
    """The tracker inside this daemon, started by --with-tracker."""

    # Every interface, since only asking for --with-tracker starts it, and others must reach it.
    listen: str = key("0.0.0.0:8470", "Address it accepts on; port 0 picks a free one.", an_address)
    data: str = key("", "Where it keeps its records. Empty: HOME/tracker.")
    rooms: tuple[str, ...] = key(
        (),
        "The only rooms it serves, by the ids that `dreamer room list --json` prints. Empty: any, "
        "so that whoever reaches it may use it. Set it once your rooms are made.",
        room_ids_only,
    )
    names: tuple[str, ...] = key(
        (),
        "What nodes dial to reach it, as HOST:PORT (HOST alone where the port is the scheme's "
        "own); a login made for another tracker is refused. Empty: what the Host header says, "
        "which another tracker of the same room could forge.",
    )
    turn_urls: tuple[str, ...] = key(
        (),
        "TURN servers that it makes credentials for, as turn:HOST:PORT (docs/turn.md).",
        with_schemes("turn", "turns"),
    )
    turn_secret_file: str = key(
        "", "Holds the secret shared with them (static-auth-secret of coturn); mode 0600."
    )
    turn_ttl_s: int = key(
        TURN_TTL_S,
        "Seconds for which TURN credentials are good.",
        between(TURN_TTL_MIN_S, TURN_TTL_MAX_S),
    )
    origins: TableText = key(  # noqa: RUF009 - a field of text, like the others
        TableText("{}"),
        "Rooms for which it signs S3 URLs, so that nodes need no S3 credentials: a section "
        '[tracker.origins.ROOM-ID] with url = "s3://BUCKET/PREFIX" and, if it isn\'t AWS, '
        "endpoint_url. The credentials are this daemon's.",
    )
    sweep: Literal["off", "temporary", "garbage"] = key(
        "temporary",
        "What it removes by itself from the origins that it signs for: nothing, temporary uploads "
        "whose time is over, or also what no model of the room has (docs/retention.md).",
    )
    sweep_interval_s: int = key(
        int(SWEEP_INTERVAL_S),
        "Seconds from one such sweep to the next.",
        between(1, SWEEP_INTERVAL_MAX_S),
    )
    redis: str = key(
        "",
        "The Redis through which several trackers share public swarms, as redis://HOST:6379 "
        "(docs/tracker.md). Empty: this one is alone.",
    )
    workers: int = key(
        1,
        "Processes that serve public clients; more than one need redis.",
        between(1, WORKERS_MAX),
    )
