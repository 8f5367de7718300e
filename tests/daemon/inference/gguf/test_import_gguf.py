"""`import_gguf`: what it writes, what it refuses, and that a failure leaves nothing behind."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, NoReturn

import gguf
import onnx
import pytest
from tokenizers import Tokenizer

from dreamer.daemon.inference.gguf import ImportReport, import_gguf
from dreamer.daemon.inference.gguf.weights import WeightFile
from dreamer.protocol.errors import InputError, LocalError
from dreamer.simulations.tiny_model import SPECIAL, write_tiny_gguf


def ignore_progress(phase: str, done: int, total: int) -> None:
    pass


def import_to(source: Path, output: Path) -> ImportReport:
    return import_gguf(source, output, ignore_progress)


def assert_refused(source: Path, output: Path, words: str) -> None:
    """The import fails with these words, in one line, and nothing is left beside the source."""
    before = sorted(path.name for path in output.parent.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        import_to(source, output)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in output.parent.iterdir()) == before


def test_directory_holds_all_that_a_runner_needs(tiny_gguf: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "model"
    heard: list[tuple[str, int, int]] = []
    report = import_gguf(tiny_gguf, output, lambda *step: heard.append(step))
    assert {path.name for path in output.iterdir()} == {
        "NOTICE",
        "config.json",
        "model.onnx",
        "model.onnx.data",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert report.architecture == "llama"
    assert report.files == 6
    assert report.size_bytes == sum(path.stat().st_size for path in output.iterdir())
    assert heard == [("weights", 0, 2), ("weights", 1, 2), ("weights", 2, 2)]
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def test_configuration_describes_the_network(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["num_hidden_layers"] == 2
    assert config["num_attention_heads"] == 4
    assert config["num_key_value_heads"] == 2
    assert config["head_dim"] == 64
    assert config["max_position_embeddings"] == 512
    assert config["eos_token_id"] == [2, 0]
    assert "chat_template" in json.loads((tiny_model / "tokenizer_config.json").read_text())


def test_notice_names_the_source_and_its_licence(tiny_model: Path) -> None:
    notice = (tiny_model / "NOTICE").read_text()
    assert "tiny.gguf" in notice
    assert "cc0-1.0" in notice


def test_licence_beside_the_gguf_goes_along(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "model.gguf")
    (tmp_path / "LICENSE").write_text("Do as you please.")
    import_to(tmp_path / "model.gguf", tmp_path / "model")
    assert (tmp_path / "model" / "LICENSE").read_text() == "Do as you please."


def test_graph_has_the_names_and_operators_of_a_decoder(tiny_model: Path) -> None:
    graph = onnx.load_model(tiny_model / "model.onnx", load_external_data=False).graph
    inputs = [one.name for one in graph.input]
    assert inputs[:2] == ["input_ids", "attention_mask"]
    assert inputs[2:4] == ["past_key_values.0.key", "past_key_values.0.value"]
    assert [one.name for one in graph.output][:2] == ["logits", "present.0.key"]
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("GroupQueryAttention") == 2
    assert kinds.count("MatMulNBits") == 2 * 4 + 1


def test_tied_embedding_is_stored_once(tmp_path: Path, tiny_model: Path) -> None:
    write_tiny_gguf(tmp_path / "untied.gguf", tied=False)
    import_to(tmp_path / "untied.gguf", tmp_path / "untied")
    sizes = [
        (model / "model.onnx.data").stat().st_size for model in (tmp_path / "untied", tiny_model)
    ]
    assert sizes[0] - sizes[1] >= 270 * 256


def test_tokenizer_splits_digits_and_knows_special_tokens(tiny_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    encoding = tokenizer.encode("<|im_start|>the world 12", add_special_tokens=False)
    assert encoding.tokens == ["<|im_start|>", "t", "he", "Ġwor", "ld", "Ġ", "1", "2"]
    assert tokenizer.decode(encoding.ids) == "the world 12"
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2]


@pytest.mark.model
def test_token_ids_are_those_of_llama_cpp(smollm: Path) -> None:
    recorded = json.loads((Path(__file__).parent / "smollm_tokens.json").read_text())
    tokenizer = Tokenizer.from_file(str(smollm / "tokenizer.json"))
    for text, ids in recorded["cases"]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "missing.gguf", tmp_path / "model", "check the path")


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "not a GGUF file")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "not a GGUF file")


@pytest.mark.parametrize("kept", [4, 10, 24, 500, 5000, 100_000, -1])
def test_truncated_file_is_refused(tiny_gguf: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "model.gguf").write_bytes(tiny_gguf.read_bytes()[:kept])
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "cut short or damaged")


def test_absurd_counts_are_refused_at_once(tmp_path: Path) -> None:
    header = b"GGUF" + (3).to_bytes(4, "little") + (2**63).to_bytes(8, "little") * 2
    (tmp_path / "model.gguf").write_bytes(header + bytes(64))
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "cut short or damaged")


def test_old_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + (1).to_bytes(4, "little") + bytes(64))
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "GGUF version 1")


def test_unsupported_architecture_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "model.gguf", architecture="falcon")
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "architecture 'falcon'")


def test_unsupported_tensor_type_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "model.gguf", matrices=gguf.GGMLQuantizationType.TQ1_0)
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "has ggml type 34")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (b"llama.block_count", 2**31, "sizes don't fit"),
        (b"llama.context_length", 2**31, "sizes don't fit"),
        (b"llama.attention.head_count_kv", 3, "sizes don't fit"),
        (b"llama.attention.head_count", 0, "no usable llama.attention.head_count"),
        (b"llama.feed_forward_length", 256, "ffn_gate.weight is 512 × 256, not 256 × 256"),
        (b"llama.rope.dimension_count", 32, "rotate part of a head"),
    ],
)
def test_absurd_sizes_are_refused(
    tiny_gguf: Path, tmp_path: Path, key: bytes, value: int, words: str
) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    at = data.index(len(key).to_bytes(8, "little") + key) + 8 + len(key) + 4
    data[at : at + 4] = value.to_bytes(4, "little")
    (tmp_path / "model.gguf").write_bytes(data)
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", words)


def test_missing_tensor_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    renamed = tiny_gguf.read_bytes().replace(b"blk.1.ffn_down.weight", b"blk.7.ffn_down.weight")
    (tmp_path / "model.gguf").write_bytes(renamed)
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "lacks the tensor blk.1.ffn_down")


def test_unknown_tensor_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    fewer = tiny_gguf.read_bytes().replace(
        b"llama.block_count\x04\x00\x00\x00\x02", b"llama.block_count\x04\x00\x00\x00\x01"
    )
    (tmp_path / "model.gguf").write_bytes(fewer)
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "that a plain Llama lacks")


def test_other_tokenizer_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(tiny_gguf.read_bytes().replace(b"smollm", b"klingo"))
    assert_refused(tmp_path / "model.gguf", tmp_path / "model", "pre-tokenizer 'klingo'")


def test_output_that_holds_something_is_left_alone(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("precious")
    assert_refused(tiny_gguf, tmp_path / "model", "exists already")
    assert (tmp_path / "model" / "mine").read_text() == "precious"


def test_empty_output_directory_is_used(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert import_to(tiny_gguf, tmp_path / "model").files == 6


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "is full; free some space"), (errno.EIO, "choose another")]
)
def test_failing_disk_leaves_nothing_behind(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise OSError(number, "no")

    monkeypatch.setattr(WeightFile, "write", fail)
    with pytest.raises(LocalError, match=words):
        import_to(tiny_gguf, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
