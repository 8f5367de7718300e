"""A model's process takes no more memory than it may, and says so instead of dragging all down."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from dreamer.daemon.chosen import pool_settings
from dreamer.daemon.config_file import parse_config
from dreamer.daemon.inference.memory import machine_bytes, worker_memory_bytes
from dreamer.daemon.inference.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest, Text
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import GIB, MIB

DEADLINE_S = 30.0
BOMB = "{{ messages[0].content }}{% if messages[0].content == 'boom' %}{{ (%s)|length }}{% endif %}"


def test_a_node_bounds_its_workers_by_default() -> None:
    bound = pool_settings(parse_config("", {})).memory_bytes
    assert machine_bytes() // 2 < bound < machine_bytes()


def test_the_setting_bounds_each_worker() -> None:
    config = parse_config("[inference]\nmax_memory_mib = 600\n", {})
    assert pool_settings(config).memory_bytes == 600 * MIB
    assert worker_memory_bytes(1) == MIB


@pytest.mark.parametrize(
    ("said", "expected"), [(f"{GIB // 4}\n", GIB // 4), ("max\n", None), (f"{2**60}\n", None)]
)
def test_a_containers_limit_counts_when_it_is_the_lower(
    tmp_path: Path, said: str, expected: int | None
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(said)
    assert machine_bytes(limit) == (expected or machine_bytes(tmp_path / "absent"))


@pytest.mark.parametrize("blow_up", ["'a' * 2000000000", "messages[0].content * 500000000"])
async def test_a_template_that_wants_gigabytes_is_refused_and_the_worker_goes_on(
    tiny_model: Path, tmp_path: Path, blow_up: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    _set_template(model, BOMB.replace("%s", blow_up))
    pool = Pool(pool_settings(parse_config("[inference]\nmax_memory_mib = 600\n", {})))
    try:
        assert _text(await _answer(pool, model, "the world"))
        (before,) = pool.loaded()
        with pytest.raises(InputError, match=r"chat template is broken \(MemoryError\)"):
            await _answer(pool, model, "boom")
        assert _text(await _answer(pool, model, "the world"))
        (after,) = pool.loaded()
        assert after.pid == before.pid
        assert after.rss_bytes < 600 * MIB
    finally:
        await pool.close()


def _set_template(model: Path, template: str) -> None:
    (model / "chat_template.jinja").unlink(missing_ok=True)
    path = model / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, "chat_template": template}))


async def _answer(pool: Pool, model: Path, prompt: str) -> list[Event]:
    request = GenerateRequest(prompt=prompt, max_tokens=4)
    async with asyncio.timeout(DEADLINE_S):
        return [event async for event in pool.generate(model, "aa", request)]


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))
