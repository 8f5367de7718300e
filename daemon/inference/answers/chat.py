"""Puts a conversation into the words a model was trained on: its own chat template.

A template is Jinja from whoever made the model, so it runs in Jinja's immutable sandbox, with
what Hugging Face templates expect and nothing else, in the worker process, within bounds of time
and memory. A model without one gets the plain text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NoReturn

import jinja2

from dreamer.daemon.inference.answers.template_bounds import BoundedEnvironment, bounded
from dreamer.daemon.inference.requests import Message
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import TEMPLATE_MAX_BYTES, TEMPLATE_TEXT_MAX_BYTES

# What an expression of the template's own may come to: wrong types, missing keys, division by
# zero, a string longer than the worker's memory.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


_MISTRAL_ID_CHARS = 9


class _TemplateRefusedError(jinja2.TemplateError):
    """The template itself said no (``raise_exception``)."""


class ChatTemplate:
    """A compiled chat template; ``special`` are its variables such as ``bos_token``."""

    def __init__(self, source: str, special: dict[str, str]) -> None:
        environment = BoundedEnvironment()
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _strftime_now
        # Jinja's own writes <, > and & as escapes, for the web; models were trained on these.
        environment.filters["tojson"] = _to_json
        # Templates ask whether these are None; documents are not passed on.
        self._variables: dict[str, Any] = {"documents": None, **special}
        if len(source) > TEMPLATE_MAX_BYTES:
            raise InputError(f"the model's chat template is longer than {TEMPLATE_MAX_BYTES} bytes")
        try:
            # Constants are computed while it is compiled: the bounds hold here too.
            with bounded():
                self._template = environment.from_string(source)
        except _TEMPLATE_ERRORS as error:
            raise _broken(error) from error

    def render(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None = None,
        quoted: Callable[[Any], Any] = lambda value: value,
        thinking: bool | None = None,
    ) -> str:
        """Return the prompt, up to where the answer begins.

        ``tools`` are functions as OpenAI describes them; ``quoted`` is applied to these and to the
        turns, whose texts lie in lists and objects. ``thinking`` None leaves it to the template
        whether the model thinks first.

        Raises:
            InputError: the template refuses this conversation, or is broken or unsafe.
        """
        said = {"messages": quoted([_turn(one) for one in messages]), "tools": quoted(tools)}
        if thinking is not None:
            # Qwen's, SmolLM's and most others' name for it, and DeepSeek's and Granite's.
            said |= {"enable_thinking": thinking, "thinking": thinking}
        try:
            with bounded():
                text = self._template.render(add_generation_prompt=True, **self._variables, **said)
        except _TemplateRefusedError as error:
            raise InputError(f"the model's chat template refuses this: {error}") from error
        except _TEMPLATE_ERRORS as error:
            raise _broken(error) from error
        if len(text) > TEMPLATE_TEXT_MAX_BYTES:
            raise InputError("the model's chat template makes megabytes of this conversation")
        return text


def plain_prompt(messages: Sequence[Message]) -> str:
    """Return the text for a model that has no chat template."""
    return "\n\n".join(turn.content for turn in messages)


def with_short_ids(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the turns with ids of calls as Mistral wants them: nine letters or digits."""
    return tuple(
        replace(
            turn,
            tool_calls=tuple(replace(call, id=_short(call.id)) for call in turn.tool_calls),
            tool_call_id=_short(turn.tool_call_id) if turn.tool_call_id else "",
        )
        for turn in messages
    )


def _short(call_id: str) -> str:
    if len(call_id) == _MISTRAL_ID_CHARS and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:_MISTRAL_ID_CHARS]


def _turn(message: Message) -> dict[str, Any]:
    """Return a turn as transformers hands it to templates; what says nothing is not there."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.name:
        turn["name"] = message.name
    return turn


def _arguments(text: str) -> Any:
    """Return arguments as the object that templates write out; as text, what was cut off."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _broken(error: Exception) -> InputError:
    told = str(error) or type(error).__name__
    return InputError(f"the model's chat template is broken ({told}); report it to its publisher")


def _refuse(message: str) -> NoReturn:
    raise _TemplateRefusedError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None, **_others: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
