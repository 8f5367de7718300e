"""What a model is to read: turns of a conversation, texts or tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.inference.tools import ToolCall
from dreamer.daemon.rest.openai.requests import ChatMessage, FieldError, Inputs, Part

_TOOL = "tool"
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    _TOOL: _TOOL,
}
"""A developer's word is the system's: models of others were trained on no such role."""

TOKENS_MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class Prompt:
    """A text, or its tokens: exactly one of them."""

    text: str | None = None
    ids: tuple[int, ...] = ()


def conversation(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the turns, with the text of their parts.

    Raises:
        FieldError: a role, or a kind of content, that no model here can read.
    """
    called: dict[str, str] = {}
    return tuple(_turn(one, f"messages[{number}]", called) for number, one in enumerate(messages))


def _turn(message: ChatMessage, where: str, called: dict[str, str]) -> Message:
    """Return a turn; ``called`` are the tools of the calls so far, by id."""
    role = _ROLES.get(message.role)
    if role is None:
        known = ", ".join(_ROLES)
        raise FieldError(
            f"{where}.role", f"role {message.role!r:.80} is not supported here: use {known}"
        )
    calls = _calls(message, role, f"{where}.tool_calls")
    called |= {call.id: call.name for call in calls}
    if isinstance(message.content, list):
        content = "".join(_texts(message.content, f"{where}.content"))
    elif message.content is None and role != "assistant":
        raise FieldError(f"{where}.content", f"the content of {where} is missing")
    else:
        content = message.content or ""
    if role != _TOOL:
        return Message(role, content, calls)
    call_id = message.tool_call_id or ""
    if not call_id:
        raise FieldError(f"{where}.tool_call_id", f"{where} doesn't say which call it answers")
    return Message(role, content, tool_call_id=call_id, name=called.get(call_id, ""))


def _calls(message: ChatMessage, role: str, where: str) -> tuple[ToolCall, ...]:
    """Return the calls of an assistant's turn."""
    calls = message.tool_calls or []
    if calls and role != "assistant":
        raise FieldError(where, f"only an assistant has tool_calls, not {role}")
    for place, call in enumerate(calls):
        if call.type != "function":
            raise FieldError(
                f"{where}[{place}].type", f"calls of type {call.type!r:.80} are not supported here"
            )
    return tuple(ToolCall(one.function.name, one.function.arguments, one.id) for one in calls)


def _texts(parts: list[Part], where: str) -> Iterator[str]:
    for number, part in enumerate(parts):
        text = {"text": part.text, "refusal": part.refusal}.get(part.type)
        if text is None:
            raise FieldError(
                f"{where}[{number}]",
                f"parts of type {part.type!r:.80} are not supported here: send text only",
            )
        yield text


def prompts(inputs: Inputs, param: str) -> list[Prompt]:
    """Return what ``inputs`` holds: a text, tokens, or several of either.

    Raises:
        FieldError: a mixture of them, nothing, or tokens that can't be any.
    """
    if isinstance(inputs, str):
        return [Prompt(text=inputs)]
    if not inputs:
        raise FieldError(param, f"{param} is empty: send a text or tokens")
    if all(isinstance(one, str) for one in inputs):
        return [Prompt(text=one) for one in cast(list[str], inputs)]
    if all(isinstance(one, int) for one in inputs):
        return [_tokens(cast(list[int], inputs), param)]
    if all(isinstance(one, list) for one in inputs):
        return [_tokens(one, param) for one in cast(list[list[int]], inputs)]
    raise FieldError(param, f"{param} mixes texts and tokens: send either")


def _tokens(ids: list[int], param: str) -> Prompt:
    if not ids:
        raise FieldError(param, f"{param} holds an empty list of tokens")
    # Whether the model has them all is for the model to say.
    if min(ids) < 0 or max(ids) > TOKENS_MAX_ID:
        raise FieldError(param, f"{param} holds a number that is no token")
    return Prompt(ids=tuple(ids))
