"""How a directory of sentence embeddings says that tokens become one vector.

The layout is that of sentence-transformers: ``modules.json`` lists what follows what
(Transformer, Pooling, Normalize), each with the folder of its configuration;
``sentence_bert_config.json`` has the longest input, ``config_sentence_transformers.json`` what is
put before a text.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer.daemon.inference.worker.formats import location_parts, require_inside
from dreamer.daemon.inference.worker.model_files import read_json, read_text
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import EMBED_CONTEXT_TOKENS, EMBED_MODULES_MAX

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Ways to pool, in the order in which several are put one after the other."""

_KINDS = ("Transformer", "Pooling", "Normalize")
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class EmbeddingLayout:
    """``modes`` is empty where the graph pools itself; ``prompt`` is put before each text."""

    modes: tuple[str, ...]
    normalised: bool
    context: int
    lower_case: bool
    prompt: str


def has_layout(directory: Path) -> bool:
    """Say whether a directory tells how to pool."""
    return (directory / MODULES).is_file() or (directory / POOLING).is_file()


def read_layout(directory: Path, pooled: bool = False) -> EmbeddingLayout:
    """Read the configuration of a directory of sentence embeddings.

    ``pooled`` says that the graph gives whole sentences: then only what comes before it and a
    last normalising matter.

    Raises:
        InputError: a file is damaged, or wants what isn't supported.
        ForbiddenError: a folder lies outside the directory.
    """
    modules = _modules(directory)
    places = {kind: place for kind, place in modules if kind != "Normalize"}
    transformer = places.get("Transformer", "")
    settings = read_json(_inside(directory, transformer, "sentence_bert_config.json"), missing={})
    if not pooled and (unknown := [kind for kind in places if kind not in _KINDS]):
        raise InputError(
            f"{MODULES} asks for the module {unknown[0]!r:.80}, which isn't supported; export the "
            "model with it inside the graph (an output named sentence_embedding)"
        )
    pools = not pooled and "Pooling" in places
    modes = _modes(directory, places["Pooling"]) if pools else ()
    return EmbeddingLayout(
        modes,
        any(kind == "Normalize" for kind, _ in modules),
        _context(directory, settings),
        settings.get("do_lower_case") is True,
        _prompt(directory),
    )


def _modules(directory: Path) -> list[tuple[str, str]]:
    """Return the modules as kind and folder; without a list, those that the folders show."""
    if not (directory / MODULES).is_file():
        found = [("Transformer", "")]
        if (directory / POOLING).is_file():
            found.append(("Pooling", "1_Pooling"))
        if (directory / "2_Normalize").is_dir():
            found.append(("Normalize", "2_Normalize"))
        return found
    try:
        listed = json.loads(read_text(directory / MODULES))
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not 1 <= len(listed) <= EMBED_MODULES_MAX:
        raise InputError(f"{MODULES} is not a list of modules; pull or export the model again")
    return [_module(one) for one in listed]


def _module(one: object) -> tuple[str, str]:
    kind, place = (one.get("type"), one.get("path")) if isinstance(one, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(place, str):
        raise InputError(f"{MODULES} has a module without type and path; export the model again")
    # "sentence_transformers.models.Pooling", in newer versions with other packages before it.
    return kind.rpartition(".")[2], place


def _inside(directory: Path, place: str, name: str) -> Path:
    location = f"{place}/{name}" if place else name
    path = directory.joinpath(*location_parts(location))
    if os.path.lexists(path):
        require_inside(directory, location)
    return path


def _modes(directory: Path, place: str) -> tuple[str, ...]:
    config = read_json(_inside(directory, place, "config.json"))
    if config.get("include_prompt", True) is not True:
        raise InputError(
            "the model pools without its prompt (include_prompt), which isn't supported; "
            "export it with the pooling inside the graph"
        )
    # Newer versions name the ways instead of having a flag for each.
    named = config.get("pooling_mode", [])
    found = [mode for flag, mode in _FLAGS.items() if config.get(flag) is True]
    found += named if isinstance(named, list) else [named]
    if not found or any(mode not in MODES for mode in found):
        raise InputError(
            f"{place}/config.json names no way to pool that is known ({', '.join(MODES)}); "
            "export the model again"
        )
    return tuple(mode for mode in MODES if mode in found)


def _context(directory: Path, settings: dict[str, Any]) -> int:
    """Return the longest input in tokens: what the model was trained for, else what it holds."""
    if (longest := _size(settings, "max_seq_length")) is not None:
        return longest
    config = read_json(directory / "config.json", missing={})
    tokenizer = read_json(directory / "tokenizer_config.json", missing={})
    held = _size(config, "max_position_embeddings"), _size(tokenizer, "model_max_length")
    return min((one for one in held if one is not None), default=EMBED_CONTEXT_TOKENS)


def _size(config: dict[str, Any], key: str) -> int | None:
    # transformers writes 1e30 for "no limit", as an int or a float.
    value = config.get(key)
    usable = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31
    return value if usable else None


def _prompt(directory: Path) -> str:
    config = read_json(directory / "config_sentence_transformers.json", missing={})
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    found = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else ""
    return found if isinstance(found, str) else ""
