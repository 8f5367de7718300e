"""``python -m dreamer.daemon.inference.gguf SOURCE OUTPUT``: an import in a process of its own.

A line of JSON on stdout for each step, ``{"done", "total"}``, and last ``{"report"}`` or
``{"error": {"code", "message"}}``. dreamerd starts it, which never loads numpy or onnx itself.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from dreamer.daemon.inference.worker.confinement import confine
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError


def main(source: Path, output: Path) -> int:
    """Import ``source``; return the exit status."""
    # Before anything starts a thread; the file may come from anybody, and needs no network.
    confine()
    from dreamer.daemon.inference.gguf import import_gguf

    try:
        report = import_gguf(source, output, lambda _, done, total: _say(done=done, total=total))
    except DreamerError as error:
        _say(error={"code": error.code, "message": str(error)})
        return 1
    _say(report=asdict(report))
    return 0


def _say(**values: int | Json) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
