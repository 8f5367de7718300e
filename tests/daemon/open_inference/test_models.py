"""Names, versions and states of models in several rooms."""

from dataclasses import replace

import pytest
from in_memory.inference import ECHO_ID, MemoryInference

from dreamer.daemon.inference.tensors import TensorSpec
from dreamer.daemon.open_inference.models import Models, specs_of
from dreamer.daemon.surfaces.inference import Signature
from dreamer.protocol.errors import NoMatchError


@pytest.fixture
def inference():
    return MemoryInference()


async def test_one_name_in_two_rooms_is_listed_with_its_room(inference):
    echo = inference.models[2]
    inference.models.append(replace(echo, room="shop", manifest_id="5d" * 32, aliases=("e",)))
    rows = {row["name"]: row["version"] for row in await Models(inference).index(False)}
    assert rows["echo@lab"] == "ecececec"
    assert rows["echo@shop"] == "5d5d5d5d"
    assert "echo" not in rows
    assert rows["e"] == "5d5d5d5d"


async def test_model_of_a_peer_is_listed_and_not_ready(inference):
    inference.models[2] = replace(inference.models[2], here=False)
    models = Models(inference)
    row = next(row for row in await models.index(False) if row["name"] == "echo")
    assert (row["state"], "peer" in row["reason"]) == ("UNAVAILABLE", True)
    assert not await models.ready("echo", "")
    assert "echo" not in [row["name"] for row in await models.index(True)]


async def test_older_version_of_a_name_is_found_by_its_id(inference):
    inference.models.append(replace(inference.models[2], manifest_id="5d" * 32))
    models = Models(inference)
    assert (await models.find("echo", "5d5d5d5d")).manifest_id == "5d" * 32
    assert await models.reference("echo@lab", "5d5d5d5d") == f"{'5d' * 32}@lab"
    assert await models.reference("echo", "1") == "echo"
    with pytest.raises(NoMatchError, match="in version"):
        await models.find("tiny", "5d5d5d5d")


async def test_unloaded_model_that_another_api_loads_is_ready(inference):
    models = Models(inference)
    await models.unload("echo")
    assert not await models.ready("echo", "")
    inference.loaded[ECHO_ID] = None
    assert await models.ready("echo", "")
    # And stays so when its idle time is over.
    inference.loaded.clear()
    assert await models.ready("echo", "")


async def test_memory_is_told_by_device(inference):
    inference.loaded[ECHO_ID] = None
    (told,) = inference.statistics()
    gpu = replace(told.workers[0], device="cuda:1", memory_bytes=5, gpu_memory_bytes=7)
    inference.statistics = lambda: [replace(told, workers=(*told.workers, gpu))]
    (row,) = await Models(inference).statistics("", "")
    assert row["memory_usage"] == [
        {"type": "CPU", "id": 0, "byte_size": 2**27 + 5},
        {"type": "GPU", "id": 1, "byte_size": 7},
    ]


def test_model_that_reads_texts_is_told_by_its_texts():
    inputs, outputs = specs_of(Signature("embedding", (TensorSpec("ids", "INT64", (-1,)),)))
    assert (inputs[0].name, outputs[0].shape) == ("text_input", (-1, -1))
    assert specs_of(Signature("decoder"))[1][0].name == "text_output"
