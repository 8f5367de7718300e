"""Reads the text files beside a graph: bounded, and refused with a hint when they are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    MODEL_JSON_MAX_BYTES,
)


def read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a JSON object; ``missing`` where there is no such file, if that is allowed.

    Raises:
        InputError: it is missing, too large, or not a JSON object.
    """
    if missing is not None and not path.exists():
        return missing
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} is not a JSON object; pull or export the model again")
    return value


def read_text(path: Path) -> str:
    """Return a text file.

    Raises:
        InputError: it is missing, too large, or not UTF-8.
    """
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text; pull the model again") from error


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MODEL_JSON_MAX_BYTES:
            raise InputError(f"{path.name} is too large to be what its name says")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the model lacks {path.name}; export it with its tokenizer and configuration"
        ) from error


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer that a ``tokenizer.json`` describes.

    Raises:
        InputError: it is missing or damaged.
    """
    data = _read_bytes(path)
    try:
        return Tokenizer.from_buffer(data)
    except BaseException as error:
        # Rust code that gives up raises PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"tokenizer.json can't be read ({error!s:.200}); export the model again"
        ) from error
