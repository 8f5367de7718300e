r"""Which file paths a manifest may name: those that mean one and the same place on every system.

Paths are relative, their parts joined by ``/``. A path that climbs out of its directory, that
Windows would read as a device or drive, or that another path of the same manifest would fall on
top of (by case, by Unicode form, or file against directory) is refused before anything is opened.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NoReturn

from dreamer.protocol.errors import ManifestError
from dreamer.protocol.limits import (
    MODEL_MAX_FILES,
    PATH_MAX_BYTES,
    PATH_MAX_DEPTH,
    PATH_PART_MAX_BYTES,
)

# Windows opens a device by these names in any directory, whatever the extension.
_PORTS = tuple(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")
_DEVICES = frozenset(("con", "prn", "aux", "nul", "conin$", "conout$", *_PORTS))
# The colon also stands for drives and alternate data streams.
_FORBIDDEN = frozenset('\\:<>"|?*')
# Control, invisible and surrogate characters, line and paragraph separators.
_FORBIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def check_paths(paths: Iterable[str]) -> None:
    """Refuse a set of file paths that could not be laid out safely everywhere.

    Raises:
        ManifestError: too many paths, a bad one, or two that collide; the message names it.
    """
    # One table for the whole set: a collision is between two paths, never in one.
    seen: dict[str, tuple[str, bool]] = {}
    for count, path in enumerate(paths, start=1):
        # Counted as they come, so that an endless list costs no memory.
        if count > MODEL_MAX_FILES:
            raise ManifestError(f"more than {MODEL_MAX_FILES} files: pack small ones together")
        check_path(path)
        _check_collisions(path, seen)


def check_path(path: str) -> None:
    """Refuse one path by itself.

    Raises:
        ManifestError: says what is wrong with ``path``.
    """
    # Before anything that encodes: a lone surrogate has no UTF-8.
    _check_characters(path)
    if path.startswith("/"):
        _refuse(path, "is absolute")
    if len(path.encode()) > PATH_MAX_BYTES:
        _refuse(path, f"is longer than {PATH_MAX_BYTES} bytes")
    parts = path.split("/")
    if len(parts) > PATH_MAX_DEPTH:
        _refuse(path, f"is more than {PATH_MAX_DEPTH} directories deep")
    for part in parts:
        _check_part(path, part)


def _refuse(path: str, why: str) -> NoReturn:
    raise ManifestError(f"path {path!r:.300} {why}")


def _check_characters(path: str) -> None:
    for character in path:
        if character in _FORBIDDEN:
            _refuse(path, f"holds {character!r}, which not every system can store")
        # They make two names look alike, or a terminal show another one.
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            _refuse(path, "holds a control or invisible character")


def _check_part(path: str, part: str) -> None:
    if part in ("", ".", ".."):
        _refuse(path, f"holds the part {part!r}")
    # Windows drops these silently, so that two names become one.
    if part[-1] in ". ":
        _refuse(path, "has a part that ends in a dot or space")
    if len(part.encode()) > PATH_PART_MAX_BYTES:
        _refuse(path, f"has a part longer than {PATH_PART_MAX_BYTES} bytes")
    # "nul.txt" is the device too.
    if part.split(".")[0].rstrip(" ").casefold() in _DEVICES:
        _refuse(path, "holds a name that Windows reserves for a device")


def _fold(path: str) -> str:
    # Folding can undo NFC, so it is normalised again after.
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)


def _check_collisions(path: str, seen: dict[str, tuple[str, bool]]) -> None:
    """Record ``path`` and its directories in ``seen``: folded → (as spelt, is a file)."""
    end = path.find("/")
    while end != -1:
        _claim(path[:end], False, path, seen)
        end = path.find("/", end + 1)
    _claim(path, True, path, seen)


def _claim(place: str, is_file: bool, path: str, seen: dict[str, tuple[str, bool]]) -> None:
    # Directories are claimed as well: "A/x" and "a/y" would share one on many disks.
    other, other_is_file = seen.setdefault(_fold(place), (place, is_file))
    if other != place:
        _refuse(path, f"collides with {other!r:.300} where case or Unicode form don't count")
    if is_file != other_is_file:
        _refuse(path, f"needs {place!r:.300} to be a file and a directory")
