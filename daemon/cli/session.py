"""One invocation of the command line: which home, which form of output, and the way to print.

With ``--json`` exactly one JSON document goes to stdout, also for a failure; everything else that
people should see goes to stderr.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dreamer.daemon.cli.plain_text import one_line
from dreamer.protocol.errors import DreamerError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dreamer.daemon.client import Dreamer

_PIPE_WIDTH = 160
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the signal's number, as shells have it."""


@dataclass
class Session:
    """What one command works with; ``home`` None means the default home."""

    argv: Sequence[str]
    home: str | None = None
    as_json: bool = False
    program: str = "dreamer"

    @cached_property
    def client(self) -> Dreamer:
        """The daemon's client."""
        from dreamer.daemon.client import Dreamer

        return Dreamer(self.home)

    def show(self, value: Any, people: Callable[[], RenderableType]) -> None:
        """Print the result: ``value`` as JSON, or what ``people`` makes for them."""
        if self.as_json:
            self.write(json.dumps(value, indent=2, default=str) + "\n")
            return
        from rich.console import Console

        # Piped tables must not be cut to the width of a terminal that isn't there.
        console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
        console.print(people())

    def write(self, text: str) -> None:
        """Write to stdout as it is, now."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Write one line to stderr."""
        # Messages can hold names and words from other machines.
        sys.stderr.write(f"{one_line(text)}\n")
        sys.stderr.flush()

    def fail(self, code: str, message: str) -> None:
        """Report a failure: one line for people, or the JSON document."""
        if self.as_json:
            self.write(json.dumps({"error": {"code": code, "message": message}}) + "\n")
        else:
            self.say(f"{self.program}: {message}")

    def failed(self, error: DreamerError) -> None:
        """Report an error."""
        self.fail(error.code, str(error))

    def interrupted(self) -> None:
        """Report Ctrl-C and how to go on."""
        again = shlex.join([self.program, *self.argv])
        self.fail("interrupted", f"interrupted; to go on, run again: {again}")
