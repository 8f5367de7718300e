"""The grammar of an answer that has to call tools, in the form that the model was trained on.

It is Lark's, as llguidance reads it (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md):
marks and names as they stand, and for the arguments of each tool its own JSON schema, a document by
itself, so that references inside it mean what they mean there.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.grammar import WHITESPACE, check_multiples, json_schema
from dreamer.daemon.inference.answers.tool_use import definitions, name_of
from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.daemon.inference.tool_forms import NAME_END, ToolForm
from dreamer.daemon.inference.tools import Tools
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import GRAMMAR_MAX_BYTES, TOOL_CALLS_MAX

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
# By JSON schema an object of no known properties may have any; of a function it means none.
_EMPTY_KEYS = frozenset(("type", "properties", "required", "title", "description", "$schema"))
_OPTIONS = {"x-guidance": {"whitespace_pattern": WHITESPACE}}


def calls_grammar(
    tools: Tools, form: ToolForm, tokenizer: Tokenizer, answer: Grammar | None
) -> str:
    """Return the grammar of one or more calls; of JSON as well, where it may be an ``answer``.

    Raises:
        InputError: the tool that is to be called is none of them, a schema is none, or they are
            too long together.
    """
    chosen = [one for one in definitions(tools) if tools.function in ("", name_of(one))]
    if not chosen:
        raise InputError(f"the tool {tools.function!r:.80} is to be called and is not offered")
    marks = _Marks(tokenizer)
    rules = ["%llguidance {}", "start: calls" + (" | answer" if answer else "")]
    if answer:
        rules.append(f"answer: %json {json.dumps({**json_schema(answer), **_OPTIONS})}")
    rules += _frame(form, marks, tools.parallel and not tools.function and not form.single)
    for number, one in enumerate(chosen):
        rules += _call(number, one["function"], form, marks)
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(chosen))))
    grammar = "\n".join(rules) + "\n"
    if len(grammar) > GRAMMAR_MAX_BYTES:
        raise InputError(
            f"the schemas of these tools are longer than {GRAMMAR_MAX_BYTES} bytes together: "
            "name the function to call, or offer fewer"
        )
    return grammar


class _Marks:
    """Writes a mark as the token that it is to a model, else letter by letter."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def of(self, text: str) -> str:
        number = self._tokenizer.token_to_id(text)
        return json.dumps(text) if number is None else f"<[{number}]>"


def _frame(form: ToolForm, marks: _Marks, several: bool) -> list[str]:
    """Return the rules of what is around calls."""
    more = f"{{0,{TOOL_CALLS_MAX - 1}}}" if several else ""
    begin = marks.of(form.begin) if form.begin else ""
    end = marks.of(form.end) if form.end else ""
    if form.listed:
        again = f' (", " call){more}' if more else ""
        return [f'calls: {begin} "[" call{again} "]" {end}']
    inside = json.dumps(form.inside) if form.inside else ""
    between = json.dumps(form.between) if form.between else ""
    again = f" ({between} one){more}" if more else ""
    return [f"calls: one{again}", f"one: {begin} {inside} call {inside} {end}"]


def _call(number: int, function: dict[str, Any], form: ToolForm, marks: _Marks) -> list[str]:
    schema = function.get("parameters", {})
    if not schema.get("properties") and _EMPTY_KEYS.issuperset(schema):
        schema = _NO_ARGUMENTS
    check_multiples(schema)
    arguments = f"arguments_{number}: %json {json.dumps({**schema, **_OPTIONS})}"
    name = json.dumps(function["name"], ensure_ascii=False)
    if form.named:
        head = f"{json.dumps(function['name'])} {marks.of(NAME_END)}"
        return [f"call_{number}: {head} arguments_{number}", arguments]
    head = json.dumps(f'{{"name": {name}, "{form.arguments}": ')
    return [f'call_{number}: {head} arguments_{number} "}}"', arguments]
