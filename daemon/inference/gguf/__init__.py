"""Turns a Llama-architecture GGUF into an ONNX decoder directory, without torch.

``reading`` (container) → ``llama`` (shape), ``tokenizer`` → ``blocks``, ``linear``, ``embedding``,
``graph`` (operators) over ``weights`` (external data) → ``importing`` (the directory).
"""

from dreamer.daemon.inference.gguf.importing import ImportReport, import_gguf

__all__ = ["ImportReport", "import_gguf"]
