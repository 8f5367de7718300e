from contextlib import aclosing

import psutil
import pytest

from dreamer.daemon.rest.ollama import importing
from dreamer.daemon.rest.ollama.importing import import_steps
from dreamer.protocol.errors import InputError, LocalError
from dreamer.simulations.tiny_model import write_tiny_gguf


@pytest.fixture
def gguf(tmp_path):
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


async def test_import_tells_its_steps_and_leaves_the_directory(gguf, tmp_path):
    steps = [step async for step in import_steps(gguf, tmp_path / "out")]
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert (tmp_path / "out" / "model.onnx").is_file()


async def test_import_that_can_not_be_is_the_error_of_the_command(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="GGUF"):
        [step async for step in import_steps(tmp_path / "x.gguf", tmp_path / "out")]
    assert not (tmp_path / "out").exists()


async def test_import_that_nobody_waits_for_ends(gguf, tmp_path):
    async with aclosing(import_steps(gguf, tmp_path / "out")) as steps:
        await anext(steps)
        (process,) = _imports()
        # It could not end by itself.
        process.suspend()
    assert not _imports()
    assert not (tmp_path / "out").exists()


async def test_import_that_is_killed_is_a_clear_error(gguf, tmp_path):
    with pytest.raises(LocalError, match="died half-way"):
        await _killed_in_the_middle(gguf, tmp_path / "out")


async def _killed_in_the_middle(gguf, output):
    async for _ in import_steps(gguf, output):
        for process in _imports():
            process.kill()


async def test_import_that_says_nonsense_is_a_clear_error(gguf, tmp_path, monkeypatch):
    # It writes sentences, and no JSON.
    monkeypatch.setattr(importing, "MODULE", "this")
    with pytest.raises(LocalError, match="what nobody understands"):
        [step async for step in import_steps(gguf, tmp_path / "out")]


def _imports():
    own = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in own if importing.MODULE in one.cmdline()]
