"""One setting: its default, what it means to whoever reads the file, and its own rule."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from dreamer.daemon.setting_checks import Check


def key(default: Any, doc: str, check: Check | None = None) -> Any:
    """Return the field of a setting; ``doc`` is printed with the default configuration."""
    return field(default=default, metadata={"doc": doc, "check": check})
