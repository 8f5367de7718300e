"""The rounds of the benchmark of inference: each measures a node and a contender in turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer

from dreamer.daemon.client import Dreamer
from dreamer.daemon.places import SOCKET_NAME
from dreamer.simulations.bench.serving.client import (
    Streamed,
    UnixConnection,
    chat,
    post,
)
from dreamer.simulations.bench.serving.contender import Contender
from dreamer.simulations.bench.serving.models import token_ids
from dreamer.simulations.loopback import Node, until

TELL = "Tell me a long story about a {} that looks for its home. Describe every step of the way."
HEROES = (
    "dragon",
    "sparrow",
    "robot",
    "whale",
    "fox",
    "cloud",
    "pencil",
    "comet",
    "spider",
    "ship",
)
STREAM_TOKENS = 160
STREAMS = 8
LONG_PROMPT_TOKENS = 1000


@dataclass(frozen=True)
class Rates:
    """Tokens a second after the first, of one stream; genai is None where it isn't installed."""

    dreamer: float
    bare: float
    genai: float | None


@dataclass(frozen=True)
class Gaps:
    """Seconds between tokens of one stream: alone, and while another prompt is read."""

    alone: list[float]
    meanwhile: list[float]


@dataclass(frozen=True)
class ColdStart:
    """Seconds until a model is there: loaded by a fresh node, and a bare session of its file."""

    load_s: float
    first_token_s: float
    warm_first_token_s: float
    bare_s: float


class Server:
    """A node with models, and how to reach it."""

    def __init__(self, node: Node) -> None:
        """Speak to ``node``."""
        self.node = node
        self.path = node.home / "run" / SOCKET_NAME

    def chat(
        self, model: str, prompt: str, tokens: int, seen: list[float] | None = None
    ) -> Streamed:
        """Ask for one answer."""
        return chat(self.path, model, prompt, tokens, [] if seen is None else seen)


def one_stream(
    server: Server, model: str, directory: Path, bare: Contender, genai: Contender | None, turn: int
) -> Rates:
    """Measure one prompt with each, and that all say the same.

    Raises:
        RuntimeError: the node's text isn't the bare loop's.
    """
    prompt = TELL.format(HEROES[turn % len(HEROES)])
    ids = token_ids(directory, prompt)
    streamed = server.chat(model, prompt, STREAM_TOKENS)
    plain = bare.ask(ids=ids, tokens=streamed.tokens)
    _check_same(directory, streamed, plain["ids"])
    theirs = genai.ask(ids=ids, tokens=streamed.tokens) if genai else None
    return Rates(
        streamed.rate, _rate(plain["times"]), None if theirs is None else _rate(theirs["times"])
    )


def _check_same(directory: Path, streamed: Streamed, ids: list[int]) -> None:
    text = Tokenizer.from_file(str(directory / "tokenizer.json")).decode(ids)
    if text != streamed.text:
        raise RuntimeError(f"the node says {streamed.text!r}, the bare loop {text!r}")


def _rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])


def many_streams(server: Server, model: str, turn: int) -> float:
    """Return tokens a second of all streams together, while all of them are decoding."""
    prompts = [TELL.format(f"{hero} number {turn}") for hero in HEROES[:STREAMS]]
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = list(pool.map(lambda prompt: server.chat(model, prompt, STREAM_TOKENS), prompts))
    begin, end = max(one.at[0] for one in streams), min(one.at[-1] for one in streams)
    tokens = sum(begin < at <= end for one in streams for at in one.at)
    return tokens / (end - begin)


def gaps(server: Server, model: str, directory: Path, turn: int) -> Gaps:
    """Measure one stream's gaps before and while a long prompt is read for another."""
    long = _long_prompt(directory, turn)
    seen: list[float] = []
    ended = threading.Event()

    def stream() -> None:
        server.chat(model, TELL.format(HEROES[turn % len(HEROES)]), 4 * STREAM_TOKENS, seen)
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stream)
        until(lambda: len(seen) > STREAM_TOKENS or ended.is_set(), "a stream's tokens")
        other = server.chat(model, long, 1)
        running.result()
    if seen[-1] < other.at[0]:
        raise RuntimeError("the stream ended before the long prompt was read; tell a longer story")
    return Gaps(_between(seen[1:], seen[0], other.asked), _between(seen, other.asked, other.at[0]))


def _between(seen: list[float], begin: float, end: float) -> list[float]:
    return [late - early for early, late in pairwise(seen) if late > begin and early < end]


def _long_prompt(directory: Path, turn: int) -> str:
    """Return a message that with its template is ``LONG_PROMPT_TOKENS`` long."""
    # Other words at its beginning each time, so that none of it is known from before.
    words = [f"item {turn} {number}," for number in range(LONG_PROMPT_TOKENS)]
    count = len(words) * LONG_PROMPT_TOKENS // len(token_ids(directory, " ".join(words)))
    while len(token_ids(directory, " ".join(words[:count]))) < LONG_PROMPT_TOKENS:
        count += 1
    return " ".join(words[:count])


@contextmanager
def fresh(node: Node) -> Iterator[Server]:
    """Start a stopped node that has its models but none loaded, and is at rest."""
    with node:
        client = Dreamer(node.home)
        until(lambda: not client.status()["inference"]["loaded"], "a node without models")
        time.sleep(3.0)
        yield Server(node)


def cold_start(node: Node, model: str, directory: Path, threads: int) -> ColdStart:
    """Measure a first load and, on another fresh node, a first answer; and a bare session."""
    with fresh(node) as server:
        begun = time.perf_counter()
        connection = UnixConnection(server.path)
        post(connection, f"/v2/repository/models/{model}/load", {})
        load_s = time.perf_counter() - begun
        connection.close()
    with fresh(node) as server:
        first = server.chat(model, TELL.format("cold start"), 2)
        warm = server.chat(model, TELL.format("warm start"), 2)
    with Contender.of("bare_decoder", str(directory), str(threads)) as bare:
        return ColdStart(load_s, first.first_token_s, warm.first_token_s, bare.session_s)
