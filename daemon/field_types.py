"""Checks a value from outside (TOML, JSON, the environment) against a field's annotation.

Understood: ``str``, ``bool``, ``int``, ``float``, ``tuple[str, ...]``, ``Literal`` of strings,
``TableText``, and any of them ``| None``. A JSON integer is a good float, and a table becomes its
JSON; nothing else is converted.
"""

from __future__ import annotations

import json
import math
import types
from typing import Any, Literal, NewType, Union, get_args, get_origin

from dreamer.protocol.errors import InputError

TableText = NewType("TableText", str)
"""A TOML table as the text of a JSON object: kept whole for whoever understands it."""

_PLAIN = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def checked(value: object, wanted: Any, where: str) -> Any:
    """Return ``value`` as the annotation ``wanted`` has it.

    Raises:
        InputError: it is of another type; the message begins with ``where``.
    """
    if get_origin(wanted) in (Union, types.UnionType):
        inner = next(one for one in get_args(wanted) if one is not types.NoneType)
        return None if value is None else checked(value, inner, where)
    # TOML and JSON writers drop the .0 of whole numbers.
    if wanted is float and _is_integer(value):
        value = float(value)  # type: ignore[arg-type]
    if get_origin(wanted) is tuple and isinstance(value, (list, tuple)):
        value = tuple(value)
    if wanted is TableText and isinstance(value, dict):
        # TOML's dates and infinities have no JSON; as text they are refused by whoever reads it.
        value = json.dumps(value, sort_keys=True, default=str)
    if not _fits(value, wanted):
        raise InputError(f"{where} must be {described(wanted)}, not {value!r:.80}")
    return value


def described(wanted: Any) -> str:
    """Return what an annotation allows, in words."""
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(wanted))
    if get_origin(wanted) is tuple:
        return "a list of strings"
    if wanted is TableText:
        return "a table"
    return _PLAIN[wanted]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fits(value: object, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if get_origin(wanted) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if wanted is TableText:
        return isinstance(value, str) and value.startswith("{")
    if wanted is int:
        return _is_integer(value)
    if wanted is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, wanted)
