"""What the options of a push say of a model's making."""

from __future__ import annotations

import json
from collections.abc import Iterable

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError


def given_provenance(
    trained_by: str | None, metrics: Iterable[str], config: Iterable[str]
) -> Json | None:
    """Return the provenance of ``NAME=VALUE`` texts; None if nothing was said.

    Raises:
        InputError: a text has no ``=``, or a metric is no number.
    """
    found: Json = {
        "trained_by": trained_by,
        "metrics": {name: _number(name, value) for name, value in map(_pair, metrics)},
        "config": {name: _value(value) for name, value in map(_pair, config)},
    }
    said = {key: value for key, value in found.items() if value}
    return said or None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"{text!r:.80} must be given as NAME=VALUE")
    return name, value


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"the metric {name:.40} must be a number, not {value!r:.40}") from error


def _value(text: str) -> str | int | float | bool:
    """Return a number or a truth value where the text is one as JSON has it, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) else text
