"""The pool and its worker processes: real processes, a tiny real model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from pool_calls import (
    DEADLINE_S,
    MakePool,
    answer,
    gone,
    names,
    reached,
    stopped,
    text_of,
    token_ids_of,
)

from dreamer.daemon.inference.requests import Ended, GenerateRequest, Message, Started, Text
from dreamer.daemon.inference.tensors import EmbedRequest
from dreamer.protocol.errors import BusyError, InputError, LocalError


async def test_generation_streams_and_is_accounted_for(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    events = await answer(pool, tiny_model)
    started, *texts, ended = events
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    assert started.manifest_id == "aa"
    assert (ended.finish_reason, ended.completion_tokens) == ("length", 8)
    assert ended.prompt_tokens == started.prompt_tokens
    assert 0 < ended.first_token_s <= ended.seconds
    assert len(token_ids_of(texts)) == 8
    (model,) = pool.loaded()
    assert (model.manifest_id, model.requests) == ("aa", 1)
    assert model.decode_tokens_s > 0
    assert model.prefill_tokens_s > 0
    assert model.rss_bytes > 10_000_000
    assert pool.pending == 0


async def test_messages_and_prompt_are_the_same_turn(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool()
    messages = GenerateRequest(messages=(Message("user", "the world"),), max_tokens=8)
    assert text_of(await answer(pool, tiny_model, request=messages)) == text_of(
        await answer(pool, tiny_model)
    )


async def test_closing_the_iterator_cancels_and_the_worker_goes_on(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    expected = text_of(await answer(pool, tiny_model))
    (before,) = pool.loaded()
    long = GenerateRequest(prompt="and then", max_tokens=400)
    async with aclosing(pool.generate(tiny_model, "aa", long)) as events:
        async for event in events:
            if isinstance(event, Text):
                break
    assert text_of(await answer(pool, tiny_model)) == expected
    (after,) = pool.loaded()
    assert after.pid == before.pid
    assert after.requests == 3
    assert after.running == 0


async def test_load_that_hangs_is_given_up(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path
) -> None:
    pool = make_pool(load_timeout_s=0.05)
    with pytest.raises(LocalError, match="not loaded within"):
        await answer(pool, tiny_model)
    assert pool.loaded() == []


async def test_model_that_cannot_be_run_keeps_its_own_error(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool()
    with pytest.raises(InputError, match=r"no model\.onnx"):
        await answer(pool, tmp_path)
    assert pool.loaded() == []


async def test_close_fails_what_is_under_way_and_refuses_more(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    await stopped(model.pid)
    cut = asyncio.create_task(answer(pool, tiny_model))
    await reached(lambda: pool.pending == 1)
    async with asyncio.timeout(3):
        await pool.close()
    with pytest.raises(LocalError, match="shutting down"):
        await cut
    with pytest.raises(LocalError, match="shutting down"):
        await answer(pool, tiny_model)
    await gone(model.pid)


async def test_worker_gets_no_credentials(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    pool = make_pool()
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    assert b"hush" not in Path(f"/proc/{model.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (GenerateRequest(), "either a prompt or messages"),
        (GenerateRequest(prompt="a", messages=(Message("user", "b"),)), "either a prompt"),
        (GenerateRequest(prompt="a" * 300_000), "shorten it"),
        (GenerateRequest(prompt="caf\udce9"), "not UTF-8"),
        (GenerateRequest(messages=(Message("user", "caf\udce9"),)), "not UTF-8"),
        (GenerateRequest(prompt="a", max_tokens=0), "max_tokens must be"),
        (GenerateRequest(prompt="a", max_tokens=200_000), "max_tokens must be"),
        (GenerateRequest(prompt="a", max_tokens=2, token_ids_so_far=(1, 2)), "raise max_tokens"),
    ],
)
async def test_impossible_request_starts_no_worker(
    make_pool: MakePool, tmp_path: Path, request_: GenerateRequest, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        await answer(make_pool(), tmp_path, request=request_)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )


def test_pool_loads_no_heavy_library() -> None:
    heavy = ("numpy", "onnx", "onnxruntime", "tokenizers", "gguf", "jinja2")
    code = (
        "import sys, dreamer.daemon.inference.pool.pool\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_what_a_library_prints_stays_out_of_the_channel() -> None:
    code = (
        "import os\n"
        "from dreamer.daemon.inference.worker.__main__ import _take_pipes\n"
        "requests, answers = _take_pipes()\n"
        "print('noise', flush=True); os.write(1, b'more')\n"
        "answers.write(b'frame'); answers.flush()"
    )
    result = run_python(code)
    assert result.stdout == "frame"
    assert "noise" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_worker_has_no_network() -> None:
    code = (
        "import os, socket\n"
        "from dreamer.daemon.inference.worker.confinement import confine\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "before = os.readlink('/proc/self/ns/net'); confine()\n"
        "left = os.readlink('/proc/self/ns/net') != before\n"
        "try: socket.create_connection(listener.getsockname(), 5).close(); reached = True\n"
        "except OSError: reached = False\n"
        "print(left, reached)"
    )
    left, reached = run_python(code).stdout.split()
    if left == "False":
        pytest.skip("this kernel or container allows no network namespace")
    assert reached == "False"


async def test_several_requests_run_at_once_in_one_worker(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    alone = text_of(await answer(pool, tiny_model))
    long = GenerateRequest(prompt="and then", max_tokens=400)
    async with aclosing(pool.generate(tiny_model, "aa", long)) as first:
        await anext(first)
        assert text_of(await answer(pool, tiny_model)) == alone
        (model,) = pool.loaded()
        assert model.running == 1
    answers = await asyncio.gather(*(answer(pool, tiny_model) for _ in range(12)))
    assert {text_of(events) for events in answers} == {alone}
    assert len(pool.loaded()) == 1


async def test_full_line_refuses_and_says_when_to_come_again(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(slots=1, queue_max=1)
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    await stopped(model.pid)
    held = [asyncio.create_task(answer(pool, tiny_model)) for _ in range(2)]
    await reached(lambda: pool.pending == 2)
    with pytest.raises(BusyError, match="1 requests wait") as refused:
        await answer(pool, tiny_model)
    assert 1 <= refused.value.retry_after_s <= 60
    os.kill(model.pid, signal.SIGCONT)
    first, second = await asyncio.gather(*held)
    assert text_of(first) == text_of(second)
    (model_statistics,) = pool.statistics()
    assert (model_statistics.requests, model_statistics.failures) == (4, 0)


async def test_who_leaves_the_line_is_passed_over(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(slots=1)
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    await stopped(model.pid)
    held = [asyncio.create_task(answer(pool, tiny_model)) for _ in range(3)]
    await reached(lambda: pool.pending == 3)
    held[1].cancel()
    await asyncio.wait([held[1]])
    os.kill(model.pid, signal.SIGCONT)
    assert text_of(await held[0]) == text_of(await held[2])
    (after,) = pool.loaded()
    assert (after.running, after.queued) == (0, 0)


async def test_second_worker_is_started_when_all_slots_are_taken(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(slots=1, workers_per_gpu=2)
    await answer(pool, tiny_model)
    long = GenerateRequest(prompt="and then", max_tokens=400)
    async with aclosing(pool.generate(tiny_model, "aa", long)) as first:
        await anext(first)
        await answer(pool, tiny_model)
    (model,) = pool.statistics()
    assert len({worker.pid for worker in model.workers}) == 2
    assert model.loads == 2


async def test_first_token_of_a_cold_model_tells_loading_from_queueing(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    *_, cold = await answer(pool, tiny_model)
    *_, warm = await answer(pool, tiny_model)
    assert isinstance(cold, Ended)
    assert isinstance(warm, Ended)
    assert 0 < cold.load_s < cold.first_token_s
    assert warm.load_s == 0


async def test_spare_worker_is_used_and_replaced(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(spare_workers=1)
    pool.keep_spares()
    await reached(lambda: pool.info().spare_memory_bytes > 0)
    await answer(pool, tiny_model)
    assert pool.info().spare_workers == 0
    await reached(lambda: pool.info().spare_memory_bytes > 0)


async def test_model_of_another_kind_is_an_error_that_says_what_it_is(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    with pytest.raises(InputError, match="this model writes text"):
        async with asyncio.timeout(DEADLINE_S):
            await pool.embed(tiny_model, "aa", EmbedRequest(("hello",)))
    assert (await pool.signature(tiny_model, "aa")).kind == "decoder"
    assert names(pool) == ["aa"]


async def test_gpu_that_can_not_be_used_leaves_the_cpu(
    make_pool: MakePool,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in --query-gpu=*) echo 0, GPU-1, H200, 9999, 9, 0;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("dreamer.daemon.inference.pool.devices.has_cuda_runtime", lambda: True)
    # ONNX Runtime finds no CUDA here: the worker that is to use the GPU says so.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    pool = make_pool()
    assert text_of(await answer(pool, tiny_model))
    (model,) = pool.loaded()
    assert model.device == "cpu"
    assert "models run on the CPU" in caplog.text
    assert pool.info().gpus == ()


async def test_close_ends_a_load_half_way(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool()
    cut = asyncio.create_task(answer(pool, tiny_model))
    await reached(lambda: pool.seated() == ["aa"])
    async with asyncio.timeout(3):
        await pool.close()
    with pytest.raises(LocalError, match="shutting down"):
        await cut
    assert pool.loaded() == []
