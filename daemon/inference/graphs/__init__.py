"""Models that write no text: any ONNX graph on tensors, and sentence embeddings."""
