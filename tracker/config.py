"""The tracker's settings: command line, then environment, then the TOML file, then the default.

The file is the node's: a machine that runs both has one. The tracker reads its section alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.protocol.tracker_limits import TRACKER_SOCKETS_PER_ADDRESS, WORKERS_MAX
from dreamer.tracker.room.lends import Lends, read_lends
from dreamer.tracker.room.terms import Terms

DEFAULT_LISTEN = "0.0.0.0:8470"
_LISTS = ("rooms", "names", "turn_urls")
_NUMBERS = ("turn_ttl_s", "sockets_per_address", "workers", "sweep_interval_s")
_TABLES = ("origins",)
_KEYS = ("listen", "data", "turn_secret_file", "redis", "sweep", *_LISTS, *_NUMBERS, *_TABLES)
_SECTIONS = (
    *("node", "api", "network", "sharing", "tracker", "torrent", "inference", "offload"),
    *("cost", "worker", "models", "store", "log"),
)


@dataclass(frozen=True)
class TrackerConfig:
    """Where the tracker listens (port 0: any free one), its store, whom it serves, with what."""

    host: str
    port: int
    data: Path
    terms: Terms
    lends: Lends
    sockets_per_address: int = TRACKER_SOCKETS_PER_ADDRESS
    redis: str = ""
    """The URL of what joins several processes; empty: this one is alone."""
    workers: int = 1


@dataclass(frozen=True)
class Given:
    """What the command line says; lists are written with commas. None: it doesn't say."""

    listen: str | None = None
    data: str | None = None
    rooms: str | None = None
    names: str | None = None
    config: Path | None = None
    sockets_per_address: str | None = None
    redis: str | None = None
    workers: str | None = None


def resolve(given: Given, environ: Mapping[str, str]) -> TrackerConfig:
    """Return the settings.

    Raises:
        InputError: the file has an unknown key, a value is malformed, or there is no data folder.
    """
    file = _read(given.config) if given.config else {}

    # What only the file and the environment say is too secret or too long for a command line.
    def setting(key: str, said: str | None = None) -> str:
        return said or environ.get(f"DREAMER_TRACKER_{key.upper()}") or file.get(key, "")

    data = setting("data", given.data)
    if not data:
        raise InputError("where to keep the store? give --data DIR or set DREAMER_TRACKER_DATA")
    host, port = _split(setting("listen", given.listen) or DEFAULT_LISTEN)
    terms = Terms(
        frozenset(_room(each) for each in _listed(setting("rooms", given.rooms))),
        frozenset(each.lower() for each in _listed(setting("names", given.names))),
    )
    most = _count("sockets_per_address", setting("sockets_per_address", given.sockets_per_address))
    redis, workers = setting("redis", given.redis), _workers(setting("workers", given.workers))
    if workers > 1 and not redis:
        raise InputError(
            f"{workers} workers find one another's peers through Redis: start a redis-server and "
            "give its URL, as --redis redis://127.0.0.1:6379, or leave --workers out"
        )
    return TrackerConfig(host, port, Path(data), terms, read_lends(setting), most, redis, workers)


def _read(path: Path) -> dict[str, str]:
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"can't read {path}: {error}") from error
    # A misspelt key that is passed over in silence costs somebody an afternoon.
    for name, section in settings.items():
        if name not in _SECTIONS or not isinstance(section, dict):
            raise InputError(f"{path}: there is no section [{name}]; the tracker's is [tracker]")
    tracker: dict[str, object] = settings.get("tracker", {})
    return {key: _text(path, key, value) for key, value in tracker.items()}


def _text(path: Path, key: str, value: object) -> str:
    if key not in _KEYS:
        raise InputError(f"{path}: [tracker] has no key {key!r}; it has {', '.join(_KEYS)}")
    if key in _LISTS:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return ",".join(value)
        raise InputError(f"{path}: [tracker] {key} must be a list of strings")
    if key in _NUMBERS:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise InputError(f"{path}: [tracker] {key} must be a whole number")
    if key in _TABLES:
        if isinstance(value, dict):
            return canonical.dumps(value).decode()
        raise InputError(f"{path}: [tracker.{key}] must be a table")
    if not isinstance(value, str):
        raise InputError(f"{path}: [tracker] {key} must be a string")
    return value


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _count(key: str, text: str) -> int:
    if not text:
        return TRACKER_SOCKETS_PER_ADDRESS
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{key} must be a whole number, 0 for no limit, not {text!r:.40}")
    return int(text)


def _workers(text: str) -> int:
    if not text:
        return 1
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= WORKERS_MAX:
        raise InputError(f"workers must be from 1 to {WORKERS_MAX}, not {text!r:.40}")
    return int(text)


def _room(text: str) -> RoomId:
    return RoomId(from_hex(text, "a room in rooms"))


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise InputError(f"listen must be HOST:PORT, as 127.0.0.1:8470, not {listen!r:.80}")
    return host, int(port)
