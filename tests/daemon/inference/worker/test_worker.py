"""The worker as the pool meets it: a real process, frames over its two pipes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.protocol.limits import MIB


class Worker:
    """A worker process without a model."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dreamer.daemon.inference.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.receive() == ("waiting", {"id": 0})

    def send(self, kind: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.writelines(channel.encode(kind, fields))
        self.process.stdin.flush()

    def open(self, directory: Path, **options: Any) -> tuple[str, dict[str, Any]]:
        self.send("open", id=0, model_dir=str(directory), threads=1, **options)
        return self.receive()

    def generate(self, number: int, max_tokens: int, prompt: str = "the world") -> None:
        request = GenerateRequest(prompt=prompt, max_tokens=max_tokens)
        self.send("generate", id=number, **channel.request_fields(request))

    def receive(self) -> tuple[str, dict[str, Any]]:
        assert self.process.stdout is not None
        found = channel.read(self.process.stdout)
        assert found is not None, "the worker ended"
        return found

    def until(self, kind: str, number: int) -> dict[str, Any]:
        while True:
            found, fields = self.receive()
            if (found, fields["id"]) == (kind, number):
                return fields

    def close(self) -> None:
        """End what it reads, as a daemon that dies does."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    if started.process.poll() is None:
        started.close()
    assert started.process.wait(10) in (0, 1)


def test_requests_are_answered_side_by_side(worker: Worker, tiny_model: Path) -> None:
    kind, card = worker.open(tiny_model)
    assert (kind, card["kind"], card["slots"]) == ("ready", "decoder", 8)
    worker.generate(1, 300)
    worker.generate(2, 5)
    # The second is over long before the first.
    assert worker.until("done", 2)["completion_tokens"] == 5
    assert worker.until("done", 1)["completion_tokens"] == 300


def test_cancelled_request_says_no_more_and_the_next_goes_on(
    worker: Worker, tiny_model: Path
) -> None:
    worker.open(tiny_model, slots=1)
    worker.generate(1, 450)
    worker.until("text", 1)
    worker.send("cancel", id=1)
    worker.generate(2, 3)
    frames = [worker.receive()]
    while frames[-1][0] != "done":
        frames.append(worker.receive())
    assert frames[-1][1]["id"] == 2
    begun = next(at for at, (kind, fields) in enumerate(frames) if fields["id"] == 2)
    assert {fields["id"] for _, fields in frames[begun:]} == {2}


def test_model_that_cannot_be_opened_is_told_and_ends_the_worker(
    worker: Worker, tmp_path: Path
) -> None:
    kind, fields = worker.open(tmp_path)
    assert (kind, fields["code"]) == ("error", "bad_input")
    assert worker.process.wait(10) == 1
    worker.close()


def test_long_context_fits_under_the_memory_bound(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    """What is reserved for eight long sequences is more than the worker may take; it is lazy."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["max_position_embeddings"] = 1_000_000
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    kind, card = worker.open(tmp_path / "model", memory_bytes=768 * MIB)
    assert kind == "ready", card
    assert card["context"] * 8 * 2048 > 768 * MIB
    for number in range(1, 10):
        worker.generate(number, 10)
    for number in range(1, 10):
        assert worker.until("done", number)["completion_tokens"] == 10


def test_worker_ends_with_the_daemon(worker: Worker, tiny_model: Path) -> None:
    worker.open(tiny_model)
    worker.generate(1, 450)
    worker.until("text", 1)
    worker.close()
    assert worker.process.wait(10) in (0, 1)
