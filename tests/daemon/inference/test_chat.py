"""Chat templates: rendered as Hugging Face does, and kept in their sandbox."""

from __future__ import annotations

import pytest

from dreamer.daemon.inference.chat import ChatTemplate, plain_prompt
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
