"""The Open Inference Protocol, version 2, apart from how it travels: REST and gRPC stand on it.

https://github.com/kserve/open-inference-protocol; statistics, the repository, the configuration and
binary tensors are extensions as NVIDIA's Triton server has them.
"""
