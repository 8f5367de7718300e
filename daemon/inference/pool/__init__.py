"""The side that lives in dreamerd: which models are in memory, in which processes, and who waits.

Free of numpy, onnx and ONNX Runtime: dreamerd itself never loads them.
"""
