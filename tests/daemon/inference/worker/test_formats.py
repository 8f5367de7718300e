"""A graph that reaches outside its directory, or for foreign code, is never loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from dreamer.daemon.inference.worker.formats import inspect_graph
from dreamer.protocol.errors import ForbiddenError, InputError


def external(location: str, **where: int) -> TensorProto:
    tensor = TensorProto(name="w", dims=(4,), data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **where}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def write_graph(
    directory: Path, *nodes: onnx.NodeProto, weights: TensorProto | None = None
) -> None:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [output],
        [weights or external("w.data")],
    )
    (directory / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (directory / "w.data").write_bytes(bytes(16))


def test_plain_external_data_is_accepted(tmp_path: Path) -> None:
    write_graph(tmp_path, weights=external("w.data", offset=0, length=16))
    graph = inspect_graph(tmp_path)
    assert graph.data_files == ("w.data",)
    assert not graph.shares_cache


@pytest.mark.parametrize(
    "location",
    ["/etc/hostname", "../w.data", "a/../../w.data", "", "C:\\w.data", "..\\w.data", "w\0.data"],
)
def test_location_outside_the_directory_is_refused(tmp_path: Path, location: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "w.data").write_bytes(bytes(16))
    write_graph(model, weights=external(location))
    with pytest.raises(ForbiddenError, match="outside its directory"):
        inspect_graph(model)


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    write_graph(tmp_path, weights=external("link.data"))
    (tmp_path / "link.data").symlink_to(tmp_path / "w.data")
    with pytest.raises(ForbiddenError, match="symbolic link"):
        inspect_graph(tmp_path)


def test_pipe_in_place_of_weights_is_refused(tmp_path: Path) -> None:
    write_graph(tmp_path, weights=external("pipe"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a plain file"):
        inspect_graph(tmp_path)


@pytest.mark.parametrize("where", [{"offset": 8, "length": 16}, {"offset": -1}, {"length": -4}])
def test_weights_past_the_end_are_refused(tmp_path: Path, where: dict[str, int]) -> None:
    write_graph(tmp_path, weights=external("w.data", **where))
    with pytest.raises(InputError, match="damaged"):
        inspect_graph(tmp_path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    write_graph(tmp_path, weights=external("gone.data"))
    with pytest.raises(InputError, match="lacks its file"):
        inspect_graph(tmp_path)


def test_location_hidden_in_a_nested_graph_is_found(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["z"], value=external("/etc/hostname"))
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])
    branch = helper.make_graph([constant], "b", [], [output])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    write_graph(tmp_path, choice)
    with pytest.raises(ForbiddenError, match="outside its directory"):
        inspect_graph(tmp_path)


@pytest.mark.parametrize(
    ("operator", "domain"), [("Run", "evil.ops"), ("EPContext", "com.microsoft")]
)
def test_foreign_operator_is_refused(tmp_path: Path, operator: str, domain: str) -> None:
    write_graph(tmp_path, helper.make_node(operator, ["w"], ["y"], domain=domain))
    with pytest.raises(ForbiddenError, match="custom operators"):
        inspect_graph(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not protobuf at all", bytes(100)])
def test_damaged_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        inspect_graph(tmp_path)


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ForbiddenError, match="may run code"):
        inspect_graph(tmp_path)


@pytest.mark.parametrize("place", ["onnx/model.onnx", "encoder.onnx", "onnx/encoder.onnx"])
def test_graph_is_found_where_exporters_put_it(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    write_graph(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / place)
    (tmp_path / "w.data").rename((tmp_path / place).with_name("w.data"))
    assert inspect_graph(tmp_path).path == tmp_path / place


def test_several_graphs_are_not_guessed_among(tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        write_graph(tmp_path)
        (tmp_path / "model.onnx").rename(tmp_path / name)
    with pytest.raises(InputError, match=r"several graphs \(decoder\.onnx, encoder\.onnx\)"):
        inspect_graph(tmp_path)


def test_graph_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    write_graph(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(ForbiddenError, match="symbolic link"):
        inspect_graph(model)


def test_shape_of_terabytes_over_few_bytes_is_refused(tmp_path: Path) -> None:
    weights = TensorProto(name="w", dims=(1 << 40,), data_type=TensorProto.FLOAT)
    weights.raw_data = bytes(16)
    write_graph(tmp_path, weights=weights)
    with pytest.raises(InputError, match="values don't fill"):
        inspect_graph(tmp_path)


def test_external_shape_of_terabytes_is_refused(tmp_path: Path) -> None:
    weights = external("w.data")
    del weights.dims[:]
    weights.dims.extend((1 << 20, 1 << 20))
    write_graph(tmp_path, weights=weights)
    with pytest.raises(InputError, match="values don't fill"):
        inspect_graph(tmp_path)


def test_negative_size_is_refused(tmp_path: Path) -> None:
    weights = TensorProto(name="w", dims=(-1, -1), data_type=TensorProto.FLOAT)
    write_graph(tmp_path, weights=weights)
    with pytest.raises(InputError, match="values don't fill"):
        inspect_graph(tmp_path)


def test_sparse_weights_of_terabytes_are_refused(tmp_path: Path) -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [1 << 40])
    write_graph(tmp_path, helper.make_node("Constant", [], ["y"], sparse_value=sparse))
    with pytest.raises(InputError, match="values don't fill"):
        inspect_graph(tmp_path)


def test_graph_with_a_cache_is_a_decoder_and_others_are_not(
    tiny_model: Path, tmp_path: Path
) -> None:
    write_graph(tmp_path)
    assert inspect_graph(tiny_model).is_decoder
    assert not inspect_graph(tmp_path).is_decoder


def test_directory_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model\.onnx"):
        inspect_graph(tmp_path)


def test_imported_model_shares_its_cache(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "onnx")
    assert inspect_graph(tmp_path).shares_cache
