"""Tables of a TOML file read into frozen dataclasses, and told what is wrong with them.

The dataclass is the grammar: its fields are the keys, their types what may stand there, their
defaults what need not. A key that does not exist is an error, as a misspelt one would else be
silently the default; so is a number out of bounds, with the bounds.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from dreamer.protocol.errors import InputError
from dreamer.simulations.scenario.bounds import Bounds, bounds_of

T = TypeVar("T")

_PLAIN: Mapping[type, str] = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def read(shape: type[T], table: Any, where: str) -> T:
    """Return a value of the dataclass ``shape`` from a parsed table.

    A field's ``metadata["bounds"]``, if there, goes before ``bounds.py``.

    Args:
        shape: a dataclass of text, numbers, booleans, ``Literal`` text, other such dataclasses,
            tuples of those, and any of these or None.
        table: what ``tomllib`` made of the table.
        where: its name in the file, for errors: ``groups[2]``; empty for the file itself.

    Raises:
        InputError: a key is unknown or missing, or its value can't be that.
    """
    if not isinstance(table, dict):
        raise _wrong(where, f"{table!r:.60} is no table: write it as [{where}] or {{ key = … }}")
    known = {one.name: one for one in fields(cast(Any, shape))}
    for key in table:
        if key not in known:
            raise _wrong(_below(where, key), _unknown(key, list(known)))
    hints = hints_of(cast(type, shape))
    for name, one in known.items():
        if name not in table and needed(one):
            raise _wrong(where, f"'{name}' is missing: it must say {_told(hints[name])}")
    return shape(
        **{
            key: _value(hints[key], value, _below(where, key), _bounds(shape, known[key]))
            for key, value in table.items()
        }
    )


@functools.cache
def hints_of(shape: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields, by name."""
    # Annotations are text until somebody asks, and finding out takes long.
    return get_type_hints(shape)


def needed(one: Field[Any]) -> bool:
    """Return whether a field has no default."""
    return one.default is MISSING and one.default_factory is MISSING


def nearest(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean …?`` for a misspelt word, or nothing."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _bounds(shape: type, one: Field[Any]) -> Bounds | None:
    return one.metadata.get("bounds") or bounds_of(shape.__name__, one.name)


def _value(kind: Any, value: Any, where: str, bounds: Bounds | None) -> Any:
    form = get_origin(kind)
    if form in (Union, types.UnionType):
        # TOML has no null: whoever means None leaves the key out.
        (kind,) = (one for one in get_args(kind) if one is not types.NoneType)
        return _value(kind, value, where, bounds)
    if form is Literal:
        return _chosen(get_args(kind), value, where)
    if form is tuple:
        return _several(get_args(kind)[0], value, where, bounds)
    if is_dataclass(kind):
        return read(cast(type, kind), value, where)
    return _plain(kind, value, where, bounds)


def _chosen(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in allowed:
        return value
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    raise _wrong(where, f"{value!r:.60} is none of {', '.join(allowed)}{hint}")


def _several(kind: Any, value: Any, where: str, bounds: Bounds | None) -> tuple[Any, ...]:
    if not isinstance(value, list):
        written = f"[[{where}]]" if is_dataclass(kind) else "[…]"
        raise _wrong(where, f"{value!r:.60} is no list: write {written}")
    return tuple(_value(kind, one, f"{where}[{i}]", bounds) for i, one in enumerate(value))


def _plain(kind: type[Any], value: Any, where: str, bounds: Bounds | None) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    # By its exact type: to Python, True is a whole number.
    if type(value) is not kind:
        raise _wrong(where, f"{value!r:.60} is not {_PLAIN[kind]}")
    return _bounded(value, where, bounds) if kind in (int, float) else value


def _bounded(value: float, where: str, bounds: Bounds | None) -> float:
    if not math.isfinite(value):
        raise _wrong(where, f"{value} is no number that time can pass with")
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise _wrong(where, f"{value} is not between {bounds[0]:g} and {bounds[1]:g}")
    return value


def _told(kind: Any) -> str:
    """Return what a key must say, in words."""
    form = get_origin(kind)
    if form is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if form is tuple:
        return "at least one table" if is_dataclass(get_args(kind)[0]) else "a list"
    return "a table" if is_dataclass(kind) else _PLAIN[kind]


def _unknown(key: str, known: list[str]) -> str:
    hint = nearest(key, known) or f"; keys here: {', '.join(known)}"
    return f"there is no such key{hint}"


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(where: str, message: str) -> InputError:
    return InputError(f"{where}: {message}" if where else message)
