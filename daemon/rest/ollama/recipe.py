"""What ``/api/create`` adds to a model: a system prompt, parameters, first turns of conversations.

They lie in a file of the model's own, so that they go wherever the model goes, and a model that
differs in nothing else shares every other file with the one that it came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamer.daemon.inference.requests import Message
from dreamer.protocol.canonical import Json, loads_lenient
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_RECIPE_MAX_BYTES

FILE_NAME = "ollama.json"
TAG = "recipe"
"""A model with a recipe has this tag in its room, so that a node without the file knows of it."""


@dataclass(frozen=True)
class Recipe:
    """How a model is to be asked. ``parameters`` are ``options`` that requests may override."""

    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.system or self.parameters or self.messages)

    def encode(self) -> bytes:
        """Return the file's bytes.

        Raises:
            InputError: it is too long.
        """
        value = {
            "system": self.system,
            "parameters": self.parameters,
            # Nothing else of a turn: nodes of earlier versions read this too.
            "messages": [{"role": one.role, "content": one.content} for one in self.messages],
        }
        data = json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
        if len(data) > OLLAMA_RECIPE_MAX_BYTES:
            raise InputError(
                f"system, messages and parameters are {len(data)} bytes together, more than "
                f"{OLLAMA_RECIPE_MAX_BYTES}: shorten them"
            )
        return data


def decode(data: bytes) -> Recipe:
    """Return the recipe in a file, which may have come from somebody else.

    Raises:
        InputError: it is no recipe.
    """
    try:
        value: Json = loads_lenient(data)
        turns = tuple(_turn(**one) for one in value.get("messages", []))
        recipe = Recipe(value.get("system", ""), value.get("parameters", {}), turns)
        texts = [recipe.system, *(part for turn in turns for part in (turn.role, turn.content))]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("no text")
        if not isinstance(recipe.parameters, dict):
            raise TypeError("no object")
    except (TypeError, InputError) as error:
        raise InputError(f"the model's {FILE_NAME} is no recipe: {error}") from error
    return recipe


def _turn(role: str, content: str) -> Message:
    return Message(role, content)


def read(directory: Path) -> Recipe:
    """Return the recipe of a model that lies in ``directory``; an empty one if it has none.

    Raises:
        InputError: there is one that can't be read.
    """
    try:
        with (directory / FILE_NAME).open("rb") as file:
            data = file.read(OLLAMA_RECIPE_MAX_BYTES + 1)
    except FileNotFoundError:
        return Recipe()
    except OSError as error:
        raise InputError(f"the model's {FILE_NAME} can't be read: {error.strerror}") from error
    if len(data) > OLLAMA_RECIPE_MAX_BYTES:
        raise InputError(f"the model's {FILE_NAME} is longer than {OLLAMA_RECIPE_MAX_BYTES} bytes")
    return decode(data)
