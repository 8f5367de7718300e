"""A template from a stranger can neither hang nor fill the worker that renders it."""

from __future__ import annotations

import sys

import pytest

from dreamer.daemon.inference.answers import template_bounds
from dreamer.daemon.inference.answers.chat import ChatTemplate
from dreamer.daemon.inference.requests import Message
from dreamer.protocol.errors import InputError

TURNS = (Message("user", "Hi"),)


def render(source: str) -> str:
    return ChatTemplate(source, {}).render(TURNS)


SPIN = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        SPIN,
        "{{ lipsum(n=10000000) }}",
        "{% set n = namespace(x=0) %}{% for a in range(99999) %}"
        "{{ range(99999)|select('odd')|list|length }}{% endfor %}",
        "{% macro f(n) %}{% for a in range(9) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endfor %}"
        "{% endmacro %}{{ f(30) }}",
    ],
)
def test_template_that_takes_too_long_is_stopped(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_bounds, "TEMPLATE_RENDER_MAX_S", 0.05)
    with pytest.raises(InputError, match=r"takes longer than 0\.05 s"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 9 ** (9 ** 9) }}",
        "{{ messages|length ** 2 + 9 ** 99999999 }}",
        "{% set n = namespace(x=9) %}{% for a in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{{ 1.5|round(1000000000, 'ceil') }}",
    ],
)
def test_numbers_of_endless_digits_are_refused(source: str) -> None:
    with pytest.raises(InputError, match="chat template is broken"):
        render(source)


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is Linux's")
@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10000000000 }}",
        "{% set n = namespace(x='abcdefgh') %}"
        "{% for a in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ 'a'|center(10000000000) }}",
        "{{ messages[0].content.ljust(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ (['x' * 1000000] * 1000000)|join }}",
        "{{ ('a' * 100000000).replace('a', 'b' * 1000) }}",
    ],
)
def test_template_that_takes_too_much_memory_is_stopped(source: str) -> None:
    with pytest.raises(InputError, match="MemoryError"):
        render(source)


def test_bounds_are_gone_afterwards() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA), sys.gettrace()
    assert render("{{ 6 * 7 }} {{ 2 ** 10 }} {{ 1.25|round(1) }}") == "42 1024 1.2"
    with pytest.raises(InputError):
        render("{{ 1 / 0 }}")
    assert (resource.getrlimit(resource.RLIMIT_DATA), sys.gettrace()) == before


def test_prompt_of_megabytes_is_refused() -> None:
    with pytest.raises(InputError, match="megabytes"):
        render("{{ 'x' * 10000000 }}")


def test_template_of_megabytes_is_refused() -> None:
    with pytest.raises(InputError, match="longer than"):
        ChatTemplate("x" * 2_000_000, {})
