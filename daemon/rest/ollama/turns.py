"""The messages of a conversation, and the tools that it offers, as models here take them.

https://github.com/ollama/ollama/blob/main/docs/api.md#chat-request-with-tools. Ollama's calls have
no ids as a rule: a result belongs to the first call of that tool that has none yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.inference.tools import ToolCall
from dreamer.daemon.rest.ollama.fields import Fields
from dreamer.daemon.rest.tool_definitions import ToolFunction
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OLLAMA_MESSAGES_MAX

_TOOL = "tool"
_ROLES = ("system", "user", "assistant", _TOOL)


def messages(given: list[Json]) -> tuple[Message, ...]:
    """Return the turns of a conversation.

    Raises:
        InputError: one is not of a role or a form that models here know.
    """
    if len(given) > OLLAMA_MESSAGES_MAX:
        raise InputError(f"more than {OLLAMA_MESSAGES_MAX} messages: leave out the oldest")
    open_calls: list[ToolCall] = []
    numbers = count()
    return tuple(_message(Fields(one, "message's"), open_calls, numbers) for one in given)


def words(given: list[Json]) -> tuple[Message, ...]:
    """Return the turns that a model begins all conversations with: words only, without tools."""
    turns = messages(given)
    if any(turn.about_tools for turn in turns):
        raise InputError("a model can't begin with calls of tools: give it words only")
    return turns


def offered(fields: Fields) -> list[ToolFunction]:
    """Return the tools of a request.

    Raises:
        InputError: one is none.
    """
    return [_tool(Fields(one, "tool's")) for one in fields.tables("tools")]


def refuse_images(fields: Fields) -> None:
    """Refuse what models here can't see."""
    if fields.has("images"):
        raise InputError("models here do not support images: leave 'images' out")


def _message(fields: Fields, open_calls: list[ToolCall], numbers: Iterator[int]) -> Message:
    role = fields.text("role")
    if role not in _ROLES:
        raise InputError(f"a message's role must be one of {', '.join(_ROLES)}, not {role!r:.40}")
    refuse_images(fields)
    calls = tuple(_call(Fields(one, "call's"), numbers) for one in fields.tables("tool_calls"))
    if calls and role != "assistant":
        raise InputError(f"only an assistant's message has 'tool_calls', not one of {role}")
    open_calls += calls
    if role != _TOOL:
        return Message(role, fields.text("content"), calls)
    name = fields.text("tool_name") or fields.text("name")
    answered = _answered(fields.text("tool_call_id"), name, open_calls)
    return Message(role, fields.text("content"), (), answered.id, name or answered.name)


def _answered(call_id: str, name: str, open_calls: list[ToolCall]) -> ToolCall:
    """Take the call that a result belongs to from those that have none; make one up if need be."""
    for call in open_calls:
        if call_id in ("", call.id) and (call_id or name in ("", call.name)):
            open_calls.remove(call)
            return call
    return ToolCall(name, "{}", call_id)


def _call(fields: Fields, numbers: Iterator[int]) -> ToolCall:
    function = Fields(fields.table("function"), "function's")
    arguments = json.dumps(function.table("arguments"), ensure_ascii=False)
    name, call_id = function.text("name"), fields.text("id")
    if not name:
        raise InputError("a message's 'tool_calls' must say the name of each function")
    return ToolCall(name, arguments, call_id or f"call_{next(numbers)}")


def _tool(fields: Fields) -> ToolFunction:
    kind = fields.text("type")
    if kind not in ("", "function"):
        raise InputError(f"tools of type {kind!r:.40} are not supported: send functions")
    function = Fields(fields.table("function"), "function's")
    parameters = function.table("parameters")
    try:
        schema = json.dumps(parameters, ensure_ascii=False) if parameters else ""
    except RecursionError as error:
        raise InputError("the parameters of a tool are nested too deeply") from error
    return ToolFunction(function.text("name"), function.text("description"), schema)
