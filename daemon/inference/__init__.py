"""Running models: import, decoding, chat templates, and the worker processes that hold sessions.

``pool`` is the side that lives in dreamerd and stays light: everything that needs numpy, onnx or
ONNX Runtime is imported in a worker process (``worker``) or by the import command (``gguf``).
"""
