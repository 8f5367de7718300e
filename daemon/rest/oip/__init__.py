"""The Open Inference Protocol over HTTP, with its binary extension, below ``/v2``."""
