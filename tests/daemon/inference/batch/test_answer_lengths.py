"""How long an answer may become is reserved for it: as much as was asked for, or its share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.inference.requests import GenerateRequest

SLOTS, CONTEXT = 8, 20_000


@pytest.fixture
def long_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model whose context is far longer than there is memory for in each slot."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("share", "most", "open_ended", "last"),
    [
        (1000, 4096 * 32, True, 4096 + 10),
        (6000, 4096 * 32, True, 6000),
        (40_000, 4096 * 32, True, CONTEXT),
        (6000, 15_000, False, 15_010),
        (6000, 4096 * 32, False, CONTEXT),
        (6000, 100, True, 110),
    ],
)
def test_answer_of_no_said_length_leaves_the_others_their_share(
    long_model: Path,
    batching: Callable[..., Any],
    share: int,
    most: int,
    open_ended: bool,
    last: int,
) -> None:
    per_token = batching(long_model).runner.graph.bytes_per_token
    # Half of a process's memory is for keys and values.
    batch = batching(long_model, slots=SLOTS, memory_bytes=2 * SLOTS * share * per_token)
    asked = GenerateRequest(prompt_ids=tuple(range(40, 50)), max_tokens=most, open_ended=open_ended)
    number = batch.ask(asked)
    batch.step()
    longest = min(last, SLOTS * share)
    assert batch.runner.batch.rows[number].answer.last == longest
    batch.cancel(number)


def test_context_of_a_request_bounds_its_row(
    long_model: Path, batching: Callable[..., Any]
) -> None:
    batch = batching(long_model)
    asked = GenerateRequest(raw_prompt="the word " * 50, max_tokens=5000, context=64, truncate=True)
    number = batch.ask(asked)
    batch.finish()
    done = batch.fields(number, "done")
    assert (done["prompt_tokens"], done["completion_tokens"]) == (56, 8)
    assert done["finish_reason"] == "length"
