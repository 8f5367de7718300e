"""The Open Inference Protocol over gRPC, service ``inference.GRPCInferenceService``."""
