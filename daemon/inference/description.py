"""What the JSON files beside a decoder say of it: sizes, end tokens, chat template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dreamer.daemon.inference.chat import ChatTemplate
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    MODEL_JSON_MAX_BYTES,
)

DEFAULT_CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Description:
    """Facts that the graph itself leaves open. ``context`` is in tokens."""

    kv_heads: int
    head_size: int
    context: int
    ends: frozenset[int]
    tokenizer: Tokenizer
    template: ChatTemplate | None


def read_description(directory: Path) -> Description:
    """Read ``config.json``, ``generation_config.json``, ``tokenizer*.json``, the chat template.

    Raises:
        InputError: a file that is needed is missing or says nothing usable.
    """
    config = _read_json(directory / "config.json")
    heads = _positive(config, "num_attention_heads")
    default_size = _positive(config, "hidden_size") // heads
    return Description(
        kv_heads=_positive(config, "num_key_value_heads", heads),
        head_size=_positive(config, "head_dim", default_size),
        context=_positive(config, "max_position_embeddings", DEFAULT_CONTEXT_TOKENS),
        ends=_ends(config) | _ends(_read_json(directory / "generation_config.json", missing={})),
        tokenizer=_tokenizer(directory / "tokenizer.json"),
        template=_template(directory),
    )


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.exists():
        return missing
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} is not a JSON object; pull or export the model again")
    return value


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MODEL_JSON_MAX_BYTES:
            raise InputError(f"{path.name} is too large to be what its name says")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the model lacks {path.name}; export it with its tokenizer and configuration"
        ) from error


def _positive(config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"config.json has no usable {key}; export the model again")
    return value


def _ends(config: dict[str, Any]) -> frozenset[int]:
    value = config.get("eos_token_id")
    found = value if isinstance(value, list) else [value]
    return frozenset(one for one in found if isinstance(one, int))


def _tokenizer(path: Path) -> Tokenizer:
    text = _read_text(path)
    try:
        return Tokenizer.from_buffer(text.encode())
    except ValueError as error:
        raise InputError(
            f"tokenizer.json can't be read ({error}); export the model again"
        ) from error


def _template(directory: Path) -> ChatTemplate | None:
    config = _read_json(directory / "tokenizer_config.json", missing={})
    special = {
        key: text
        for key in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (text := _token_text(config.get(key))) is not None
    }
    if (path := directory / "chat_template.jinja").exists():
        return ChatTemplate(_read_text(path), special)
    source = config.get("chat_template")
    return ChatTemplate(source, special) if isinstance(source, str) else None


def _token_text(value: object) -> str | None:
    """Return a token's text; transformers writes it plain or as an object with ``content``."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
