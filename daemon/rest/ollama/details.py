"""What a model is, read from the small files of its directory; nothing is loaded to tell of it.

``config.json`` is Hugging Face's, as ``dreamer import`` writes it, too. What no file says is left
empty: nothing is guessed from a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamer.daemon.inference.thought_reading import knows_thinking
from dreamer.daemon.inference.tool_forms import tool_form
from dreamer.daemon.rest.ollama import recipe
from dreamer.daemon.rest.ollama.recipe import Recipe
from dreamer.protocol.canonical import Json
from dreamer.protocol.inference_limits import (
    MODEL_JSON_MAX_BYTES,
    OLLAMA_LICENCE_MAX_BYTES,
    TEMPLATE_MAX_BYTES,
)

_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING", "NOTICE")
_EMBEDDING_SIGNS = ("modules.json", "sentence_bert_config.json", "1_Pooling")
_UNKNOWN = "unknown"
# A byte more than a template may have, to see that it has more.
_TEMPLATE_FILE_BYTES = TEMPLATE_MAX_BYTES + 1


@dataclass(frozen=True)
class Description:
    """A model's own words about itself; empty where its directory is not here.

    ``capabilities`` are what it can be asked for.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    licence: str = ""
    capabilities: tuple[str, ...] = ()
    format: str = ""
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def family(self) -> str:
        """The architecture, such as ``llama``."""
        return str(self.config.get("model_type") or "")

    @property
    def context(self) -> int:
        """How many tokens it reads, 0 if it doesn't say."""
        return _count(self.config, "max_position_embeddings")

    def details(self) -> Json:
        """Return what Ollama's lists call the details of a model."""
        count = self.parameter_count()
        return {
            "parent_model": "",
            "format": self.format,
            "family": self.family,
            "families": [self.family] if self.family else None,
            "parameter_size": _size(count) if count else "",
            "quantization_level": self._quantization(),
        }

    def parameter_count(self) -> int:
        """Return how many weights a Llama of this shape has; 0 of other architectures."""
        if self.family != "llama":
            return 0
        hidden, layers = (
            _count(self.config, "hidden_size"),
            _count(self.config, "num_hidden_layers"),
        )
        heads, inner = (
            _count(self.config, "num_attention_heads"),
            _count(self.config, "intermediate_size"),
        )
        width = _count(self.config, "head_dim") or (hidden // heads if heads else 0)
        kv_heads = _count(self.config, "num_key_value_heads") or heads
        attention = 2 * hidden * width * (heads + kv_heads)
        # Of each layer: attention, the gated network of three matrices, two norms.
        layer = attention + 3 * hidden * inner + 2 * hidden
        embeddings = 1 if self.config.get("tie_word_embeddings") else 2
        words = embeddings * _count(self.config, "vocab_size") * hidden
        return layers * layer + words + hidden

    def model_info(self) -> Json:
        """Return what Ollama takes from a GGUF's metadata, under the same keys."""
        told: Json = {"general.architecture": self.family} if self.family else {}
        if name := self.config.get("name"):
            told["general.name"] = name
        if count := self.parameter_count():
            told["general.parameter_count"] = count
        family = self.family or "model"
        for key, own in _INFO.items():
            if isinstance(value := self.config.get(own), (int, float)):
                told[key.format(family)] = value
        return told

    def _quantization(self) -> str:
        said = self.config.get("quantization_config")
        if isinstance(said, dict):
            bits = said.get("bits")
            method = said.get("quant_method") or "quantized"
            return f"{method}-{bits}bit" if bits else str(method)
        return _UNKNOWN


_INFO = {
    "{}.attention.head_count": "num_attention_heads",
    "{}.attention.head_count_kv": "num_key_value_heads",
    "{}.attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "{}.block_count": "num_hidden_layers",
    "{}.context_length": "max_position_embeddings",
    "{}.embedding_length": "hidden_size",
    "{}.feed_forward_length": "intermediate_size",
    "{}.rope.dimension_count": "head_dim",
    "{}.rope.freq_base": "rope_theta",
    "{}.vocab_size": "vocab_size",
}


def describe(directory: Path) -> Description:
    """Read the description of a model that lies in ``directory``. Blocking.

    Files that are missing or can't be read leave their part empty.

    Raises:
        InputError: the recipe of the model can't be read: without it, it would answer otherwise.
    """
    config = _json(directory / "config.json")
    names = _names(directory)
    embeds = any(sign in names for sign in _EMBEDDING_SIGNS)
    graphs = any(name.endswith(".onnx") for name in names) or (directory / "onnx").is_dir()
    writes = graphs and not embeds and "tokenizer.json" in names
    said = _json(directory / "tokenizer_config.json").get("chat_template")
    template = _template(directory, said, "default")
    # Here, not where they are shown: a template of anybody's may be long to search.
    can = _capabilities(template, _tool_template(directory, said)) if writes else ()
    return Description(
        config=config,
        template=template,
        licence=_licence(directory, names),
        capabilities=("embedding",) if embeds else can,
        format="onnx" if graphs else "",
        recipe=recipe.read(directory),
    )


def _capabilities(template: str, for_tools: str) -> tuple[str, ...]:
    """Return what a model that writes can be asked for; ``for_tools`` is "" without one."""
    can_call = tool_form(for_tools or template) is not None
    thinks = knows_thinking(template)
    return ("completion", *(("tools",) * can_call), *(("thinking",) * thinks))


def _names(directory: Path) -> set[str]:
    try:
        return {path.name for path in directory.iterdir()}
    except OSError:
        return set()


def _template(directory: Path, said: object, name: str) -> str:
    """Return a chat template; one that is too long to be used is none."""
    return _short_enough(_said_template(directory, said, name))


def _short_enough(template: str) -> str:
    fits = len(template.encode(errors="replace")) <= TEMPLATE_MAX_BYTES
    return template if fits else ""


def _said_template(directory: Path, said: object, name: str) -> str:
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        # Older tokenizers have several, by name.
        named = {one.get("name"): one.get("template") for one in said if isinstance(one, dict)}
        return str(named.get(name) or "")
    # Newer tokenizers keep it in a file of its own.
    return _text(directory / "chat_template.jinja", _TEMPLATE_FILE_BYTES)


def _tool_template(directory: Path, said: object) -> str:
    # Looked for as ``answers.description`` does.
    place = directory / "additional_chat_templates" / "tool_use.jinja"
    found = _short_enough(_text(place, _TEMPLATE_FILE_BYTES))
    return found or (_template(directory, said, "tool_use") if isinstance(said, list) else "")


def _licence(directory: Path, names: set[str]) -> str:
    found = next((name for name in _LICENCES if name in names), None)
    return _text(directory / found, OLLAMA_LICENCE_MAX_BYTES) if found else ""


def _json(path: Path) -> Json:
    try:
        value = json.loads(_text(path, MODEL_JSON_MAX_BYTES) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path, most_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode(errors="replace")
    except OSError:
        return ""


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _size(count: int) -> str:
    """Return a number of weights as Ollama writes it: 134.52M, 8.0B."""
    if count >= 10**9:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.2f}M" if count >= 10**6 else f"{count / 1e3:.2f}K"
