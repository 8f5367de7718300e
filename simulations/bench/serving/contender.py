"""A contender's process: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

PACKAGE = "dreamer.simulations.bench.contenders"


class Contender:
    """A running contender; ``session_s`` is what loading its model took."""

    def __init__(self, argv: list[str]) -> None:
        """Start it and wait until its model is loaded."""
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.session_s: float = self._heard()["session_s"]

    @classmethod
    def of(cls, module: str, *arguments: str) -> Contender:
        """Start one of the modules beside the others."""
        return cls([sys.executable, "-m", f"{PACKAGE}.{module}", *arguments])

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the contender ended with status {self._process.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
