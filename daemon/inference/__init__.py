"""Running models: what is asked and answered, as it crosses processes, and a room for each side.

``pool`` lives in dreamerd and stays light. ``worker`` is the process that holds a model: ``batch``
decodes, ``answers`` turns conversations into tokens and logits into text, ``graphs`` runs
everything else. ``gguf`` imports. What needs numpy, onnx or ONNX Runtime is imported there only.
"""
