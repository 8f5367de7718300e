"""A model's process takes no more memory than it may, and says so instead of dragging all down."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from dreamer.daemon.chosen import pool_settings
from dreamer.daemon.config_file import parse_config
from dreamer.daemon.inference.pool.memory import machine_bytes, worker_memory_bytes
from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest, Text
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import GIB, MIB

DEADLINE_S = 30.0
BOMB = "{{ messages[0].content }}{% if messages[0].content == 'boom' %}{{ (%s)|length }}{% endif %}"


def test_a_node_bounds_its_workers_by_default() -> None:
    bound = pool_settings(parse_config("", {})).memory_bytes
    assert machine_bytes() // 2 < bound < machine_bytes()


def test_the_setting_bounds_each_worker() -> None:
    config = parse_config("[inference]\nmax_worker_memory_mib = 600\n", {})
    assert pool_settings(config).memory_bytes == 600 * MIB
    assert worker_memory_bytes(1) == MIB


def test_settings_reach_the_pool() -> None:
    text = """
    [inference]
    workers_per_gpu = 3
    max_memory_gb = 1.5
    assignment = "round-robin"
    eviction = "lfu"
    queue = 7
    spare_workers = 0
    [inference.preferred_gpu]
    prod = 1
    "7c9e" = 0
    """
    settings = pool_settings(parse_config(text, {}))
    assert settings.workers_on(gpu=True) == settings.workers_on(gpu=False) == 3
    assert settings.bounds.max_memory_bytes == 1_500_000_000
    assert settings.memory_bytes <= 1_500_000_000
    assert (settings.assignment, settings.eviction) == ("round-robin", "lfu")
    assert (settings.queue_max, settings.spare_workers) == (7, 0)
    gpus = [
        settings.gpu_of(manifest_id, names)
        for manifest_id, names in (("ab12", ("prod",)), ("7c9e55", ()), ("ab12", ("other",)))
    ]
    assert gpus == [1, 0, -1]


def test_models_share_the_cores_that_their_workers_may_use() -> None:
    plain = pool_settings(parse_config("", {}))
    assert (plain.workers_on(gpu=True), plain.workers_on(gpu=False)) == (4, 1)
    many = pool_settings(parse_config("[inference]\nworkers_per_gpu = 64\n", {}))
    assert many.threads_on(gpu=False) == 1
    assert plain.threads_on(gpu=False) >= many.threads_on(gpu=False)


@pytest.mark.parametrize("line", ['prod = "0"', "prod = true", "prod = -2", "prod = 0.5"])
def test_gpu_that_is_no_number_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="GPU numbers"):
        parse_config(f"[inference.preferred_gpu]\n{line}\n", {})


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
    pool = Pool(pool_settings(parse_config("[inference]\nmax_worker_memory_mib = 600\n", {})))
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
