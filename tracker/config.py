"""The tracker's settings: command line, then environment, then the TOML file, then the default.

The file is the node's: a machine that runs both has one. The tracker reads its section alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.tracker.terms import Terms

DEFAULT_LISTEN = "0.0.0.0:8470"
_KEYS = ("listen", "data", "rooms", "names")
_LISTS = ("rooms", "names")
_SECTIONS = ("node", "api", "network", "tracker", "inference", "log")


@dataclass(frozen=True)
class TrackerConfig:
    """Where the tracker listens (port 0: any free one), keeps its store, and whom it serves."""

    host: str
    port: int
    data: Path
    terms: Terms


@dataclass(frozen=True)
class Given:
    """What the command line says; lists are written with commas. None: it doesn't say."""

    listen: str | None = None
    data: str | None = None
    rooms: str | None = None
    names: str | None = None
    config: Path | None = None


def resolve(given: Given, environ: Mapping[str, str]) -> TrackerConfig:
    """Return the settings.

    Raises:
        InputError: the file has an unknown key, a value is malformed, or there is no data folder.
    """
    file = _read(given.config) if given.config else {}

    def setting(key: str, said: str | None) -> str:
        return said or environ.get(f"DREAMER_TRACKER_{key.upper()}") or file.get(key, "")

    data = setting("data", given.data)
    if not data:
        raise InputError("where to keep the store? give --data DIR or set DREAMER_TRACKER_DATA")
    host, port = _split(setting("listen", given.listen) or DEFAULT_LISTEN)
    terms = Terms(
        frozenset(_room(each) for each in _listed(setting("rooms", given.rooms))),
        frozenset(each.lower() for each in _listed(setting("names", given.names))),
    )
    return TrackerConfig(host, port, Path(data), terms)


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
    if not isinstance(value, str):
        raise InputError(f"{path}: [tracker] {key} must be a string")
    return value


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _room(text: str) -> RoomId:
    return RoomId(from_hex(text, "a room in rooms"))


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise InputError(f"listen must be HOST:PORT, as 127.0.0.1:8470, not {listen!r:.80}")
    return host, int(port)
