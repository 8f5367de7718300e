"""Chat templates: rendered as Hugging Face does, and kept in their sandbox."""

from __future__ import annotations

import pytest

from dreamer.daemon.inference.answers.chat import ChatTemplate, plain_prompt
from dreamer.daemon.inference.requests import Message
from dreamer.protocol.errors import InputError

TURNS = (Message("user", "Hi <b>"), Message("assistant", "Hello"), Message("user", "Bye"))


def render(source: str, **special: str) -> str:
    return ChatTemplate(source, special).render(TURNS)


def test_turns_and_special_tokens_are_rendered() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}\n[{{ m.role }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    expected = "<s>[user] Hi <b>\n[assistant] Hello\n[user] Bye\n[assistant]"
    assert render(source, bos_token="<s>") == expected


def test_template_may_refuse_a_conversation() -> None:
    with pytest.raises(InputError, match="refuses this: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for x in range(100000000) %}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].content.x }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_template_that_leaves_its_sandbox_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="chat template is broken"):
        render(source)


def test_insides_of_python_are_undefined_to_a_template() -> None:
    assert render("[{{ raise_exception.__globals__ }}]") == "[]"


def test_template_that_does_not_parse_is_refused() -> None:
    with pytest.raises(InputError, match="chat template is broken"):
        ChatTemplate("{% for %}", {})


def test_model_without_a_template_gets_plain_text() -> None:
    assert plain_prompt(TURNS) == "Hi <b>\n\nHello\n\nBye"


SYSTEM = Message("system", "Be brief.")

# In the manner of the families that people run; each has its own way with roles.
CHATML = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
HEADERS = (
    "{{- bos_token }}\n"
    "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system = messages[0]['content']|trim %}{%- set messages = messages[1:] %}\n"
    "{%- else %}{%- set system = '' %}{%- endif %}\n"
    "{{- '<|head|>system<|/head|>\\n\\n' + system }}\n"
    "{%- if tools is not none %}{{- tools | tojson(indent=4) }}{%- endif %}{{- '<|eot|>' }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n' + message['content'] | trim }}\n"
    "    {{- '<|eot|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\\n\\n' }}{%- endif %}\n"
)
INST = (
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content + '\\n\\n' -%}"
    "{%- set loop_messages = messages[1:] -%}"
    "{%- else -%}{%- set system = '' -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{{ bos_token }}{%- for message in loop_messages -%}"
    "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must alternate user/assistant') }}{%- endif -%}"
    "{%- if message.role == 'user' -%}"
    "[INST] {{ (system if loop.first else '') + message.content }} [/INST]"
    "{%- else -%}{{ ' ' + message.content + eos_token }}{%- endif -%}{%- endfor -%}"
)
TURN = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<turn>' + role + '\\n' + m.content | trim + '</turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}"
)


def test_template_of_marked_turns() -> None:
    assert ChatTemplate(CHATML, {}).render((SYSTEM, *TURNS[-1:])) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_of_headers_with_a_system_turn_of_its_own() -> None:
    template = ChatTemplate(HEADERS, {"bos_token": "<s>"})
    expected = "<|eot|><|head|>user<|/head|>\n\nBye<|eot|><|head|>assistant<|/head|>\n\n"
    start = "<s><|head|>system<|/head|>\n\n"
    assert template.render(TURNS[-1:]) == start + expected
    assert template.render((SYSTEM, *TURNS[-1:])) == start + "Be brief." + expected


def test_template_that_puts_the_system_into_the_first_turn() -> None:
    template = ChatTemplate(INST, {"bos_token": "<s>", "eos_token": "</s>"})
    assert template.render((SYSTEM, *TURNS)) == (
        "<s>[INST] Be brief.\n\nHi <b> [/INST] Hello</s>[INST] Bye [/INST]"
    )
    with pytest.raises(InputError, match="roles must alternate"):
        template.render(TURNS[:2] + TURNS[1:])


def test_template_without_a_system_role_says_so() -> None:
    template = ChatTemplate(TURN, {"bos_token": "<bos>"})
    assert template.render(TURNS[1:]) == (
        "<bos><turn>model\nHello</turn>\n<turn>user\nBye</turn>\n<turn>model\n"
    )
    with pytest.raises(InputError, match="System role not supported"):
        template.render((SYSTEM, *TURNS))


def test_json_in_a_template_is_not_written_for_the_web() -> None:
    assert render("{{ {'a': '<é&>'}|tojson }}") == '{"a": "<é&>"}'


def test_block_that_marks_the_answer_for_training_passes() -> None:
    assert render("a{% generation %}{{ 'b' }}{% endgeneration %}c") == "abc"
