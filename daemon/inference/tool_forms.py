"""How models write that they call a tool: a table of forms, and which of them a template teaches.

A call is JSON, ``{"name": …, "arguments": {…}}``, between marks that differ. Which form a model was
trained on shows in its own chat template, which writes the calls of earlier turns in it. What comes
out is read by all of them (``tool_reading``): models that were trained further mix them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME_END = "[ARGS]"
"""What Mistral's newer models write between the name of a tool and its arguments."""
CALL_ID = "[CALL_ID]"
"""What some of them write between the two as well, with an id behind it."""


@dataclass(frozen=True)
class ToolForm:
    """One form. A call, or a list of them if ``listed``, stands between ``begin`` and ``end``.

    Without ``end`` calls go on to the end of the answer. ``arguments`` is the key of what the tool
    is called with; ``between`` stands between two calls, and ``inside`` at both ends of each.
    ``named`` forms write name and arguments apart, instead of in one object. A ``single`` one makes
    one call an answer.
    """

    name: str
    begin: str
    end: str = ""
    arguments: str = "arguments"
    listed: bool = False
    between: str = ""
    inside: str = ""
    named: bool = False
    single: bool = False


HERMES = ToolForm("hermes", "<tool_call>", "</tool_call>", between="\n", inside="\n")
"""Nous Hermes, Qwen 2.5 and 3, SmolLM: https://github.com/NousResearch/Hermes-Function-Calling."""
MISTRAL = ToolForm("mistral", "[TOOL_CALLS]", listed=True)
"""Mistral's up to Nemo: https://docs.mistral.ai/guides/tokenization."""
MISTRAL_NAMED = ToolForm("mistral-named", "[TOOL_CALLS]", named=True)
PIPED = ToolForm("piped", "<|tool_call|>", "<|/tool_call|>", listed=True)
"""Phi-4-mini, and Granite 3, which leaves out the end."""
LLAMA = ToolForm("llama", "", arguments="parameters", single=True)
"""Llama 3.1 and later: the whole answer is the call, and their templates refuse two in one turn.
https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/#json-based-tool-calling
"""
PYTHON_TAG = "<|python_tag|>"
"""What Llama may write before a call."""

MARKS = (
    (HERMES.begin, HERMES.end),
    (PIPED.begin, PIPED.end),
    (MISTRAL.begin, ""),
    (PYTHON_TAG, ""),
)
"""Every pair of marks that calls stand between."""
ARGUMENT_KEYS = ("arguments", "parameters")

_KNOWS_TOOLS = re.compile(r"\btools\b")
# Calls in XML of these kinds stand between the same marks as those in JSON.
_OTHER = ("<function=", "<arg_key>", "<parameter=")
_KEYS = re.compile(r"""["'](name|parameters)["']""")
_KEYS_APART_MAX_CHARS = 200


def knows_tools(template: str) -> bool:
    """Say whether a chat template does anything with tools."""
    return _KNOWS_TOOLS.search(template) is not None


def tool_form(template: str) -> ToolForm | None:
    """Return the form that a chat template teaches, None if it knows no tools or none of these."""
    if not knows_tools(template) or any(sign in template for sign in _OTHER):
        return None
    if HERMES.begin in template:
        return HERMES
    if MISTRAL.begin in template:
        return MISTRAL_NAMED if NAME_END in template else MISTRAL
    if PIPED.begin in template:
        return PIPED
    if PYTHON_TAG in template or _writes_parameters(template):
        return LLAMA
    return None


def _writes_parameters(template: str) -> bool:
    """Say whether a name and parameters stand close to each other, in time linear in the text."""
    named = -_KEYS_APART_MAX_CHARS - 1
    for key in _KEYS.finditer(template):
        if key[1] == "name":
            named = key.end()
        elif key.start() - named <= _KEYS_APART_MAX_CHARS:
            return True
    return False


def special_marks(form: ToolForm) -> tuple[str, ...]:
    """Return what may be special tokens of a model of this form, and has to be read as text."""
    named = (NAME_END, CALL_ID) if form.named else ()
    tag = (PYTHON_TAG,) if form is LLAMA else ()
    return tuple(mark for mark in (form.begin, form.end, *named, *tag) if mark)
