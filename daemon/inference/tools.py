"""Tools that a model may call, and its calls, as they cross processes: JSON text inside values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import TOOLS_MAX_BYTES

ToolChoice = Literal["auto", "required"]


@dataclass(frozen=True)
class ToolCall:
    """One call: ``arguments`` is JSON text as the model wrote it, an object unless it was cut."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Tools:
    """What may be called, as chat templates expect it; made by ``rest.tool_definitions``.

    ``text`` is a JSON list of ``{"type": "function", "function": {"name", "description",
    "parameters"}}``, where ``parameters`` is a JSON schema. ``choice`` says whether the answer must
    be a call; ``function`` names the only one that it may then be. Unless ``parallel``, an answer
    that must be a call is one, else it may be several.
    """

    text: str
    choice: ToolChoice = "auto"
    function: str = ""
    parallel: bool = True

    def check(self) -> None:
        """Refuse what is too long; the worker looks at what it says.

        Raises:
            InputError: it is longer than any model's instructions should be, or no UTF-8.
        """
        try:
            size = len(self.text.encode())
        except UnicodeEncodeError as error:
            raise InputError(
                "the tools have half a character (a lone surrogate) in them: leave it out"
            ) from error
        if size > TOOLS_MAX_BYTES:
            raise InputError(
                f"the tools are {size} bytes, more than {TOOLS_MAX_BYTES}; "
                "offer fewer of them, or shorten what describes them"
            )
