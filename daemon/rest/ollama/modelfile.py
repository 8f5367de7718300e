"""A model as a Modelfile tells of it, for ``/api/show``.

https://github.com/ollama/ollama/blob/main/docs/modelfile.md. The template is Jinja's, as the
model itself has it, not Go's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dreamer.daemon.rest.ollama.details import Description


def parameter_lines(parameters: Mapping[str, Any]) -> str:
    """Return parameters in a column of names and one of values; a list has a line for each."""
    return "\n".join(f"{name:<30} {value}" for name, value in _pairs(parameters))


def modelfile(model: str, described: Description) -> str:
    """Return the text from which ``model`` could be made again, FROM itself."""
    recipe = described.recipe
    lines = ["# Made by Dreamer. To build on this model, keep the FROM line.", f"FROM {model}"]
    if described.template:
        lines.append(f'TEMPLATE """{described.template}"""')
    if recipe.system:
        lines.append(f'SYSTEM """{recipe.system}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in _pairs(recipe.parameters)]
    lines += [f"MESSAGE {turn.role} {json.dumps(turn.content)}" for turn in recipe.messages]
    return "\n".join(lines) + "\n"


def _pairs(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    each = (
        (name, one)
        for name, value in sorted(parameters.items())
        for one in (value if isinstance(value, list) else [value])
    )
    return [(name, json.dumps(value, ensure_ascii=False)) for name, value in each]
