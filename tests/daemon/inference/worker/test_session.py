"""Whose fault it is that a model can't be loaded: the model's, or that of the machine."""

from __future__ import annotations

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.worker.session import load_failure
from dreamer.protocol.errors import InputError, LocalError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        state.RuntimeException(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
            "std::bad_alloc"
        ),
        state.Fail("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for a buffer"),
    ],
)
def test_model_that_found_no_room_is_not_called_a_bad_one(error: Exception) -> None:
    failure = load_failure("model.onnx", error, CPU)
    assert isinstance(failure, LocalError)
    assert "max_worker_memory_mib" in str(failure)


@pytest.mark.parametrize(
    "told",
    [
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "BFCArena: Available memory of 1 is smaller than requested bytes of 2",
    ],
)
def test_full_gpu_says_what_to_do_and_not_to_pull_again(told: str) -> None:
    failure = load_failure("model.onnx", state.Fail(told), "cuda:1")
    # Not the machine's fault, or the pool would give the GPU up.
    assert isinstance(failure, InputError)
    assert str(failure).startswith("cuda:1 has too little memory left to load model.onnx")
    assert "smaller model" in str(failure)
    assert "pull" not in str(failure)


def test_model_that_is_broken_is_to_be_pulled_again() -> None:
    failure = load_failure("model.onnx", state.InvalidProtobuf("Protobuf parsing failed."), CPU)
    assert isinstance(failure, InputError)
    assert "pull the model again" in str(failure)
