import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from in_memory.inference import EMBEDDER_ID, MODEL_ID
from in_memory.node import MemoryNode

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.ollama.recipe import FILE_NAME, Recipe

ROOT = Path(__file__).resolve().parents[4]
ME, OTHER = "ef" * 32, "01" * 32
DETAILS = {
    "parent_model": "",
    "format": "onnx",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "1.25M",
    "quantization_level": "unknown",
}


def test_root_and_version_are_what_clients_look_for(ollama):
    assert ollama.request("GET", "/")[2] == b"Ollama is running"
    assert ollama.request("HEAD", "/")[0] == 200
    status, answer = ollama.ask("/api/version", method="GET")
    assert (status, re.fullmatch(r"0\.\d+\.\d+", answer["version"]) is None) == (200, False)


def test_tags_list_every_name_with_its_model(ollama):
    ollama.node.name_tiny("prod", "next")
    status, answer = ollama.ask("/api/tags", method="GET")
    assert status == 200
    names = [one["name"] for one in answer["models"]]
    assert names == ["prod:latest", "next:latest", "embedder:latest", "echo:latest"]
    first = answer["models"][0]
    assert first["model"] == first["name"]
    assert (first["digest"], first["size"], first["details"]) == (MODEL_ID, 3 * 2**20, DETAILS)
    assert datetime.fromisoformat(first["modified_at"]).year == 2027


def test_parameters_of_a_llama_are_counted_from_its_shape(ollama):
    status, answer = ollama.ask("/api/show", {"model": "prod"})
    assert status == 200
    # 270 words of 256; two layers of q, k, v, o, of gate, up, down, and of two norms; a last norm.
    layer = 256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512 + 2 * 256
    assert answer["model_info"]["general.parameter_count"] == 270 * 256 + 2 * layer + 256


def test_show_tells_what_the_files_say(ollama, directory):
    recipe = Recipe("Be Mario.", {"temperature": 0.5, "stop": ["a", "b"]}, (Message("user", "q"),))
    (directory / FILE_NAME).write_bytes(recipe.encode())
    answer = ollama.ask("/api/show", {"name": "prod:latest"})[1]
    assert answer["template"] == "{{ messages }}"
    assert answer["details"] == DETAILS
    assert answer["capabilities"] == ["completion"]
    assert answer["license"] == "CC0"
    assert answer["system"] == "Be Mario."
    assert answer["parameters"].split() == ["stop", '"a"', "stop", '"b"', "temperature", "0.5"]
    for line in ("FROM prod:latest", 'SYSTEM """Be Mario."""', 'MESSAGE user "q"'):
        assert line in answer["modelfile"]
    info = answer["model_info"]
    assert info["general.architecture"] == "llama"
    assert (info["llama.context_length"], info["llama.block_count"]) == (512, 2)


def test_show_of_a_model_that_is_elsewhere_tells_what_the_room_knows(ollama):
    ollama.node.name_tiny("prod", here=False)
    answer = ollama.ask("/api/show", {"model": "prod"})[1]
    assert (answer["template"], answer["model_info"]) == ("", {})
    # By the type that the room gives it.
    assert answer["capabilities"] == ["completion"]
    assert answer["modified_at"]


@pytest.mark.parametrize("broken", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_model_with_broken_files_is_listed_all_the_same(ollama, directory, broken):
    (directory / "config.json").write_bytes(broken)
    (directory / "tokenizer_config.json").write_bytes(broken)
    details = ollama.ask("/api/tags", method="GET")[1]["models"][0]["details"]
    assert (details["family"], details["parameter_size"]) == ("", "")
    assert ollama.ask("/api/show", {"model": "prod"})[0] == 200


def test_recipe_that_is_none_spoils_no_list(ollama, directory):
    (directory / FILE_NAME).write_bytes(b"{")
    status, answer = ollama.ask("/api/tags", method="GET")
    assert (status, len(answer["models"])) == (200, 3)
    assert ollama.ask("/api/show", {"model": "prod"})[0] == 400


def test_description_is_read_once(ollama, directory):
    ollama.ask("/api/tags", method="GET")
    (directory / "config.json").unlink()
    details = ollama.ask("/api/tags", method="GET")[1]["models"][0]["details"]
    assert details == DETAILS


def test_embedding_model_says_so(ollama, directory):
    (directory / "modules.json").write_text("[]")
    assert ollama.ask("/api/show", {"model": "prod"})[1]["capabilities"] == ["embedding"]


def test_ps_lists_what_is_loaded_and_when_it_goes(ollama):
    assert ollama.ask("/api/ps", method="GET") == (200, {"models": []})
    ollama.ask("/api/generate", {"model": "prod", "keep_alive": "10m"})
    ollama.ask("/api/embed", {"model": "embedder", "keep_alive": -1})
    first, second = ollama.ask("/api/ps", method="GET")[1]["models"]
    assert (first["name"], first["digest"]) == ("prod:latest", MODEL_ID)
    assert (first["size"], first["size_vram"], first["context_length"]) == (2**27, 0, 64)
    left = datetime.fromisoformat(first["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    assert second["digest"] == EMBEDDER_ID
    assert datetime.fromisoformat(second["expires_at"]).year > 2300


def test_copy_is_another_alias_in_the_same_room(ollama):
    body = {"source": "prod", "destination": "llama3.2:1b"}
    assert ollama.ask("/api/copy", body) == (200, None)
    assert ollama.node.calls[-1] == ("set_alias", "lab", "llama3-2-1b", MODEL_ID)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"source": "nope", "destination": "x"}, 404, "model 'nope' not found"),
        ({"source": "prod", "destination": ""}, 400, "model is required"),
        ({"source": "prod", "destination": "latest"}, 400, "reserved"),
        ({"source": "prod", "destination": "x@field"}, 400, "push it there"),
        ({"source": "prod", "destination": "../../x"}, 400, "no name"),
        ({"source": "prod", "destination": "/etc/x"}, 400, "no name"),
        ({"source": "prod", "destination": "a/./x"}, 400, "no name"),
        ({"source": "prod", "destination": "a//x"}, 400, "no name"),
        ({"source": "prod", "destination": "..\\x"}, 400, "no name"),
    ],
)
def test_copy_that_can_not_be_is_refused(ollama, body, status, named):
    found, answer = ollama.ask("/api/copy", body)
    assert (found, named in answer["error"]) == (status, True)
    assert not [call for call in ollama.node.calls if call[0] == "set_alias"]


