"""Embeddings, and the list of models."""

import base64
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from in_memory.node import MemoryNode

from dreamer.daemon.rest.app import make_app
from dreamer.daemon.rest.openai.models import model_list

ROOT = Path(__file__).resolve().parents[4]
EMBED = "/embeddings"


def embedded(openai, **fields):
    status, value = openai.json(EMBED, {"model": "embedder", **fields})
    assert status == 200, value
    return value


def test_texts_become_vectors_in_their_order(openai):
    value = embedded(openai, input=["abc", "de f"])
    assert value["data"] == [
        {"object": "embedding", "index": 0, "embedding": [3.0, 1.0, 1.0, 1.0]},
        {"object": "embedding", "index": 1, "embedding": [4.0, 1.0, 1.0, 1.0]},
    ]
    assert (value["object"], value["model"]) == ("list", "embedder")
    assert value["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_one_text_and_fewer_dimensions(openai):
    value = embedded(openai, input="abc", dimensions=2, encoding_format="float", user="me")
    assert value["data"][0]["embedding"] == [3.0, 1.0]


def test_base64_is_of_little_endian_floats(openai):
    value = embedded(openai, input="abc", encoding_format="base64")
    data = base64.b64decode(value["data"][0]["embedding"])
    assert struct.unpack("<4f", data) == (3.0, 1.0, 1.0, 1.0)


def test_headers_say_who_embedded_it(openai):
    _, headers, _ = openai.request(EMBED, {"model": "embedder", "input": "a"})
    assert (headers["X-Dreamer-Where"], headers["X-Dreamer-Node"]) == ("local", "ef" * 32)
    assert headers["Server-Timing"] == "queue;dur=10.000, load;dur=0.000, compute;dur=5.000"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [5, 6]}, "input"),
        ({"input": [[5, 6]]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({}, None),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 10**30}, "dimensions"),
    ],
)
def test_bad_input_is_named(openai, fields, param):
    status, value = openai.json(EMBED, {"model": "embedder", **fields})
    assert (status, value["error"]["param"]) == (400, param)
    assert openai.inference.asked == []


def test_models_are_listed_by_alias_else_by_name(openai):
    status, value = openai.json("/models", method="GET")
    assert (status, value["object"]) == (200, "list")
    assert [one["id"] for one in value["data"]] == ["prod", "embedder", "echo"]
    first = value["data"][0]
    assert (first["object"], first["created"], first["owned_by"]) == ("model", 1800000000, "lab")
    assert first["dreamer"]["manifest_id"] == "ab" * 32


@pytest.mark.parametrize("asked", ["prod", "tiny", "abab", "prod@lab", "ab" * 32])
def test_model_is_found_by_whatever_names_it(openai, asked):
    status, value = openai.json(f"/models/{asked}", method="GET")
    assert (status, value["id"], value["dreamer"]["name"]) == (200, asked, "tiny")


def test_model_that_is_not_there_is_not_found(openai):
    status, value = openai.json("/models/a%2Fb", method="GET")
    assert (status, value["error"]["code"]) == (404, "model_not_found")


def test_models_of_one_name_are_told_apart(openai):
    one = openai.inference.models[0]
    other_room = replace(one, room="depot", manifest_id="01" * 32)
    older = replace(one, manifest_id="02" * 32)
    same = replace(one, room="annex")
    ids = lambda *models: [each["id"] for each in model_list(models)["data"]]  # noqa: E731
    assert ids(one, same) == ["prod"]
    assert ids(one, other_room) == ["prod@lab", "prod@depot"]
    assert ids(one, older) == ["prod@lab", "02" * 32]


def test_documentation_names_every_route_and_no_other():
    page = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(GET|POST) (/v1[^`]*)`", page))
    routes = make_app(MemoryNode()).router.routes()
    found = {(route.method, route.resource.canonical) for route in routes}
    assert documented == {one for one in found if one[1].startswith("/v1") and one[0] != "HEAD"}
