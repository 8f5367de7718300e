"""Serving models, beside ONNX Runtime without a server and onnxruntime-genai, in one run.

Usage: python -m dreamer.simulations.bench.inference --gguf MODEL.gguf [--rounds 5] [--only PART]

One stream: tokens a second after the first, greedy, through ``/v1/chat/completions`` on the Unix
socket, by a bare loop, and by onnxruntime-genai, in turns, on the same files; the node's text must
be the bare loop's. Eight streams: all tokens a second while all decode, over one stream's. Gaps:
between the tokens of one stream while 1,000 tokens of another prompt are read, their p99 over
their median (and over the median alone). Tensors: graphs that take about 5 ms here (made so at the
start) through ``/v2`` with the binary extension, beside ``session.run``, with 2 KiB and with 256
KiB in and out, one request after the other and two in flight, always of batch 1, and the processor
time of each process for a request. Cold start: a fresh node's
first load of a model in its store, beside a bare session of the file (imports done). Ratios are
medians over the rounds. The machine should be otherwise idle: clients, node and contenders share
its cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer.simulations.bench.gauges import Spread
from dreamer.simulations.bench.serving import models, rounds, tensor_rounds
from dreamer.simulations.bench.serving.contender import Contender
from dreamer.simulations.loopback import Node, tracker

PARTS = ("stream", "streams", "gaps", "tensors", "cold")
DECODER = "smollm2"


@dataclass(frozen=True)
class Row:
    """One figure: ``low`` and ``high`` bound what is good; a row without either only informs."""

    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.low is None and self.high is None:
            return ""
        over = self.high is not None and self.value > self.high
        under = self.low is not None and self.value < self.low
        target = f">= {self.low:g}" if self.low is not None else f"<= {self.high:g}"
        return f"{target:>8}  {'MISSED' if over or under else 'met'}"

    def line(self) -> str:
        """Return the row as text."""
        return f"{self.what:<58} {self.value:9.2f} {self.unit:<5} {self.verdict}".rstrip()


class Bench:
    """What all parts share: the directories, a node with both models, the number of rounds."""

    def __init__(self, scratch: Path, gguf: Path, count: int, genai: Path | None) -> None:
        """Make the models."""
        self._scratch = scratch
        self._count = count
        self._threads = os.cpu_count() or 1
        self._genai = genai
        self._decoder = models.decoder_directory(gguf, scratch / "decoder")
        self._graphs = {
            name: models.tensor_directory(name, scratch / name, self._threads)
            for name in models.SHAPES
        }
        self._node = Node(scratch / "A")
        self._one_stream = 0.0

    @contextmanager
    def published(self) -> Iterator[None]:
        """Put the models into the node's store; the tracker stays."""
        with tracker(self._scratch / "tracker") as url:
            with self._node as node:
                node.dreamer("room", "create", "bench", "--tracker", url)
                for alias, path in ((DECODER, self._decoder), *self._graphs.items()):
                    node.dreamer("push", str(path), "--room", "bench", "--alias", alias)
            yield

    def stream(self) -> list[Row]:
        """Measure one stream."""
        with ExitStack() as stack:
            server = stack.enter_context(rounds.fresh(self._node))
            bare = stack.enter_context(self._bare_decoder())
            genai = stack.enter_context(contender) if (contender := self._genai_decoder()) else None
            server.chat(DECODER, "Hello", 8)
            rates = [
                rounds.one_stream(server, DECODER, self._decoder, bare, genai, turn)
                for turn in range(self._count)
            ]
        self._one_stream = statistics.median(one.dreamer for one in rates)
        rows = [
            Row("one stream through /v1", self._one_stream, "tok/s"),
            Row("bare ONNX Runtime loop", statistics.median(one.bare for one in rates), "tok/s"),
            Row(
                "one stream / bare loop",
                statistics.median(one.dreamer / one.bare for one in rates),
                low=0.9,
            ),
        ]
        theirs = [(one.dreamer, one.genai) for one in rates if one.genai is not None]
        if theirs:
            rows += [
                Row(models.GENAI, statistics.median(one for _, one in theirs), "tok/s"),
                Row(
                    "one stream / onnxruntime-genai",
                    statistics.median(ours / one for ours, one in theirs),
                    low=1.0,
                ),
            ]
        return rows

    def streams(self) -> list[Row]:
        """Measure eight streams at once, each time beside one alone."""
        with rounds.fresh(self._node) as server:
            server.chat(DECODER, "Hello", 8)
            pairs = []
            for turn in range(self._count):
                prompt = rounds.TELL.format(rounds.HEROES[turn % len(rounds.HEROES)])
                one = server.chat(DECODER, prompt, rounds.STREAM_TOKENS).rate
                pairs.append((rounds.many_streams(server, DECODER, turn), one))
        together = statistics.median(many for many, _ in pairs)
        return [
            Row(f"{rounds.STREAMS} streams together", together, "tok/s"),
            Row("together / one stream", statistics.median(a / b for a, b in pairs), low=3.0),
        ]

    def gaps(self) -> list[Row]:
        """Measure gaps between tokens while a long prompt is read."""
        with rounds.fresh(self._node) as server:
            server.chat(DECODER, "Hello", 8)
            found = [
                rounds.gaps(server, DECODER, self._decoder, turn) for turn in range(self._count)
            ]
        alone = Spread.of([gap for one in found for gap in one.alone])
        busy = Spread.of([gap for one in found for gap in one.meanwhile])
        return [
            Row("gap between tokens alone, median", alone.p50, "ms"),
            Row("gap while 1,000 tokens are read, median", busy.p50, "ms"),
            Row(f"gap while 1,000 tokens are read, p99 of {busy.count}", busy.p99, "ms"),
            Row("p99 / median, both while they are read", busy.p99 / busy.p50, high=3.0),
            Row("p99 while they are read / median alone", busy.p99 / alone.p50),
        ]

    def tensors(self) -> list[Row]:
        """Measure graphs of tensors, batch 1: of a vector, and of 256 KiB."""
        return [row for name in models.SHAPES for row in self._tensors(name)]

    def _tensors(self, name: str) -> list[Row]:
        shape, graph = models.SHAPES[name], str(self._graphs[name] / "model.onnx")
        with (
            rounds.fresh(self._node) as server,
            Contender.of("bare_graph", graph, str(self._threads)) as bare,
        ):
            found = tensor_rounds.tensors(server, name, bare, shape, self._count)

        def ms(of: Callable[[tensor_rounds.TensorRound], float]) -> float:
            return 1000 * statistics.median(of(one) for one in found)

        median = statistics.median
        ratio = median(one.bare_s / one.api_s for one in found)
        together = median(one.bare_together_s / one.api_together_s for one in found)
        pipelined = median(one.bare_s / one.api_together_s for one in found)
        flight = f"{tensor_rounds.IN_FLIGHT} in flight"
        size = f"{4 * math.prod(shape) / 1024:g} KiB"
        return [
            # One after the other: a ratio of 0.9 leaves a graph of 5 ms 0.55 ms for all else.
            Row(f"{size} in and out: session.run alone", ms(lambda one: one.bare_s), "ms"),
            Row("  the same through /v2", ms(lambda one: one.api_s), "ms"),
            Row("  session.run in the node's worker", ms(lambda one: one.computed_s), "ms"),
            Row("  alone / through /v2", ratio, low=0.9),
            Row("  overhead of a request", ms(lambda one: one.api_s - one.bare_s), "ms", high=1.5),
            Row("  daemon's processor time", ms(lambda one: one.daemon_cpu_s), "ms"),
            Row("  worker's processor time", ms(lambda one: one.worker_cpu_s), "ms"),
            Row("  client's processor time", ms(lambda one: one.client_cpu_s), "ms"),
            # Each client has one under way: what the node does for one, it does beside the other.
            Row(f"  {flight}: alone, a request", ms(lambda one: one.bare_together_s), "ms"),
            Row(f"  {flight}: through /v2, a request", ms(lambda one: one.api_together_s), "ms"),
            Row(f"  {flight}: alone so / through /v2 so", together, low=0.9),
            Row(f"  {flight}: alone one by one / through /v2 so", pipelined, low=0.9),
        ]

    def cold(self) -> list[Row]:
        """Measure first loads by fresh nodes."""
        starts = [
            rounds.cold_start(self._node, DECODER, self._decoder, self._threads)
            for _ in range(self._count)
        ]
        load, bare, first, warm = (
            1000 * statistics.median(values)
            for values in zip(
                *((s.load_s, s.bare_s, s.first_token_s, s.warm_first_token_s) for s in starts),
                strict=True,
            )
        )
        ratio = statistics.median(one.load_s / one.bare_s for one in starts)
        return [
            Row("bare session creation", bare, "ms"),
            Row("first load by a fresh node", load, "ms"),
            Row("first load / bare session creation", ratio, high=1.2),
            Row("first token of a fresh node", first, "ms"),
            Row("first token when loaded", warm, "ms"),
        ]

    def _bare_decoder(self) -> Contender:
        return Contender.of("bare_decoder", str(self._decoder), str(self._threads))

    def _genai_decoder(self) -> Contender | None:
        python = models.genai_python(self._genai) if self._genai else None
        if python is None:
            print("onnxruntime-genai is left out: it can't be installed here", file=sys.stderr)
            return None
        directory = self._scratch / "genai"
        if not directory.exists():
            models.genai_directory(self._decoder, directory, self._threads)
        script = Path(__file__).parent / "contenders" / "genai_decoder.py"
        return Contender([str(python), str(script), str(directory), "2048"])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--genai", type=Path, help="a virtual environment to use or make")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        bench = Bench(Path(scratch), given.gguf, given.rounds, given.genai)
        measures: dict[str, Callable[[], list[Row]]] = {
            part: getattr(bench, part) for part in PARTS
        }
        with bench.published():
            for part in given.only or PARTS:
                found = measures[part]()
                rows += found
                if not given.json:
                    print("\n".join(row.line() for row in found), flush=True)
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
