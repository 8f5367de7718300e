"""The form of a model's tool calls shows in its chat template."""

from __future__ import annotations

import pytest

from dreamer.daemon.inference.tool_forms import (
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_NAMED,
    PIPED,
    ToolForm,
    knows_tools,
    tool_form,
)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}<tool_call>{{ tools }}</tool_call>{% endif %}", HERMES),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", MISTRAL),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]{{ name }}[ARGS]", MISTRAL_NAMED),
        ("{% if tools %}<|tool|>{{ tools }}<|/tool|>{% endif %}<|tool_call|>", PIPED),
        ("""{{ tools }}{{ '{"name": "' + call.name + '", "parameters": ' }}""", LLAMA),
        ("{% if tools %}<|python_tag|>{% endif %}", LLAMA),
        ("tools 'parameters' 'name' 'name'" + " " * 200 + "'parameters'", LLAMA),
        ("tools 'parameters' 'name'" + " " * 201 + "'parameters'", None),
        ("tools 'parameters' 'name' 'parameter'", None),
        ("{% if tools %}<tool_call><function={{ name }}>{% endif %}", None),
        ("{% if tools %}{{ tools }}{% endif %}", None),
        ("{% for message in messages %}<tool_call>{% endfor %}", None),
        ("", None),
    ],
)
def test_template_tells_its_form(template: str, form: ToolForm | None) -> None:
    assert tool_form(template) == form
    assert knows_tools(template) == ("tools" in template)
