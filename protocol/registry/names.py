"""What an alias, a tag and a type may look like."""

from __future__ import annotations

import re

from dreamer.protocol.errors import InputError
from dreamer.protocol.registry_limits import (
    ALIAS_MAX_CHARS,
    FIELD_NAME_MAX_CHARS,
    MODEL_NAME_MAX_CHARS,
    TAG_MAX_CHARS,
)

_ALIAS = re.compile(rf"[A-Za-z0-9_-]{{1,{ALIAS_MAX_CHARS}}}", re.ASCII)
_SHORT_ID = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)
_TAG = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{TAG_MAX_CHARS - 1}}}", re.ASCII)
_FIELD = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_./-]{{0,{FIELD_NAME_MAX_CHARS - 1}}}", re.ASCII)
# Words that commands or their JSON already give a meaning.
_RESERVED = ("all", "latest", "none", "null")


def check_alias(alias: str) -> str:
    """Return ``alias`` if it keeps the rules.

    Raises:
        InputError: a wrong character, ``-`` or ``_`` at an end, reserved, or like a short id.
    """
    if not _ALIAS.fullmatch(alias):
        raise InputError(
            f"alias {alias!r:.80} is not allowed: "
            f"use 1 to {ALIAS_MAX_CHARS} letters, digits, - or _"
        )
    if alias[0] in "-_" or alias[-1] in "-_":
        raise InputError(f"alias {alias!r} may not start or end with - or _")
    if _SHORT_ID.fullmatch(alias):
        raise InputError(f"alias {alias!r} looks like a model's short id: choose a word")
    if alias.lower() in _RESERVED:
        raise InputError(f"alias {alias!r} is reserved: choose another word")
    return alias


def check_tag(tag: str) -> str:
    """Return ``tag`` if it keeps the rules.

    Raises:
        InputError: anything but lower-case letters, digits, ``.``, ``_``, ``-``.
    """
    if not _TAG.fullmatch(tag):
        raise InputError(
            f"tag {tag!r:.80} is not allowed: use 1 to {TAG_MAX_CHARS} lower-case letters, digits, "
            ". _ or -, starting with a letter or digit"
        )
    return tag


def check_name(name: str) -> str:
    """Return a model's display name if people can read it on one line.

    Raises:
        InputError: empty, too long, or with characters that a terminal would obey.
    """
    if not name or len(name) > MODEL_NAME_MAX_CHARS or not name.isprintable():
        raise InputError(
            f"model name {name!r:.80} is not allowed: use 1 to {MODEL_NAME_MAX_CHARS} printable "
            "characters"
        )
    return name


def check_field(name: str) -> str:
    """Return the name of a metric or of a setting, as queries write it (``val_loss``, ``lr``).

    Raises:
        InputError: a character that a query could not hold, or too long.
    """
    if not _FIELD.fullmatch(name):
        raise InputError(
            f"{name!r:.80} can't name a metric or setting: use 1 to {FIELD_NAME_MAX_CHARS} "
            "letters, digits, ., _, / or -"
        )
    return name


def check_line(text: str, what: str, max_chars: int) -> str:
    """Return ``text`` if people can read it on one line; it may be empty.

    Raises:
        InputError: too long, or with characters that a terminal would obey.
    """
    if len(text) > max_chars or (text and not text.isprintable()):
        raise InputError(
            f"{what} {text!r:.80} is not allowed: up to {max_chars} printable characters"
        )
    return text


def check_lines(text: str, what: str, max_chars: int) -> str:
    """Return ``text`` if people can read it; it may have several lines and tabs.

    Raises:
        InputError: too long, or with characters that a terminal would obey.
    """
    check_line(text.replace("\n", " ").replace("\t", " "), what, max_chars)
    return text
