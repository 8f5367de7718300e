"""Puts a conversation into the words a model was trained on: its own chat template.

A template is Jinja from whoever made the model, so it runs in Jinja's immutable sandbox, with
what Hugging Face templates expect and nothing else, in the worker process, within bounds of time
and memory. A model without one gets the plain text.
"""

from __future__ import annotations

import json
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
        # Templates ask whether these are None; tools and documents are not passed on.
        self._variables: dict[str, Any] = {"tools": None, "documents": None, **special}
        if len(source) > TEMPLATE_MAX_BYTES:
            raise InputError(f"the model's chat template is longer than {TEMPLATE_MAX_BYTES} bytes")
        try:
            # Constants are computed while it is compiled: the bounds hold here too.
            with bounded():
                self._template = environment.from_string(source)
        except _TEMPLATE_ERRORS as error:
            raise _broken(error) from error

    def render(self, messages: tuple[Message, ...]) -> str:
        """Return the prompt, up to where the answer begins.

        Raises:
            InputError: the template refuses this conversation, or is broken or unsafe.
        """
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        try:
            with bounded():
                text = self._template.render(
                    messages=turns, add_generation_prompt=True, **self._variables
                )
        except _TemplateRefusedError as error:
            raise InputError(f"the model's chat template refuses this: {error}") from error
        except _TEMPLATE_ERRORS as error:
            raise _broken(error) from error
        if len(text) > TEMPLATE_TEXT_MAX_BYTES:
            raise InputError("the model's chat template makes megabytes of this conversation")
        return text


def plain_prompt(messages: tuple[Message, ...]) -> str:
    """Return the text for a model that has no chat template."""
    return "\n\n".join(turn.content for turn in messages)


def _broken(error: Exception) -> InputError:
    told = str(error) or type(error).__name__
    return InputError(f"the model's chat template is broken ({told}); report it to its publisher")


def _refuse(message: str) -> NoReturn:
    raise _TemplateRefusedError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None, **_others: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
