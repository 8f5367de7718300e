"""Models that others trained, through NVIDIA's client: the same numbers as without any of us."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton

pytestmark = [pytest.mark.interop, pytest.mark.model, pytest.mark.timeout(300)]

VARIABLE = "DREAMER_TEST_MODELS"


@pytest.fixture(scope="module")
def directory():
    given = os.environ.get(VARIABLE)
    if not given:
        pytest.skip(f"{VARIABLE} names no directory of models: run 'make models'")
    return Path(given)


@pytest.fixture
def client(models_node):
    with triton.InferenceServerClient(f"unix:{models_node.node.home}/run/grpc.sock") as one:
        yield one


def infer(client, model, name, datatype, value, **options):
    given = triton.InferInput(name, list(value.shape), datatype)
    given.set_data_from_numpy(value)
    return client.infer(model, [given], **options)


def test_magika_tells_a_files_type_as_it_does_by_itself(models_node, client, directory):
    models_node.publish(directory / "magika", "magika")
    session = onnxruntime.InferenceSession(
        directory / "magika" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (spec,), (wanted,) = session.get_inputs(), session.get_outputs()
    text = (b"import os\n\ndef main() -> None:\n    print(os.getcwd())\n" * 50)[:2048]
    value = np.frombuffer(text, np.uint8).astype(np.int32)[np.newaxis]
    told = client.get_model_metadata("magika")
    assert (told.inputs[0].name, told.inputs[0].datatype) == (spec.name, "INT32")
    again = infer(client, "magika", spec.name, "INT32", value).as_numpy(wanted.name)
    (alone,) = session.run([wanted.name], {spec.name: value})
    np.testing.assert_allclose(again, alone, atol=1e-5)
    assert again.shape == (1, 214)


def test_sentences_of_one_meaning_are_near_each_other(models_node, client, directory):
    models_node.publish(directory / "minilm", "minilm")
    texts = np.array([b"How old are you?", b"What is your age?", b"The train is late."], np.object_)
    vectors = infer(client, "minilm", "text_input", "BYTES", texts).as_numpy("embedding")
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_smollm2_goes_on_from_a_text(client, smollm2):
    texts = np.array([b"What is 2+2?"], np.object_)
    options = {"parameters": {"max_tokens": 24, "chat": True}}
    result = infer(client, smollm2, "text_input", "BYTES", texts, **options)
    assert b"4" in result.as_numpy("text_output")[0]
