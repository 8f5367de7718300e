"""Bounds what a chat template may use: processor time and memory of the worker that renders it.

Jinja's sandbox keeps a template from Python's insides, not from loops in loops, from numbers of a
million digits or from strings that double each time round. Most bounds are the worker's own
interpreter's: it counts as the template runs; a memory limit of the process holds meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dreamer.protocol.inference_limits import TEMPLATE_MEMORY_MAX_BYTES, TEMPLATE_RENDER_MAX_S

# Looking at the clock costs more than a step of a template does.
_STEPS_BETWEEN_LOOKS = 256
_MOST_BITS = 4096
_MOST_DIGITS = 100


class TemplateBoundError(jinja2.TemplateError):
    """The template wants more than it may have."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, without arithmetic that one instruction could spend minutes on."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        """Make an environment as Hugging Face's templates expect it."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
            autoescape=False,
        )
        rounded = self.filters["round"]
        self.filters["round"] = lambda value, precision=0, method="common": rounded(
            value, _few_digits(precision), method
        )
        # Of no use in a prompt, and its patterns can take very long.
        del self.filters["urlize"]

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Compute a product or power, unless its digits would be thousands."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length()
            bits = bits * abs(right) if operator == "**" else bits + right.bit_length()
            if bits > _MOST_BITS:
                raise TemplateBoundError("it computes with numbers of thousands of digits")
        return super().call_binop(context, operator, left, right)


class GenerationTag(Extension):
    """``{% generation %}``: marks the assistant's words for those who train; here, only passes."""

    tags = {"generation"}  # noqa: RUF012 - so it is declared in the base class

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the block with its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("say"), [], [], body)
        return block.set_lineno(line)

    def say(self, caller: Macro) -> str:
        """Return the body as it is."""
        return str(caller())


@contextmanager
def bounded() -> Iterator[None]:
    """Hold the time and memory bounds over what is called inside.

    Raises:
        TemplateBoundError: it took too long. Too much memory is a MemoryError.
    """
    with _memory_bound(), _time_bound():
        yield


@contextmanager
def _time_bound() -> Iterator[None]:
    until = time.thread_time() + TEMPLATE_RENDER_MAX_S
    steps = 0

    def count(_frame: Any, _event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % _STEPS_BETWEEN_LOOKS == 0 and time.thread_time() > until:
            raise TemplateBoundError(f"it takes longer than {TEMPLATE_RENDER_MAX_S:g} s")
        return count

    before = sys.gettrace()
    # The interpreter calls this for each line of what is called from here on, in this thread.
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory_bound() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _data_bytes() + TEMPLATE_MEMORY_MAX_BYTES
    for limit in (soft, hard):
        most = most if limit == resource.RLIM_INFINITY else min(most, limit)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Return how much of what RLIMIT_DATA counts is in use (proc(5), statm)."""
    import resource

    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
    return int(pages) * resource.getpagesize()


def _few_digits(precision: Any) -> Any:
    if isinstance(precision, int) and abs(precision) > _MOST_DIGITS:
        raise TemplateBoundError(f"it rounds to {precision} digits")
    return precision
