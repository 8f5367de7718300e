"""The tools of a request as models are told of them: one form for all APIs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import TOOL_NAME_MAX_CHARS, TOOLS_MAX

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*", re.ASCII)


@dataclass(frozen=True)
class ToolFunction:
    """A function that may be called; ``parameters`` is a JSON schema as text, "" for none."""

    name: str
    description: str
    parameters: str

    def text(self) -> str:
        """Return it as chat templates take it."""
        told = {
            "name": self.name,
            **({"description": self.description} if self.description else {}),
        }
        # The schema is text already, and as it was sent: the order of its properties tells models
        # something.
        parameters = self.parameters or '{"type": "object", "properties": {}}'
        head = json.dumps(told, ensure_ascii=False)[:-1]
        return f'{{"type": "function", "function": {head}, "parameters": {parameters}}}}}'


def tools_text(functions: Sequence[ToolFunction]) -> str:
    """Return ``Tools.text`` of these functions.

    Raises:
        InputError: there are too many, two of one name, or a name that models can't write.
    """
    if len(functions) > TOOLS_MAX:
        raise InputError(f"more than {TOOLS_MAX} tools: offer fewer of them")
    names = [one.name for one in functions]
    for place, name in enumerate(names):
        if not _NAME.fullmatch(name) or len(name) > TOOL_NAME_MAX_CHARS:
            raise InputError(
                f"a tool is called {name!r:.80}: use letters, digits, '_' and '-', "
                f"{TOOL_NAME_MAX_CHARS} at most"
            )
        if name in names[:place]:
            raise InputError(f"two tools are called {name!r:.80}: rename one")
    return f"[{', '.join(one.text() for one in functions)}]"
