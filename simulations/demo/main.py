"""Moves and runs a real model between three nodes on this machine, saying what it does.

Usage: python -m dreamer.simulations.demo.main --gguf MODEL.gguf

A tracker, an S3 server and the nodes A, B and C run as processes with homes of their own. A
imports the model and pushes it; B pulls it from A and runs a prompt; C pulls while A is being
stopped and finishes from B; then C runs a prompt on B.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dreamer.simulations.loopback import LoopbackError, Node, s3_server, tracker, until

BUCKET = "models"
ROOM = "lab"
PROMPT = "What is the capital of Japan?"
MAX_TOKENS = "24"
LANES = ("cache", "direct", "webrtc", "relay", "torrent", "origin")
MIB = 1024 * 1024


class Demo:
    """One run; every step says what it does before it does it."""

    def __init__(self, gguf: Path, root: Path, stack: ExitStack) -> None:
        self._gguf = gguf
        self._root = root
        self._stack = stack
        # A file or a pipe gets plain lines; a terminal gets colours.
        self._console = Console(width=None if sys.stdout.isatty() else 100)
        self._started = time.monotonic()
        self._receipts: list[tuple[str, dict[str, Any]]] = []

    def say(self, text: str) -> None:
        """Print a step with the time since the start."""
        seconds = time.monotonic() - self._started
        self._console.print(f"[bold]{seconds:6.1f} s[/bold]  {text}", highlight=False)
        sys.stdout.flush()

    def run(self) -> None:
        """Run all steps; raises LoopbackError when one does not do what it should."""
        a, b, c = self._start()
        self._push(a)
        self._pull_and_run(b)
        self._pull_while_stopping(a, b, c)
        self._run_on_peer(b, c)
        self._close()

    def _start(self) -> tuple[Node, Node, Node]:
        self.say("starting a tracker, an S3 server and the nodes A, B and C")
        url = self._stack.enter_context(tracker(self._root / "tracker"))
        s3 = self._stack.enter_context(s3_server(self._root / "s3.log", BUCKET))
        serving = {"DREAMER_INFERENCE_SERVE_PEERS": "true"}
        a = self._stack.enter_context(Node(self._root / "A"))
        b = self._stack.enter_context(Node(self._root / "B", env=serving))
        # Or C would have it all before A can be stopped.
        slow = {"DREAMER_SHARING_DOWN_MBIT": "200", "DREAMER_SHARING_LAN_EXEMPT": "false"}
        c = self._stack.enter_context(Node(self._root / "C", env=slow))
        self.say(f"A makes room {ROOM!r} at {url}, with the origin s3://{BUCKET}")
        a.dreamer(
            *("room", "create", ROOM, "--tracker", url),
            *("--origin", f"s3://{BUCKET}/demo", "--endpoint-url", s3),
        )
        for node in (b, c):
            token = a.dreamer("room", "invite", ROOM)["token"]
            node.dreamer("room", "join", token)
            self.say(f"{node.home.name} joined with a token that is good for one use")
        return a, b, c

    def _push(self, a: Node) -> None:
        model = self._root / "smollm2-135m-instruct"
        self.say(f"A imports {self._gguf.name} ({self._gguf.stat().st_size / MIB:.0f} MiB) as ONNX")
        a.dreamer("import", str(self._gguf), "--output", str(model))
        pushed = a.dreamer(
            *("push", str(model), "--room", ROOM),
            *("--alias", "assistant", "--tag", "validated"),
        )
        self.say(
            f"A pushed {pushed['short_id']} ({pushed['size_bytes'] / MIB:.0f} MiB) as 'assistant', "
            f"tagged 'validated'; {pushed['uploaded'] / MIB:.0f} MiB went to the origin"
        )

    def _pull_and_run(self, b: Node) -> None:
        self.say("B pulls 'assistant'")
        receipt = b.dreamer("pull", "assistant", "--room", ROOM)
        self._receipts.append(("B", receipt))
        _expect(receipt["bytes"]["origin"] == 0, "B took bytes from the origin")
        _expect(receipt["bytes"]["direct"] == receipt["size_bytes"], "B did not get all from A")
        again = b.dreamer("pull", "tag:validated", "--room", ROOM)
        _expect(again["bytes"]["cache"] == again["size_bytes"], "a second pull moved bytes")
        self._receipts.append(("B, again", again))
        said = b.dreamer("run", "assistant", PROMPT, "--max-tokens", MAX_TOKENS, "--where", "local")
        self._answer("B, locally", said)

    def _pull_while_stopping(self, a: Node, b: Node, c: Node) -> None:
        self.say("C pulls; A is stopped while it does")
        with c.begin("pull", "assistant", "--room", ROOM, "--json") as pull:
            until(lambda: _pulled(c) > 0.1, "C's first blocks")
            a.process.terminate()
            out, err = pull.communicate(timeout=180)
        _expect(a.process.wait() == 0, "A did not stop cleanly")
        _expect(pull.returncode == 0, f"C's pull failed: {out}{err}")
        receipt = json.loads(out)
        self._receipts.append(("C", receipt))
        me = {b.dreamer("status")["node_id"]: "B"}
        sources = ", ".join(
            f"{size / MIB:.0f} MiB from {me.get(node, 'A')}"
            for node, size in receipt["peers"].items()
        )
        self.say(f"C is complete: {sources}")
        _expect(receipt["bytes"]["origin"] == 0, "C took bytes from the origin")

    def _run_on_peer(self, b: Node, c: Node) -> None:
        said = c.dreamer("run", "assistant", PROMPT, "--max-tokens", MAX_TOKENS, "--where", "peer")
        _expect(said["node"] == b.dreamer("status")["node_id"], "B did not run C's prompt")
        self._answer("C, on B", said)

    def _answer(self, who: str, said: dict[str, Any]) -> None:
        text = re.sub(r"\s+", " ", said["text"]).strip()
        self.say(f"{who}: {PROMPT!r} → {text!r} ({said['completion_tokens']} tokens)")
        _expect("Tokyo" in text, f"{who} answered {text!r}")

    def _close(self) -> None:
        table = Table(title="Receipts (MiB by lane)")
        for column in ("pull", "seconds", "MiB/s", *LANES):
            table.add_column(column, justify="left" if column == "pull" else "right")
        for who, receipt in self._receipts:
            size, seconds = receipt["size_bytes"] / MIB, receipt["seconds"]
            lanes = [f"{receipt['bytes'][lane] / MIB:.1f}" for lane in LANES]
            table.add_row(who, f"{seconds:.2f}", f"{size / max(seconds, 1e-3):.1f}", *lanes)
        self._console.print(table)
        self.say("done: one push, two pulls from peers, nothing from the origin")


def _pulled(node: Node) -> float:
    """Return which part of the node's partial files is on disk, roughly."""
    partial = node.home / "models" / ".dreamer" / "partial"
    files = [path.stat() for path in partial.rglob("*") if path.is_file()]
    if not files:
        return 0.0
    status = [link for link in node.dreamer("peers")["peers"] if link["bytes_down"]]
    down = sum(int(link["bytes_down"]) for link in status)
    return down / max(1, sum(file.st_size for file in files))


def _expect(held: bool, otherwise: str) -> None:
    if not held:
        raise LoopbackError(otherwise)


def main() -> None:
    """Run the demo; exit 1 with one line when something was not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-demo-") as scratch, ExitStack() as stack:
        try:
            Demo(given.gguf, Path(scratch), stack).run()
        except LoopbackError as error:
            sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
