"""What a model makes of tools: whether it knows of them, how it writes calls, what is offered."""

from __future__ import annotations

import json
from typing import Any

from dreamer.daemon.inference.answers.chat import ChatTemplate
from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.tool_forms import ToolForm, knows_tools, special_marks
from dreamer.daemon.inference.tools import Tools
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import TOOLS_MAX, TOOLS_MAX_DEPTH


def definitions(tools: Tools) -> list[dict[str, Any]]:
    """Return the tools as chat templates take them.

    Raises:
        InputError: they are none, or nested too deeply.
    """
    try:
        found = json.loads(tools.text)
        if not isinstance(found, list) or not 1 <= len(found) <= TOOLS_MAX:
            raise TypeError(f"no list of 1 to {TOOLS_MAX}")
        if not all(isinstance(name_of(one), str) for one in found):
            raise TypeError("a name is no text")
        if not all(isinstance(one["function"].get("parameters", {}), dict) for one in found):
            raise TypeError("parameters are no schema")
        _check_depth(found, TOOLS_MAX_DEPTH)
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise InputError(f"the tools can't be read ({error}); send a list of functions") from error
    return found


def name_of(tool: dict[str, Any]) -> Any:
    """Return what a tool is called."""
    return tool["function"]["name"]


def tool_template(description: Description) -> tuple[ChatTemplate, ToolForm]:
    """Return the template of a conversation about tools, and the form of the model's calls.

    Raises:
        InputError: the model knows of none, or writes calls in a way that isn't read here.
    """
    template = description.tool_template or description.template
    if template is None or not knows_tools(description.tool_source):
        raise InputError(
            # As Ollama says it too: programs look for these words.
            "this model does not support tools: its chat template knows nothing of tools. Leave "
            "them out, or take a model that was trained to call them"
        )
    if description.tool_form is None:
        raise InputError(
            "this model does not support tools here: it writes calls in a form that is not read. "
            "Leave them out, or take a model that calls as Hermes, Qwen, Llama 3.1 or Mistral do"
        )
    return template, description.tool_form


def shown_tokens(request: GenerateRequest, description: Description) -> dict[int, str]:
    """Return the special tokens that are told as text, by their ids, since calls lie between."""
    if request.tools is None or description.tool_form is None:
        return {}
    decode, find = description.tokenizer.decode, description.tokenizer.token_to_id
    marks = {find(mark): mark for mark in special_marks(description.tool_form)}
    # Marks that are tokens, but no special ones, have their text anyway.
    return {one: mark for one, mark in marks.items() if one is not None and not decode([one])}


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise ValueError(f"nested deeper than {TOOLS_MAX_DEPTH}")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_depth(one, left - 1)
