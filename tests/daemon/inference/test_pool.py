"""The pool and its worker processes: real processes, a tiny real model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from dreamer.daemon.inference.pool import Pool, PoolSettings
from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Message, Started, Text
from dreamer.protocol.errors import InputError, LocalError

DEADLINE_S = 20.0
REQUEST = GenerateRequest(prompt="the world", max_tokens=8)

MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Make pools that are closed at the end, within the time that a shutdown has."""
    pools: list[Pool] = []

    def make(**settings: float) -> Pool:
        pools.append(Pool(PoolSettings(threads=1, **settings)))
        return pools[-1]

    yield make
    async with asyncio.timeout(3):
        await asyncio.gather(*(pool.close() for pool in pools))


async def answer(
    pool: Pool, model: Path, name: str = "aa", request: GenerateRequest = REQUEST
) -> list[Event]:
    async with asyncio.timeout(DEADLINE_S):
        return [event async for event in pool.generate(model, name, request)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def taken_in(pool: Pool) -> None:
    """Wait until the pool holds a request."""
    async with asyncio.timeout(DEADLINE_S):
        while not pool.pending:
            await asyncio.sleep(0)


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)


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
    assert len([one for event in texts if isinstance(event, Text) for one in event.token_ids]) == 8
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
    assert after.requests == 2


async def test_requests_to_one_model_take_turns(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool()
    answers = await asyncio.gather(*(answer(pool, tiny_model) for _ in range(4)))
    assert len({text_of(events) for events in answers}) == 1
    assert len(pool.loaded()) == 1


async def test_full_queue_says_so(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(queue_max=1)
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    os.kill(model.pid, signal.SIGSTOP)
    held = asyncio.create_task(answer(pool, tiny_model))
    await taken_in(pool)
    with pytest.raises(LocalError, match="1 requests wait"):
        await answer(pool, tiny_model)
    os.kill(model.pid, signal.SIGCONT)
    assert text_of(await held)


async def test_killed_worker_is_one_error_and_the_next_request_works(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    expected = text_of(await answer(pool, tiny_model))
    (model,) = pool.loaded()
    os.kill(model.pid, signal.SIGSTOP)
    doomed = asyncio.create_task(answer(pool, tiny_model))
    await taken_in(pool)
    os.kill(model.pid, signal.SIGKILL)
    with pytest.raises(LocalError, match="worker died"):
        await doomed
    assert text_of(await answer(pool, tiny_model)) == expected


async def test_silent_worker_is_ended(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(silence_timeout_s=0.2)
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    os.kill(model.pid, signal.SIGSTOP)
    with pytest.raises(LocalError, match="silent for"):
        await answer(pool, tiny_model)
    await gone(model.pid)


async def test_load_that_hangs_is_given_up(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path
) -> None:
    pool = make_pool(load_timeout_s=0.05)
    with pytest.raises(LocalError, match="silent for"):
        await answer(pool, tiny_model)
    assert pool.loaded() == []


async def test_model_that_cannot_be_run_keeps_its_own_error(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool()
    with pytest.raises(InputError, match=r"no model\.onnx"):
        await answer(pool, tmp_path)
    assert pool.loaded() == []


async def test_memory_bound_is_an_error_and_not_a_dead_machine(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(memory_bytes=30_000_000)
    with pytest.raises(LocalError, match="worker died"):
        await answer(pool, tiny_model)


async def test_least_recently_used_model_makes_room(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(max_models=1)
    await answer(pool, tiny_model, "aa")
    (first,) = pool.loaded()
    await answer(pool, tiny_model, "bb")
    assert [model.manifest_id for model in pool.loaded()] == ["bb"]
    await gone(first.pid)


async def test_idle_model_is_unloaded(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(idle_timeout_s=0.1)
    events = pool.generate(tiny_model, "aa", REQUEST)
    async with aclosing(events):
        await anext(events)
        (model,) = pool.loaded()
    await gone(model.pid)
    assert pool.loaded() == []


async def test_evicted_model_is_gone(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool()
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    await pool.evict("aa")
    await pool.evict("never heard of")
    assert pool.loaded() == []
    await gone(model.pid)


async def test_close_fails_what_is_under_way_and_refuses_more(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    os.kill(model.pid, signal.SIGSTOP)
    cut = asyncio.create_task(answer(pool, tiny_model))
    await taken_in(pool)
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
        (GenerateRequest(prompt="a", max_tokens=10_000), "max_tokens must be"),
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
        "import sys, dreamer.daemon.inference.pool\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_what_a_library_prints_stays_out_of_the_channel() -> None:
    code = (
        "import os\n"
        "from dreamer.daemon.inference.worker import _take_pipes\n"
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
        "from dreamer.daemon.inference.confinement import confine\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "before = os.readlink('/proc/self/ns/net'); confine(0)\n"
        "left = os.readlink('/proc/self/ns/net') != before\n"
        "try: socket.create_connection(listener.getsockname(), 5).close(); reached = True\n"
        "except OSError: reached = False\n"
        "print(left, reached)"
    )
    left, reached = run_python(code).stdout.split()
    if left == "False":
        pytest.skip("this kernel or container allows no network namespace")
    assert reached == "False"


async def loaded(pool: Pool, model: Path, name: str, instead_of: str | None = None) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await pool.load(model, name, instead_of)


def names(pool: Pool) -> list[str]:
    return [model.manifest_id for model in pool.loaded()]


async def test_model_loaded_to_stay_is_not_ended_for_being_idle(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(idle_timeout_s=0.0)
    await loaded(pool, tiny_model, "aa")
    await answer(pool, tiny_model, "bb")
    (pid,) = [model.pid for model in pool.loaded() if model.manifest_id == "bb"]
    await gone(pid)
    assert names(pool) == ["aa"]


async def test_next_model_is_loaded_beside_the_one_it_replaces(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=1)
    await loaded(pool, tiny_model, "aa")
    await loaded(pool, tiny_model, "bb", instead_of="aa")
    assert names(pool) == ["aa", "bb"]
    async with asyncio.timeout(DEADLINE_S):
        await pool.evict("aa")
    assert names(pool) == ["bb"]


async def test_more_models_to_stay_than_may_be_loaded_are_refused(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=1)
    await loaded(pool, tiny_model, "aa")
    with pytest.raises(LocalError, match="max_models"):
        await pool.load(tiny_model, "bb")
    async with asyncio.timeout(DEADLINE_S):
        await pool.evict("aa")
    await loaded(pool, tiny_model, "bb")
    assert names(pool) == ["bb"]


async def test_model_that_is_to_stay_makes_room_last_of_all(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=2)
    await loaded(pool, tiny_model, "aa")
    await answer(pool, tiny_model, "bb")
    await answer(pool, tiny_model, "cc")
    assert names(pool) == ["aa", "cc"]


async def test_model_that_can_not_be_loaded_takes_no_place(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path
) -> None:
    pool = make_pool(max_models=1)
    with pytest.raises(InputError):
        await pool.load(tmp_path, "bad")
    await loaded(pool, tiny_model, "aa")
    assert names(pool) == ["aa"]
