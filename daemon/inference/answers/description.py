"""What the JSON files beside a decoder say of it: sizes, end tokens, chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.chat import ChatTemplate
from dreamer.daemon.inference.tool_forms import ToolForm, tool_form
from dreamer.daemon.inference.worker.model_files import read_json, read_text, read_tokenizer
from dreamer.protocol.errors import InputError

DEFAULT_CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Description:
    """Facts that the graph itself leaves open. ``context`` is in tokens.

    ``template`` is compiled from ``template_source``; ``config`` is all of ``config.json``. Some
    models have another template for conversations about tools, ``tool_template`` (else None);
    ``tool_source`` is the one that counts for these, ``tool_form`` how it writes calls.
    """

    kv_heads: int
    head_size: int
    context: int
    ends: frozenset[int]
    tokenizer: Tokenizer
    template: ChatTemplate | None
    template_source: str
    config: dict[str, Any]
    tool_template: ChatTemplate | None = None
    tool_source: str = ""
    tool_form: ToolForm | None = None


def read_description(directory: Path, tokenizer: Tokenizer | None = None) -> Description:
    """Read ``config.json``, ``generation_config.json``, ``tokenizer*.json``, the chat template.

    ``tokenizer`` is that of the directory, where it was read already.

    Raises:
        InputError: a file that is needed is missing or says nothing usable.
    """
    config = read_json(directory / "config.json")
    heads = _positive(config, "num_attention_heads")
    tokenizer_config = read_json(directory / "tokenizer_config.json", missing={})
    source = _template_source(directory, tokenizer_config)
    special = _special_texts(tokenizer_config)
    for_tools = _tool_template_source(directory, tokenizer_config)
    default_size = _positive(config, "hidden_size") // heads
    return Description(
        kv_heads=_positive(config, "num_key_value_heads", heads),
        head_size=_positive(config, "head_dim", default_size),
        context=_positive(config, "max_position_embeddings", DEFAULT_CONTEXT_TOKENS),
        ends=_ends(config) | _ends(read_json(directory / "generation_config.json", missing={})),
        tokenizer=tokenizer or read_tokenizer(directory / "tokenizer.json"),
        template=ChatTemplate(source, special) if source else None,
        template_source=source,
        config=config,
        tool_template=ChatTemplate(for_tools, special) if for_tools else None,
        tool_source=for_tools or source,
        tool_form=tool_form(for_tools or source),
    )


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


def _special_texts(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    return {
        key: text
        for key in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (text := _token_text(tokenizer_config.get(key))) is not None
    }


def _template_source(directory: Path, tokenizer_config: dict[str, Any]) -> str:
    """Return the chat template, "" where the model has none."""
    if (path := directory / "chat_template.jinja").exists():
        return read_text(path)
    source = tokenizer_config.get("chat_template")
    if isinstance(source, list):
        # Older models name several; the one for plain chats is "default".
        return _named(source, "default")
    return source if isinstance(source, str) else ""


def _tool_template_source(directory: Path, tokenizer_config: dict[str, Any]) -> str:
    """Return the template that is for tools alone, "" where the model has none."""
    if (path := directory / "additional_chat_templates" / "tool_use.jinja").exists():
        return read_text(path)
    source = tokenizer_config.get("chat_template")
    return _named(source, "tool_use") if isinstance(source, list) else ""


def _named(sources: list[Any], name: str) -> str:
    named = {one.get("name"): one.get("template") for one in sources if isinstance(one, dict)}
    source = named.get(name)
    return source if isinstance(source, str) else ""


def _token_text(value: object) -> str | None:
    """Return a token's text; transformers writes it plain or as an object with ``content``."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
