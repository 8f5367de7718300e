import math

import pytest


def test_vectors_of_several_texts_have_length_1(ollama):
    body = {"model": "embedder", "input": ["a", "bcd ef"], "keep_alive": 60}
    status, answer = ollama.ask("/api/embed", body)
    assert (status, len(answer["embeddings"])) == (200, 2)
    assert all(math.isclose(math.hypot(*one), 1.0) for one in answer["embeddings"])
    first, second = answer["embeddings"]
    assert first[0] == first[1]
    assert math.isclose(second[0] / second[1], 6.0)
    assert answer["prompt_eval_count"] == 3
    assert answer["total_duration"] > 0
    assert ollama.node.inference.asked[-1][3].keep_alive_s == 60.0


def test_text_alone_is_a_list_of_one(ollama):
    answer = ollama.ask("/api/embed", {"model": "embedder:latest", "input": "abc"})[1]
    assert (len(answer["embeddings"]), answer["model"]) == (1, "embedder:latest")


def test_length_and_truncation_go_along(ollama):
    body = {"model": "embedder", "input": "abc", "dimensions": 2, "truncate": False}
    answer = ollama.ask("/api/embed", body)[1]
    assert len(answer["embeddings"][0]) == 2
    assert ollama.node.inference.asked[-1][2].truncate is False


def test_older_call_gives_the_vector_as_it_is(ollama):
    status, answer = ollama.ask("/api/embeddings", {"model": "embedder", "prompt": "abc"})
    assert (status, answer) == (200, {"embedding": [3.0, 1.0, 1.0, 1.0]})


@pytest.mark.parametrize(
    ("path", "body", "answered"),
    [
        ("/api/embed", {}, {"model": "embedder", "embeddings": []}),
        ("/api/embed", {"input": []}, {"model": "embedder", "embeddings": []}),
        ("/api/embeddings", {}, {"embedding": []}),
        ("/api/embeddings", {"prompt": ""}, {"embedding": []}),
    ],
)
def test_no_text_loads_the_model(ollama, path, body, answered):
    assert ollama.ask(path, {"model": "embedder", **body}) == (200, answered)
    assert ollama.node.inference.asked == [("load", "embedder", None)]


def test_headers_say_who_computed_it(ollama):
    body = {"model": "embedder", "input": "a"}
    _, headers, _ = ollama.request("POST", "/api/embed", body)
    assert headers["X-Dreamer-Where"] == "local"


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"model": "nope", "input": "x"}, 404, "model 'nope' not found"),
        ({"model": "prod", "input": "x"}, 400, "makes no embeddings"),
        ({"model": "embedder", "input": 5}, 400, "field 'input' must be a string or a list"),
        ({"model": "embedder", "input": [[1, 2]]}, 400, "field 'input' must be a string or a list"),
        ({"model": "embedder", "input": "x", "dimensions": -1}, 400, "'dimensions'"),
        ({"model": "embedder", "input": ["x"] * 3000}, 400, "more than 2048 texts"),
        ({"model": "busy", "input": "x"}, 503, "ask again"),
    ],
)
def test_wrong_requests_are_refused(ollama, body, status, named):
    found, answer = ollama.ask("/api/embed", body)
    assert (found, named in answer["error"]) == (status, True)
