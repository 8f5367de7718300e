"""What a tracker lends to members besides introductions, as its owner has set."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.protocol.origin import OriginAddress, parse_origin
from dreamer.protocol.rooms import fields
from dreamer.protocol.tracker_limits import TURN_SECRET_MAX_BYTES, TURN_TTL_S
from dreamer.tracker.room.sweep import SweepSettings, read_sweep
from dreamer.tracker.room.turn import TurnSettings

_TABLE_FORM = '[tracker.origins.ROOM-ID] has url = "s3://BUCKET/PREFIX" and perhaps endpoint_url'


@dataclass(frozen=True)
class Lends:
    """TURN servers (None: none), and the bucket that each room's URLs are signed for.

    ``sweep`` says what is removed from these buckets, and how often.
    """

    turn: TurnSettings | None = None
    origins: Mapping[RoomId, OriginAddress] = field(default_factory=dict)
    sweep: SweepSettings = field(default_factory=SweepSettings)


def read_lends(setting: Callable[[str], str]) -> Lends:
    """Return what the settings of TURN, of the table ``origins`` and of the sweep say.

    ``setting`` returns a setting's text, empty when there is none: lists with commas, tables as
    JSON.

    Raises:
        InputError: one is malformed, or the secret can't be read or can be read by others.
    """
    return Lends(
        _turn(setting("turn_urls"), setting("turn_secret_file"), setting("turn_ttl_s")),
        _origins(setting("origins")),
        read_sweep(setting("sweep"), setting("sweep_interval_s")),
    )


def _turn(urls: str, secret_file: str, ttl_s: str) -> TurnSettings | None:
    uris = tuple(each.strip() for each in urls.split(",") if each.strip())
    if not uris and not secret_file:
        return None
    if not uris or not secret_file:
        raise InputError("turn_urls and turn_secret_file belong together: set both or neither")
    if ttl_s and not (ttl_s.isascii() and ttl_s.isdigit()):
        raise InputError(f"turn_ttl_s must be a whole number of seconds, not {ttl_s!r:.40}")
    return TurnSettings(uris, _secret(Path(secret_file)), int(ttl_s or TURN_TTL_S))


def _secret(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            secret = file.read(TURN_SECRET_MAX_BYTES + 1).strip()
    except OSError as error:
        raise InputError(f"can't read turn_secret_file {path}: {error.strerror}") from error
    # Whoever reads it makes credentials of any length for the relay.
    if mode & 0o077:
        raise InputError(f"others can read turn_secret_file {path}: say chmod 600 {path}")
    if not 0 < len(secret) <= TURN_SECRET_MAX_BYTES:
        raise InputError(
            f"turn_secret_file {path} must hold the relay's static-auth-secret, 1 to "
            f"{TURN_SECRET_MAX_BYTES} bytes"
        )
    return secret


def _origins(text: str) -> dict[RoomId, OriginAddress]:
    if not text:
        return {}
    found = {}
    for room, table in canonical.loads_lenient(text.encode()).items():
        room_id = RoomId(from_hex(room, "a room in origins"))
        said = fields.exact({"endpoint_url": "", **_table(table)}, ("url", "endpoint_url"), room)
        url, endpoint_url = (fields.text(said[key], key) for key in ("url", "endpoint_url"))
        found[room_id] = parse_origin(url, endpoint_url or None)
    return found


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InputError(f"origins is no table of tables: {_TABLE_FORM}")
    return value
