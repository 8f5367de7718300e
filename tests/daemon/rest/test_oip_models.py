"""What the Open Inference Protocol tells of models, and does with them, over HTTP."""

import json

import pytest
from in_memory.oip import get, infer, one, post, tensor


def test_server_tells_what_it_is(served):
    status, value = get(served, "/v2")
    assert (status, value["name"]) == (200, "dreamerd")
    assert "binary_tensor_data" in value["extensions"]
    assert get(served, "/v2/health/live") == (200, {"live": True})
    assert get(served, "/v2/health/ready") == (200, {"ready": True})


@pytest.mark.parametrize("name", ["echo", "echo@lab", "ecececec", "echo%40lab"])
def test_model_tells_its_tensors_by_whatever_it_is_called(served, name):
    status, value = get(served, f"/v2/models/{name}")
    assert (status, value["versions"], value["platform"]) == (200, ["ecececec"], "onnxruntime_onnx")
    assert value["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    assert [one["name"] for one in value["outputs"]] == ["x_again", "words_again"]


@pytest.mark.parametrize(
    ("path", "name"), [("a/b", "a/b"), ("a%2Fb", "a/b"), ("a%20b%40lab", "a b@lab")]
)
def test_name_with_a_slash_is_one_name(served, path, name):
    status, value = get(served, f"/v2/models/{path}/config")
    assert (status, name in value["error"]) == (404, True)
    assert infer(served, one(tensor("FP32", [1], [1])), model=path)[0] == 404
    assert served.node.inference.asked[-1][1] == name


@pytest.mark.parametrize("version", ["1", "ecececec", "ec" * 32])
def test_version_is_the_start_of_the_models_id(served, version):
    status, _, value, _ = infer(
        served, one(tensor("FP32", [1], [1])), model=f"echo/versions/{version}"
    )
    assert (status, value["model_version"]) == (200, "ecececec")
    assert get(served, f"/v2/models/echo/versions/{version}/ready")[0] == 200


@pytest.mark.parametrize("version", ["2", "abababab", "ec", "latest", "ECECECEC"])
def test_version_that_the_name_does_not_mean_is_not_found(served, version):
    asked = one(tensor("FP32", [1], [1]))
    assert infer(served, asked, model=f"echo/versions/{version}")[0] == 404
    assert get(served, f"/v2/models/echo/versions/{version}")[0] == 404
    assert not [one for one in served.node.inference.asked if one[0] == "infer"]


def test_configuration_has_tritons_names_for_types(served):
    value = get(served, "/v2/models/echo/config")[1]
    assert value["input"][1] == {"name": "words", "data_type": "TYPE_STRING", "dims": [-1]}
    assert value["max_batch_size"] == 0
    assert get(served, "/v2/models/tiny/config")[1]["model_transaction_policy"]["decoupled"]


def test_model_is_ready_until_it_is_unloaded_and_again_once_loaded(served):
    assert get(served, "/v2/models/echo/ready")[0] == 200
    assert post(served, "/v2/repository/models/echo/unload", {})[0] == 200
    status, value = get(served, "/v2/models/echo/ready")
    assert (status, "load it" in value["error"]) == (503, True)
    index = {row["name"]: row for row in post(served, "/v2/repository/index")[1]}
    assert (index["echo"]["state"], index["echo"]["reason"]) == ("UNAVAILABLE", "unloaded")
    ready = {row["name"] for row in post(served, "/v2/repository/index", {"ready": True})[1]}
    assert ready == {"tiny", "prod", "embedder"}
    assert post(served, "/v2/repository/models/echo/load", {})[0] == 200
    assert get(served, "/v2/models/echo/ready")[0] == 200
    assert served.node.inference.asked[-1] == ("load", "echo", None)


def test_model_is_not_loaded_with_parameters_or_files(served):
    given = {"parameters": {"config": "{}"}}
    status, value = post(served, "/v2/repository/models/echo/load", given)
    assert (status, "as it was published" in value["error"]) == (400, True)
    assert served.node.inference.loaded == {}


def test_statistics_of_one_model_of_all_and_of_one_never_loaded(served):
    assert get(served, "/v2/models/stats")[1] == {"model_stats": []}
    post(served, "/v2/repository/models/echo/load", {})
    (told,) = get(served, "/v2/models/stats")[1]["model_stats"]
    assert (told["name"], told["version"], told["inference_count"]) == ("echo", "ecececec", 2)
    assert told["inference_stats"]["fail"]["count"] == 1
    assert told["inference_stats"]["queue"] == {"count": 2, "ns": 30_000_000}
    assert told["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": 2**27}]
    (none,) = get(served, "/v2/models/tiny/stats")[1]["model_stats"]
    assert (none["name"], none["inference_count"]) == ("tiny", 0)


@pytest.mark.parametrize(
    "path",
    ["/v2/trace/setting", "/v2/models/echo/trace/setting", "/v2/logging",
     "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/r/register"],
)  # fmt: skip
def test_endpoints_that_are_left_out_say_so(served, path):
    for method in ("GET", "POST"):
        status, _, answer = served.request(method, path)
        assert (status, len(json.loads(answer)["error"]) > 20) == (501, True)
