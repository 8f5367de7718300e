"""`dreamer import`: a Llama GGUF becomes a directory that any ONNX decoder tool can run.

The directory is made beside its final place and renamed at the end, so a failed import leaves
nothing behind and a finished one is whole.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.inference.gguf.graph import build_decoder
from dreamer.daemon.inference.gguf.llama import ARCHITECTURE, Llama, describe
from dreamer.daemon.inference.gguf.nodes import Nodes
from dreamer.daemon.inference.gguf.notice import write_notice
from dreamer.daemon.inference.gguf.reading import GgufFile, read_gguf
from dreamer.daemon.inference.gguf.tokenizer import Vocabulary, read_vocabulary
from dreamer.daemon.inference.gguf.weights import WeightFile
from dreamer.protocol.errors import InputError, LocalError

FORMAT = "onnx-decoder/1"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote: ``parameters`` counts weights, ``size_bytes`` the whole directory."""

    architecture: str
    parameters: int
    size_bytes: int
    files: int
    seconds: float


def import_gguf(source: Path, output: Path, progress: Progress) -> ImportReport:
    """Turn the Llama-architecture GGUF ``source`` into the new directory ``output``.

    ``progress(phase, done, total)`` hears of layers in the phase ``weights``. Blocking, for
    seconds; needs as much disk as the GGUF and a third more.

    Raises:
        InputError: not a GGUF, cut short, an architecture, tokenizer or tensor type that can't be
            imported, or ``output`` holds something.
        LocalError: the disk is full or ``output`` can't be written.
    """
    started = time.monotonic()
    file = read_gguf(source)
    llama = describe(file)
    vocabulary = read_vocabulary(file, llama.vocabulary)
    _refuse_taken(output)
    try:
        _write_beside(output, file, llama, vocabulary, source, progress)
        sizes = [path.stat().st_size for path in output.iterdir()]
    except OSError as error:
        raise _disk_error(error, output) from error
    return ImportReport(
        architecture=ARCHITECTURE,
        parameters=sum(tensor.rows * tensor.columns for tensor in file.tensors.values()),
        size_bytes=sum(sizes),
        files=len(sizes),
        seconds=time.monotonic() - started,
    )


def _refuse_taken(output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() or output.is_symlink():
        raise InputError(f"{output} exists already; name a new directory with --output")


def _write_beside(
    output: Path,
    file: GgufFile,
    llama: Llama,
    vocabulary: Vocabulary,
    source: Path,
    progress: Progress,
) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        partial.chmod(0o755)
        _write_graph(partial, file, llama, progress)
        vocabulary.tokenizer.save(str(partial / "tokenizer.json"))
        _write_json(partial / "tokenizer_config.json", _tokenizer_config(vocabulary))
        _write_json(partial / "config.json", _config(llama, vocabulary))
        write_notice(partial, file.metadata, source)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_graph(directory: Path, file: GgufFile, llama: Llama, progress: Progress) -> None:
    progress("weights", 0, llama.layers)
    with WeightFile(directory) as weights:
        model = build_decoder(
            file, llama, Nodes(weights), lambda layer: progress("weights", layer, llama.layers)
        )
    (directory / "model.onnx").write_bytes(model.SerializeToString())


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(llama: Llama, vocabulary: Vocabulary) -> dict[str, object]:
    """Return what Hugging Face tools call the model's configuration."""
    return {
        "dreamer_format": FORMAT,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "name": llama.name,
        "hidden_size": llama.hidden,
        "intermediate_size": llama.intermediate,
        "num_hidden_layers": llama.layers,
        "num_attention_heads": llama.heads,
        "num_key_value_heads": llama.kv_heads,
        "head_dim": llama.head_size,
        "vocab_size": llama.vocabulary,
        "max_position_embeddings": llama.context,
        "rms_norm_eps": llama.norm_epsilon,
        "rope_theta": llama.rope_base,
        "tie_word_embeddings": llama.tied,
        "bos_token_id": vocabulary.begin,
        "eos_token_id": list(vocabulary.ends),
        "use_cache": True,
    }


def _tokenizer_config(vocabulary: Vocabulary) -> dict[str, object]:
    begin, tokens = vocabulary.begin, vocabulary.tokens
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None if begin is None else tokens[begin],
        "eos_token": tokens[vocabulary.ends[0]] if vocabulary.ends else None,
        "clean_up_tokenization_spaces": False,
    }
    if vocabulary.chat_template is not None:
        config["chat_template"] = vocabulary.chat_template
    return config


def _disk_error(error: OSError, output: Path) -> LocalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LocalError(f"the disk of {output} is full; free some space and import again")
    return LocalError(f"can't write {output}: {error.strerror}; choose another --output")
