"""A scenario as TOML that reads back equal: what a search for failures leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from dreamer.simulations.scenario.tables import needed

# JSON lets it stand as it is; TOML doesn't.
_DELETE = "\x7f"


def dump(value: Any) -> str:
    """Return a dataclass as TOML; what has its default is left out.

    Tables stand on lines of their own as far as they are of dataclasses in one list; below that
    they are inline.
    """
    plain, tables = [], []
    for name, one in _said(value):
        if is_dataclass(one) and not isinstance(one, type):
            tables.append(f"\n[{name}]\n{_body(one)}")
        elif isinstance(one, tuple) and one and is_dataclass(one[0]):
            tables += [f"\n[[{name}]]\n{_body(each)}" for each in one]
        else:
            plain.append(f"{name} = {_inline(one)}\n")
    return "".join(plain + tables)


def _body(value: Any) -> str:
    return "".join(f"{name} = {_inline(one)}\n" for name, one in _said(value))


def _said(value: Any) -> Iterator[tuple[str, Any]]:
    """Return what needs saying: what differs from its default, and what has none."""
    blank = {one.name: _default(one) for one in fields(value)}
    for one in fields(value):
        found = getattr(value, one.name)
        if needed(one) or found != blank[one.name]:
            yield one.name, found


def _default(one: Any) -> Any:
    if needed(one):
        return None
    return one.default_factory() if callable(one.default_factory) else one.default


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(_DELETE, "\\u007F")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if is_dataclass(value):
        said = ", ".join(f"{name} = {_inline(one)}" for name, one in _said(value))
        return f"{{ {said} }}" if said else "{}"
    # The shortest text that reads back as the same number.
    return repr(value)
