from dataclasses import replace

import pytest
from in_memory.inference import MemoryInference

from dreamer.daemon.rest.ollama.names import find, new_alias, references, told
from dreamer.daemon.surfaces.inference import Servable
from dreamer.protocol.errors import InputError, NoMatchError


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("prod", ["prod"]),
        ("prod:latest", ["prod", "prod:latest"]),
        (" prod ", ["prod"]),
        ("prod@lab", ["prod@lab"]),
        ("prod@lab:latest", ["prod@lab", "prod@lab:latest"]),
        ("prod:latest@lab", ["prod@lab", "prod:latest@lab"]),
        ("llama3.2:1b", ["llama3.2:1b", "llama3-2-1b"]),
        ("team/mario:v2@lab", ["team/mario:v2@lab", "team-mario-v2@lab"]),
        ("tag:validated", ["tag:validated", "tag-validated"]),
        ("ab12cd34", ["ab12cd34"]),
        ("::", ["::"]),
    ],
)
def test_a_name_means_itself_then_what_a_room_can_call_it(said, meant):
    if said == "::":
        with pytest.raises(InputError, match="model is required"):
            references(said)
    else:
        assert references(said) == meant


@pytest.mark.parametrize("said", ["", "  ", ":latest", "@lab"])
def test_no_name_is_refused(said):
    with pytest.raises(InputError, match="model is required"):
        references(said)


async def test_model_is_found_with_its_tag_and_without():
    inference = MemoryInference()
    for said in ("prod", "prod:latest", "tiny", "tiny:latest@lab", "abababab"):
        assert (await find(inference, said)).servable.name == "tiny"
    assert (await find(inference, "prod:latest")).ref == "prod"


async def test_what_is_not_there_is_not_found_in_ollamas_words():
    with pytest.raises(NoMatchError, match=r"^model 'nope:1b' not found: no model is called"):
        await find(MemoryInference(), "nope:1b")


@pytest.mark.parametrize(
    ("name", "alias"), [("mario", "mario"), ("mario:latest", "mario"), ("q2.5:0.5b", "q2-5-0-5b")]
)
def test_a_new_name_becomes_an_alias(name, alias):
    assert new_alias(name) == alias


@pytest.mark.parametrize("name", ["…", "latest", "cafe1234"])
def test_a_name_of_which_no_alias_can_be_made_is_refused(name):
    with pytest.raises(InputError, match=r"alias|model is required"):
        new_alias(name)


def _servable(name, room="lab", manifest_id="ab" * 32, aliases=()):
    return Servable(name, room, manifest_id, aliases, (), "onnx", 1, 1.0, True)


def test_every_alias_is_a_line_of_its_own():
    one = _servable("tiny", aliases=("prod", "next"))
    assert [name for name, _ in told([one])] == ["prod:latest", "next:latest"]


def test_a_model_without_alias_is_told_by_its_name():
    assert [name for name, _ in told([_servable("Tiny 1")])] == ["Tiny 1:latest"]


def test_a_name_given_to_ollama_is_told_as_it_was_given():
    one = _servable("llama3.2:1b", aliases=("llama3-2-1b", "prod"))
    assert [name for name, _ in told([one])] == ["llama3.2:1b", "prod:latest"]


def test_a_name_that_means_two_models_gets_its_room():
    here = _servable("tiny", aliases=("prod",))
    there = replace(here, room="field", manifest_id="cd" * 32)
    assert [name for name, _ in told([here, there])] == ["prod:latest@lab", "prod:latest@field"]


def test_one_model_in_two_rooms_is_one_line():
    here = _servable("tiny", aliases=("prod",))
    assert [name for name, _ in told([here, replace(here, room="field")])] == ["prod:latest"]


def test_every_told_name_is_found_again():
    inference = MemoryInference()
    for name, servable in told(inference.models):
        assert servable.manifest_id
        assert any(ref in ("prod", "embedder", "echo") for ref in references(name))
