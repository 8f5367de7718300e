"""The tools that a chat offers, and which of them it wants called."""

from __future__ import annotations

from dataclasses import replace

from dreamer.daemon.inference.tools import Tools
from dreamer.daemon.rest.openai.requests import ChatBody, FieldError, ToolDefinition, given
from dreamer.daemon.rest.tool_definitions import ToolFunction, tools_text
from dreamer.protocol.errors import InputError

_FUNCTION = "function"


def chat_tools(body: ChatBody) -> Tools | None:
    """Return what may be called, None if nothing may.

    Raises:
        FieldError: a tool is none of ours, or the choice is none.
    """
    if not body.tools or body.tool_choice == "none":
        if body.tool_choice not in (None, "none", "auto"):
            raise FieldError("tool_choice", "tool_choice needs tools: send them along")
        return None
    functions = [_function(one, f"tools[{place}]") for place, one in enumerate(body.tools)]
    try:
        tools = Tools(tools_text(functions), parallel=body.parallel_tool_calls is not False)
        tools.check()
    except InputError as error:
        raise FieldError("tools", str(error)) from error
    name = _chosen(body)
    if name is None:
        return tools
    if name and name not in (one.name for one in functions):
        raise FieldError("tool_choice", f"tool_choice names {name!r:.80}, which is no tool here")
    return replace(tools, choice="required", function=name)


def tool_names(body: ChatBody) -> frozenset[str]:
    """Return the names of the tools that a checked body offers."""
    return frozenset(one.function.name for one in body.tools or () if one.function)


def _function(tool: ToolDefinition, where: str) -> ToolFunction:
    if tool.type != _FUNCTION:
        raise FieldError(
            f"{where}.type", f"tools of type {tool.type!r:.80} are not supported: send functions"
        )
    if tool.function is None:
        raise FieldError(f"{where}.function", f"{where} has no function: say its name")
    schema = bytes(tool.function.parameters).strip()
    if given(tool.function.parameters) and not schema.startswith(b"{"):
        raise FieldError(f"{where}.function.parameters", f"{where} needs a schema, an object")
    text = schema.decode() if given(tool.function.parameters) else ""
    return ToolFunction(tool.function.name, tool.function.description or "", text)


def _chosen(body: ChatBody) -> str | None:
    """Return the function to call, "" for any, None where the model may choose to call none."""
    choice = body.tool_choice
    if choice in (None, "auto"):
        return None
    if choice == "required":
        return ""
    if isinstance(choice, ToolDefinition) and choice.type == _FUNCTION and choice.function:
        return choice.function.name
    said = choice if isinstance(choice, str) else choice.type if choice else ""
    raise FieldError(
        "tool_choice",
        f'tool_choice is {said!r:.80}: say "none", "auto", "required" or name a function',
    )