def _delete(ollama, model):
    status, answer = ollama.ask("/api/delete", {"model": model}, method="DELETE")
    changes = ("remove", "remove_alias")
    return status, answer, [call for call in ollama.node.calls if call[0] in changes]


def test_delete_takes_this_nodes_copy_and_leaves_a_name_of_others(ollama):
    status, _, calls = _delete(ollama, "prod:latest")
    assert (status, calls) == (200, [("remove", MODEL_ID, "lab")])
    assert ollama.node.catalogue.withdrawn == []


def test_delete_of_a_copy_takes_the_name_alone(ollama):
    ollama.node.name_tiny("mine", "also-mine")
    ollama.node.catalogue.set_by = {"mine": ME, "also-mine": ME}
    assert _delete(ollama, "mine")[2] == [("remove_alias", "lab", "mine")]


def test_delete_of_the_last_own_name_takes_name_and_copy(ollama):
    ollama.node.name_tiny("mine", "prod")
    ollama.node.catalogue.set_by = {"mine": ME, "prod": OTHER}
    assert _delete(ollama, "mine")[2] == [
        ("remove", MODEL_ID, "lab"),
        ("remove_alias", "lab", "mine"),
    ]
    assert ollama.node.catalogue.withdrawn == []


@pytest.mark.parametrize(
    ("info", "gone"),
    [
        ({}, True),
        ({"published_by": OTHER}, False),
        ({"on_nodes": 2}, False),
        ({"origin": "s3://bucket/x"}, False),
    ],
)
def test_a_model_of_this_node_that_nobody_else_has_leaves_the_room(ollama, info, gone):
    ollama.node.name_tiny("mine")
    ollama.node.catalogue.set_by = {"mine": ME}
    ollama.node.info = {"published_by": ME, "on_nodes": 1, **info}
    assert _delete(ollama, "mine")[0] == 200
    assert ollama.node.catalogue.withdrawn == [("lab", MODEL_ID)] * gone


def test_delete_of_a_name_given_to_ollama(ollama):
    models = ollama.node.inference.models
    models[0] = type(models[0])(
        *("llama3.2:1b", "lab", MODEL_ID, ("llama3-2-1b",), (), "onnx-decoder", 1, 1.0, True)
    )
    ollama.node.catalogue.set_by = {"llama3-2-1b": ME}
    assert _delete(ollama, "llama3.2:1b")[2][-1] == ("remove_alias", "lab", "llama3-2-1b")


def test_delete_of_what_is_not_here_nor_named_here_is_refused(ollama):
    ollama.node.name_tiny("prod", here=False)
    status, answer, calls = _delete(ollama, "prod")
    assert (status, calls) == (403, [])
    assert "nothing is removed" in answer["error"]
    assert _delete(ollama, "nope")[0] == 404


def test_page_names_every_route_and_no_other():
    page = (ROOT / "docs" / "ollama.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+) (/[^`]*)`", page, re.M))
    app = make_app(MemoryNode())
    routes = {(route.method, route.resource.canonical) for route in app.router.routes()}
    ours = {(method, path) for method, path in routes if path == "/" or path.startswith("/api/")}
    assert told == {one for one in ours if one[0] != "HEAD" or "blobs" in one[1]}
