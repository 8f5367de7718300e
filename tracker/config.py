"""The tracker's settings: command line, then environment, then the TOML file, then the default.

The file is the node's: a machine that runs both has one. The tracker reads its section alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamer.protocol.errors import InputError

DEFAULT_LISTEN = "0.0.0.0:8470"
_KEYS = ("listen", "data")
_SECTIONS = ("node", "api", "network", "tracker", "inference", "log")


@dataclass(frozen=True)
class TrackerConfig:
    """Where the tracker listens (port 0: any free one) and keeps its store."""

    host: str
    port: int
    data: Path


def resolve(
    listen: str | None, data: str | None, config: Path | None, environ: Mapping[str, str]
) -> TrackerConfig:
    """Return the settings; arguments that were not given are None.

    Raises:
        InputError: the file has an unknown key, a value is malformed, or there is no data folder.
    """
    file = _read(config) if config else {}
    listen = listen or environ.get("DREAMER_TRACKER_LISTEN") or file.get("listen", DEFAULT_LISTEN)
    data = data or environ.get("DREAMER_TRACKER_DATA") or file.get("data")
    if not data:
        raise InputError("where to keep the store? give --data DIR or set DREAMER_TRACKER_DATA")
    host, port = _split(listen)
    return TrackerConfig(host, port, Path(data))


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
    if not isinstance(value, str):
        raise InputError(f"{path}: [tracker] {key} must be a string")
    return value


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise InputError(f"listen must be HOST:PORT, as 127.0.0.1:8470, not {listen!r:.80}")
    return host, int(port)
