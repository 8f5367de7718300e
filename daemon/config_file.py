"""Reads a ``Config`` from TOML text and the environment, and prints the default one."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from dreamer.daemon.config import SECTIONS, Config, check_range
from dreamer.daemon.field_types import TableText, checked, described
from dreamer.protocol.errors import InputError

Values = dict[str, dict[str, Any]]
"""Section → key → value, of which only the names are checked so far."""

_ENV_PREFIX = "DREAMER_"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def load_config(path: Path, environ: Mapping[str, str], *, must_exist: bool = False) -> Config:
    """Return the settings in ``path``, overridden by the environment.

    A missing file means defaults, unless ``must_exist`` (the user named the file).

    Raises:
        InputError: the file can't be read, is not TOML, or a key or value is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise InputError(
                f"there is no config file {path}; make one with: "
                f"dreamerd --print-default-config > {path}"
            ) from None
        text = ""
    except PermissionError as error:
        # In a container the home may be another user's: then there is no file of ours in it.
        if must_exist or os.access(path.parent, os.X_OK):
            raise InputError(f"config file {path} can't be read: {error}") from error
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config file {path} can't be read: {error}") from error
    return parse_config(text, environ, str(path))


def parse_config(text: str, environ: Mapping[str, str], source: str = "config") -> Config:
    """Return the settings in TOML ``text``, overridden by ``DREAMER_*`` in ``environ``.

    Raises:
        InputError: the text is not TOML, or a key or value is not allowed.
    """
    try:
        from_file = _named(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, InputError) as error:
        raise InputError(f"{source}: {error}") from error
    try:
        in_file = _build(from_file)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    overrides = _from_environment(environ)
    if not overrides:
        return in_file
    both = {name: {**from_file.get(name, {}), **overrides.get(name, {})} for name in SECTIONS}
    return _build(both)


def _named(table: dict[str, Any]) -> Values:
    """Check that every section and key exists."""
    # A misspelt key must not become a silent default.
    for section, values in table.items():
        if section not in SECTIONS:
            raise InputError(f"there is no section [{section}]{_nearest(section, SECTIONS)}")
        if not isinstance(values, dict):
            raise InputError(f"[{section}] must be a section of keys, not {values!r:.80}")
        known = [key.name for key in fields(SECTIONS[section])]
        for key in values:
            if key not in known:
                raise InputError(f"[{section}] has no key {key!r:.80}{_nearest(key, known)}")
    return table


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; it can be: {', '.join(names)}"


def _build(values: Values) -> Config:
    sections = {name: _section(name, kind, values.get(name, {})) for name, kind in SECTIONS.items()}
    return Config(**sections)


def _section(name: str, kind: type[Any], values: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    given = {key: checked(value, hints[key], f"[{name}] {key}") for key, value in values.items()}
    for key in fields(kind):
        if key.name in given:
            check_range(name, key, given[key.name])
    return kind(**given)


def _from_environment(environ: Mapping[str, str]) -> Values:
    found: Values = {}
    for section, kind in SECTIONS.items():
        prefix = f"{_ENV_PREFIX}{section.upper()}_"
        hints = get_type_hints(kind)
        known = {f"{prefix}{key.name.upper()}": key.name for key in fields(kind)}
        for variable in sorted(environ):
            if not variable.startswith(prefix):
                continue
            # Other DREAMER_* variables are somebody else's; below a section's name they are ours.
            if variable not in known:
                raise InputError(f"unknown setting {variable}{_nearest(variable, known)}")
            key = known[variable]
            value = _from_text(environ[variable], hints[key], variable)
            found.setdefault(section, {})[key] = value
    if environ.get("MODELS_DIR"):
        found.setdefault("node", {}).setdefault("models_dir", environ["MODELS_DIR"])
    return found


def _from_text(text: str, wanted: Any, variable: str) -> object:
    """Return an environment variable's value in the type its key wants."""
    if wanted is bool:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise InputError(f"{variable} must be true or false, not {text!r:.80}")
        return text.lower() in _TRUE
    if get_origin(wanted) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if wanted in (int, float):
        try:
            return wanted(text)
        except ValueError:
            raise InputError(f"{variable} must be {described(wanted)}, not {text!r:.80}") from None
    return text


def default_config_text() -> str:
    """Return TOML that documents every key and sets it to its default."""
    lines = [
        "# Dreamer's settings. Every key stands here with its default; keep what you change.",
        "# Each can also be set in the environment, as DREAMER_<SECTION>_<KEY>.",
    ]
    for name, kind in SECTIONS.items():
        lines += ["", *_comment(kind.__doc__ or ""), f"[{name}]"]
        hints = get_type_hints(kind)
        for key in fields(kind):
            lines += _comment(f"{key.metadata['doc']} ({described(hints[key.name])})")
            # A table that is set, even to nothing, can't be added to further down.
            if hints[key.name] is TableText:
                continue
            # JSON's strings, numbers, booleans and lists are TOML's.
            lines.append(f"{key.name} = {json.dumps(key.default)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 96)]
