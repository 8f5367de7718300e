"""Reading JSON objects of a fixed shape: every field has its type, and there are no others."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError

_LATEST_S = 1 << 53
"""Whole numbers beyond this don't survive JSON parsers that read numbers as doubles."""


def exact(value: object, names: Collection[str], what: str) -> Json:
    """Return ``value`` if it is a JSON object with these fields and no others.

    Raises:
        InputError: it is something else, or a field is missing or too many.
    """
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object, not {type(value).__name__}")
    if wrong := sorted(set(map(str, value)) ^ set(names)):
        raise InputError(f"{what} has missing or unknown fields: {', '.join(wrong):.200}")
    return cast("Json", value)


def whole(value: object, what: str) -> int:
    """Return ``value`` if it is a whole number that isn't negative.

    Raises:
        InputError: it is something else.
    """
    # To Python, True is a whole number; to JSON it isn't.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST_S:
        return value
    raise InputError(f"{what} must be a whole number, not {value!r:.80}")


def text(value: object, what: str) -> str:
    """Return ``value`` if it is a string.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        return value
    raise InputError(f"{what} must be text, not {type(value).__name__}")


def items(value: object, what: str, most: int) -> list[object]:
    """Return ``value`` if it is a list of at most ``most`` items.

    Raises:
        InputError: it is something else, or longer.
    """
    if not isinstance(value, list):
        raise InputError(f"{what} must be a list, not {type(value).__name__}")
    if len(value) > most:
        raise InputError(f"{what} has {len(value)} items, more than {most}")
    return value
